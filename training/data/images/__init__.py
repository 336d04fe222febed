"""Images of classifiers: decoding, the layouts they are published in, batches."""
