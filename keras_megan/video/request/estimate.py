"""What a job will do, how long it will take and how large it will be, from one window.

The first window is read, computed twice (the first call also compiles and warms up) and
encoded. The time of one tile times the number of tiles and windows, and the size of the
first and of the other encoded frames, give the rest. So the numbers are those of this
machine, this clip and these settings; what follows the first window may be calmer or
wilder than it.
"""

import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_megan.video.errors import VideoError
from keras_megan.video.io.opening import open_input
from keras_megan.video.io.writing.segments import encoder_for
from keras_megan.video.jobs.journal import SEGMENT_FRAMES
from keras_megan.video.models.runner import Runner
from keras_megan.video.request.size import resizer
from keras_megan.video.tiles import TiledRunner, settle_tile
from keras_megan.video.upscale import Job


@dataclass(frozen=True)
class Estimate:
    """What a job comes to.

    Attributes:
        frames_in, frames_out: Frames, about.
        width, height: Size of the result in pixels.
        fps: Frames per second of the result, on average.
        tiles, tile: Tiles of each frame, and "WxH" of one.
        seconds: Time in the network and the encoder.
        size: Bytes of the result's pictures.
    """

    frames_in: int
    frames_out: int
    width: int
    height: int
    fps: float
    tiles: int
    tile: str
    seconds: float
    size: int


def estimate(job: Job, runner: Runner) -> Estimate:
    """Tries a job on its first window; writes nothing but a passing file.

    Args:
        job: What `check_job` found possible.
        runner: What computes.

    Raises:
        VideoError: If the job cannot be done after all.
    """
    info, options = job.clip.info, job.options
    width, height = job.output_size(runner)
    taken = itertools.islice(
        job.clip.frames(options.start, options.end), runner.frames_in
    )
    images = [frame.image for frame in taken]
    if not images:
        raise VideoError("There is no frame between --start and --end.")
    images += images[-1:] * (runner.frames_in - len(images))
    try:
        tile = settle_tile(runner, info.height, info.width, options.tile)
        tiled = TiledRunner(runner, info.height, info.width, tile)
    except ValueError as error:
        raise VideoError(str(error)) from error
    frames = np.stack(images)
    tiled(frames)
    began = time.monotonic()
    result = tiled(frames)
    per_window = time.monotonic() - began
    began = time.monotonic()
    resize = resizer(width, height)
    first, other = _encoded_sizes(job, [resize(image) for image in result])
    per_frame = (time.monotonic() - began) / len(result)

    given, frames_out = job.expected_frames()
    windows = max(1, -(-(given - 1) // (runner.frames_in - 1)))
    calls = max(1, -(-frames_out // given) - 1)  # each makes one frame for a gap
    segments = -(-frames_out // SEGMENT_FRAMES)
    return Estimate(
        frames_in=given,
        frames_out=frames_out,
        width=width,
        height=height,
        fps=float(job.rate.frames_per_second(info.rate)),
        tiles=tiled.num_tiles,
        tile=f"{tiled.columns.size}x{tiled.rows.size}",
        seconds=max(windows * calls * per_window, frames_out * per_frame),
        size=round(segments * first + (frames_out - segments) * other),
    )


def _encoded_sizes(job: Job, images: list[np.ndarray]) -> tuple[float, float]:
    """Bytes of the first and, on average, of each other frame of a segment."""
    with tempfile.TemporaryDirectory(prefix="megan-") as folder:
        path = Path(folder) / f"trial{job.output.suffix.lower()}"
        encoder = encoder_for(job.clip.info, job.codec, job.options.crf)(path)
        for index, image in enumerate(images):
            encoder.write(image, index)
        encoder.close()
        if job.codec is None:
            sizes = [file.stat().st_size for file in sorted(path.iterdir())]
        else:
            with open_input(path) as container:
                sizes = [p.size for p in container.demux(video=0) if p.size]
    others = sizes[1:] or sizes
    return float(sizes[0]), sum(others) / len(others)
