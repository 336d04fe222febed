"""From videos to training samples: sources, clips, shards, cache, sampler, pipeline."""
