"""One worker's share of the preparation: some sources into one shard.

In: the path of a shard and the sources that go into it. Out: the shard, its JSON, and
one record per source: name, group, licence, frames read and kept, clips, divisions by
cause, and the error where it could not be read. A damaged source costs only itself.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from keras_megan.imaging.find import ClipSource
from keras_megan.imaging.resize import area_downscale
from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import open_clip
from training.data.cutting import Segmenter, SegmentSettings
from training.data.sources import Source
from training.evaluation.clips import downscale_factor


def convert_unit(
    path: str,
    sources: list[Source],
    downscale: str,
    codec: str,
    settings: SegmentSettings,
) -> list[dict]:
    """Writes the shard ``path`` from ``sources``; returns one record per source.

    Args:
        path: Path of the ``.tfrecord`` file.
        sources: In order.
        downscale: "auto" or a whole number; the sources' own factors come first.
        codec: A key of `training.data.shards.CODECS`.
        settings: What makes a clip.

    Raises:
        TrainingError: If the shard cannot be written.
    """
    from training.data.shards import encode_clip, write_shard

    records: list[dict] = []

    def clips():
        for source in sources:
            segmenter = Segmenter(settings, frozenset(source.cuts))
            record = {
                "name": source.name,
                "group": source.group,
                "licence": source.licence,
                "clips": 0,
                "error": "",
            }
            try:
                for start, frames, motion in segmenter.clips(
                    _frames(source, downscale)
                ):
                    record["clips"] += 1
                    yield encode_clip(
                        frames,
                        codec,
                        start=start,
                        motion=motion,
                        source=source.name,
                        group=source.group,
                    )
            except VideoError as error:
                record["error"] = str(error)
            records.append({**record, **asdict(segmenter.counts)})

    write_shard(Path(path), clips(), lambda: {"sources": records})
    return records


def _frames(source: Source, downscale: str):
    clip = open_clip(source.path)
    factor = source.downscale or _factor(source, clip.info, downscale)
    for frame in clip.frames():
        # Even sides, so that the footage can be encoded again for a look at it.
        image = area_downscale(frame.image, int(factor))
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
        yield np.ascontiguousarray(image[:height, :width])


def _factor(source: Source, info, downscale: str) -> int:
    if downscale != "auto":
        return int(downscale)
    lines = min(info.height, info.width)
    return downscale_factor(ClipSource(source.name, Path(source.path)), lines, "auto")
