"""`megan demo`: makes a small clip, upscales it, and shows what came of it.

In: an empty or new folder. Out, in it:

    input.mp4     128x72 pixels, 12 frames a second: every second frame of the scene,
                  reduced as the benchmarks of the field do it
    output.mp4    512x288 pixels, 24 frames a second: what the network made of it
    strip.png     both side by side, at given moments and half-way between

The scene is drawn from formulas, so the true large frames are known and the result is
measured against them.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from keras_megan.quiet import start_keras_quietly
from keras_megan.video.compare import Box, strip, write_png
from keras_megan.video.demo_scene import draw_scene
from keras_megan.video.errors import VideoError, writing
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.models.runner import load_runner
from keras_megan.video.progress import choose_reporter, clock
from keras_megan.video.upscale import UpscaleOptions, upscale

WIDTH, HEIGHT, SCALE = 128, 72, 4
RATE = 12
_CROP = Box(0.08, 0.60, 0.225, 0.40)  # bricks, spokes and text
_SHOWN = (0.25, 0.55, 0.85)  # moments in the picture, as shares of the clip


def demo(folder: Path, model: str, num_frames: int = 13) -> list[str]:
    """Makes the demonstration.

    Args:
        folder: Where to put the files; made if it does not exist. Earlier results of
            the demonstration are replaced.
        model: As for `load_runner`.
        num_frames: Frames of the input clip, at least 2.

    Returns:
        Three lines that say what happened.

    Raises:
        VideoError: If the folder cannot be written or the model not be loaded.
    """
    start_keras_quietly()
    from keras_megan.imaging.resize import imresize, trilinear_upsample
    from keras_megan.metrics import luma_psnr

    if num_frames < 2:
        raise VideoError(f"--frames must be at least 2. Received: {num_frames}")
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("input.mp4", "output.mp4", "strip.png")]
    runner = load_runner(model)
    truth = [
        draw_scene(index / (2 * RATE), WIDTH * SCALE, HEIGHT * SCALE)
        for index in range(2 * num_frames - 1)
    ]
    small = [imresize(image, 1 / SCALE) for image in truth[::2]]
    with writing(paths[0]):
        write_clip(paths[0], small, RATE)
    reporter = choose_reporter(as_json=False)
    options = UpscaleOptions(force=True, restart=True, crf=12)
    try:
        summary = upscale(paths[0], paths[1], runner, options, reporter)
    finally:
        reporter.close()
    given = [frame.image for frame in open_clip(paths[0]).frames()]
    made = [frame.image for frame in open_clip(paths[1]).frames()]
    plain = trilinear_upsample(np.stack(given).astype(np.float32) / 255, SCALE)
    rows = []
    for share in _SHOWN:
        index = min(len(made) - 1, round(share * len(made)))
        rows.append((given[index // 2], made[index], Fraction(index, 2 * RATE)))
    write_png(paths[2], strip(rows, _CROP, ("input", runner.name)))
    quality = float(np.mean(luma_psnr(np.stack(truth), np.stack(made))))
    baseline = float(np.mean(luma_psnr(np.stack(truth) / np.float32(255), plain)))
    return [
        f"{len(given)} frames of {WIDTH}x{HEIGHT} at {RATE} frames/s became "
        f"{len(made)} of {summary.width}x{summary.height} at {2 * RATE} frames/s in "
        f"{clock(summary.seconds)} ({summary.frames_out / summary.seconds:.1f} "
        "frames/s).",
        f"Against the true frames, Y-PSNR: {quality:.2f} dB with {runner.name}, "
        f"{baseline:.2f} dB by trilinear interpolation.",
        f"Look at {paths[2]}; play {paths[0]} and {paths[1]}.",
    ]


def write_clip(path: Path, images: list[np.ndarray], rate: int) -> None:
    """Encodes uint8 RGB images as a nearly lossless H.264 file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "4"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
