"""How much longer does upscaling a file take than the bare network?

    python -m benchmarks.video.upscale_overhead [--model megan_edge] [--size 256x256]

Runs the network alone on as many windows as the clip has, then the whole job: decoding,
scene cuts, tiles, rounding, encoding, writing, assembling. Prints a table and writes
JSON. Both are measured after the network is compiled, in turns, and the fastest round
of each counts; the spread of the rounds says how quiet the machine was.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from keras_megan.files import write_json
from keras_megan.video.demo import write_clip
from keras_megan.video.demo_scene import draw_scene
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.models.runner import load_runner
from keras_megan.video.upscale import UpscaleOptions, upscale
from keras_megan.video.windows import plan_windows


def bare_seconds(runner, images: list[np.ndarray]) -> float:
    """Seconds for the network alone on all windows of the clip."""
    windows = plan_windows(len(images), runner.frames_in)
    began = time.perf_counter()
    for window in windows:
        runner(np.stack([images[index] for index in window.items]))
    return time.perf_counter() - began


def measure(model: str, width: int, height: int, num_frames: int, rounds: int) -> dict:
    """Runs both and returns the numbers."""
    runner = load_runner(model)
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "in.mp4"), Path(folder, "out.mp4")
        scene = [draw_scene(i / 24, width, height) for i in range(num_frames)]
        write_clip(source, scene, 24)
        images = [frame.image for frame in open_clip(source).frames()]
        options = UpscaleOptions(tile=0, force=True)
        runner(np.stack(images[: runner.frames_in]))  # compiles
        bare, jobs = [], []
        for _ in range(rounds):
            bare.append(bare_seconds(runner, images))
            summary = upscale(source, output, runner, options)
            # The job tries one tile before it starts; the bare network does not.
            share = len(plan_windows(num_frames, runner.frames_in))
            jobs.append(summary.seconds - bare[-1] / share)
    return {
        "model": model,
        "input": f"{num_frames} frames of {width}x{height}",
        "output": f"{summary.frames_out} frames of {summary.width}x{summary.height}",
        "bare network (s)": round(min(bare), 2),
        "whole job (s)": round(min(jobs), 2),
        "overhead (%)": round(100 * (min(jobs) / min(bare) - 1), 1),
        "output frames/s": round(summary.frames_out / min(jobs), 2),
        "spread of the bare network (%)": round(100 * (max(bare) / min(bare) - 1), 1),
        "machine": f"{platform.machine()}, {platform.system()}",
    }


def main() -> None:
    """Parses the command line, prints the table, writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="megan_edge")
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", default="upscale_overhead.json")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    facts = measure(arguments.model, width, height, arguments.frames, arguments.rounds)
    longest = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{longest}}  {value}")
    write_json(Path(arguments.output), facts)


if __name__ == "__main__":
    main()
