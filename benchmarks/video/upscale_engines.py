"""How fast a preset upscales on LiteRT and on Keras, side by side on this computer.

    python -m benchmarks.video.upscale_engines --preset megan_edge --size 320x180

Both engines compute the same window of the drawn scene in turn, a few times each, so
that whatever else the computer does falls on both. Each runs as `megan upscale` would
run it: LiteRT on the tiles that fit the size best, one for each CPU at the same time;
Keras on the largest tile that memory allows. Prints output frames per second, the
median of the pairs' ratios, and how far the results differ. Decoding and encoding are
left out.
"""

import argparse
import statistics
import time

import numpy as np

from keras_megan.imaging.resize import imresize
from keras_megan.metrics import luma_psnr
from keras_megan.video.demo_scene import draw_scene
from keras_megan.video.models.engines import find_model
from keras_megan.video.tiles import TiledRunner, choose_tile

RATE = 12


def measure(preset: str, width: int, height: int, precision: str, pairs: int) -> str:
    """Runs both engines in turn; one line about them."""
    tiled = {}
    for engine in ("litert", "keras"):
        runner = find_model(preset, engine, precision).load()
        if hasattr(runner, "for_size"):
            runner = runner.for_size(height, width)
        tile = choose_tile(runner, height, width)
        tiled[engine] = TiledRunner(runner, height, width, tile)
    count = tiled["keras"].runner.frames_in
    scene = [draw_scene(i / RATE, 4 * width, 4 * height) for i in range(count)]
    window = np.stack([imresize(image, 0.25) for image in scene])
    results = {engine: run(window) for engine, run in tiled.items()}  # compiles
    seconds = {engine: [] for engine in tiled}
    for _ in range(pairs):
        for engine, run in tiled.items():
            began = time.perf_counter()
            run(window)
            seconds[engine].append(time.perf_counter() - began)
    frames = 2 * (count - 1)  # new ones of each window: windows share a frame
    rates = {e: frames / statistics.median(times) for e, times in seconds.items()}
    ratios = [k / t for t, k in zip(seconds["litert"], seconds["keras"], strict=True)]
    agreement = float(np.mean(luma_psnr(results["keras"], results["litert"])))
    speeds = [
        f"{engine} {rates[engine]:.1f} frames/s ({run.num_tiles} tiles)"
        for engine, run in tiled.items()
    ]
    return (
        f"{preset} {precision}, {width}x{height}: {', '.join(speeds)}, "
        f"{statistics.median(ratios):.2f} times as fast; "
        f"{agreement:.1f} dB between them"
    )


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="megan_edge")
    parser.add_argument("--size", default="320x180", help="size of the input, WxH")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    print(measure(given.preset, width, height, given.precision, given.pairs))


if __name__ == "__main__":
    main()
