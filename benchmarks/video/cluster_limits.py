"""What limits many workers: reading in each of them, and joining in one.

    python -m benchmarks.video.cluster_limits --size 320x180 --rate 10

Draws a clip and measures, in seconds of one CPU, so that it does not matter what else
the computer does: how fast a clip is read (decoded, searched for cuts, cut into
windows), which the driver does once before segments are handed out and every worker
does up to its last segment; how fast results are encoded; how fast segments are joined;
how large they are. From that, and from the input frames a second that one worker
computes (`--rate`), follows how many times as fast W workers are:

    seconds(W) = frames / reading + max(frames / reading, frames / (W * rate))
                 + frames / joining
"""

import argparse
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.video.containers import Repeat
from keras_megan.video.demo_scene import draw_scene
from keras_megan.video.io.writing.assemble import assemble_video
from keras_megan.video.io.writing.segments import VideoEncoder
from keras_megan.video.jobs.journal import SEGMENT_FRAMES, Segment
from keras_megan.video.jobs.schedule import Plan
from keras_megan.video.upscale import UpscaleOptions, check_job

WORKERS = (1, 2, 4, 8, 16, 32, 100)
_DRAWN = 24  # frames; the clip goes through them forwards and backwards


def draw(path: Path, width: int, height: int, frames: int) -> None:
    """Writes a clip."""
    scene = [draw_scene(index / 12, width, height) for index in range(_DRAWN)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            turn = index % (2 * _DRAWN - 2)
            image = scene[min(turn, 2 * _DRAWN - 2 - turn)]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def measure(width: int, height: int, frames: int) -> tuple[float, float, float, float]:
    """Input frames a second read, encoded and joined; bytes of a segment."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "in.mp4", width, height, frames)
        options = UpscaleOptions()
        job = check_job(folder / "in.mp4", folder / "out.mp4", options)
        began = time.process_time()
        plan = Plan(job.clip.frames(), options.scene_threshold, 4, job.rate)
        for _ in plan.tasks():
            pass
        reading = frames / (time.process_time() - began)

        path = folder / "segment.mp4"
        encoder = VideoEncoder(path, job.clip.info, job.codec, None)
        window = np.stack([draw_scene(i / 12, width, height) for i in range(4)])
        results = (Repeat().run(window) * 255).astype(np.uint8)
        began = time.process_time()
        for index in range(SEGMENT_FRAMES):
            encoder.write(results[index % 7], index)
        delay = encoder.close()
        encoding = SEGMENT_FRAMES / 2 / (time.process_time() - began)

        count = 20
        ticks = tuple(range(SEGMENT_FRAMES))
        segments = [
            Segment(
                n * SEGMENT_FRAMES, tuple(n * SEGMENT_FRAMES + t for t in ticks), delay
            )
            for n in range(count)
        ]
        began = time.process_time()
        assemble_video(
            [(path, segment) for segment in segments],
            Fraction(1, 50),
            count * SEGMENT_FRAMES,
            folder / "joined.mp4",
        )
        joining = count * SEGMENT_FRAMES / 2 / (time.process_time() - began)
        return reading, encoding, joining, path.stat().st_size


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="320x180", help="size of the input, WxH")
    parser.add_argument("--rate", type=float, default=10, help="frames/s of a worker")
    parser.add_argument("--frames", type=int, default=300)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    reading, encoding, joining, size = measure(width, height, given.frames)
    print(
        f"{given.size}: {reading:.0f} input frames/s read, {encoding:.0f} encoded, "
        f"{joining:.0f} joined; {size / 1e6:.2f} MB a segment"
    )
    one = 1 / given.rate
    for workers in WORKERS:
        share = max(1 / reading, one / workers)
        seconds = 1 / reading + share + 1 / joining
        print(f"{workers:4} workers: {one / seconds:5.1f} times one worker alone")


if __name__ == "__main__":
    main()
