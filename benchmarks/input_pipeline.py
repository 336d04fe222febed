"""How many training samples one core makes per second, and where the time goes.

    python -m benchmarks.input_pipeline [--data SHARDS] [--crop 128] [--output FILE]

Without --data it makes moving noise of 640x360. Prints a table and writes JSON:

    cut          7 frames' crop out of the cache, augmented
    sample       and the reduced frames made of it: what training gets
    tf.data      batches of 8 from the pipeline that feeds the training step
    PyDataset    batches of 8 as `model.fit` takes them

Clips per second per core: divided by the processor time used, not by the clock.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import training  # noqa: F401  its settings for numpy come before numpy
from keras_megan.files import write_json

# isort: split
import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from training.data.cache import ClipCache
from training.data.pipeline import BatchShape, make_dataset
from training.data.pydataset import ClipSequence
from training.data.sampling import Sampler, SamplingSettings, generator
from training.prepare import PrepareSettings, prepare

BATCH = 8


def made_up_shards(folder: Path) -> Path:
    """Shards of four clips of moving noise, 640x360."""
    random = np.random.default_rng(0)
    for name in "abcd":
        scene = random.integers(0, 256, (360, 720, 3), dtype=np.uint8)
        scene = cv2.GaussianBlur(scene, (0, 0), 2.0)
        (folder / "videos" / name).mkdir(parents=True)
        for index in range(21):
            frame = scene[:, 3 * index : 3 * index + 640]
            cv2.imwrite(str(folder / "videos" / name / f"{index:02d}.png"), frame)
    settings = PrepareSettings(str(folder / "videos"), str(folder / "shards"))
    prepare(settings, Console(quiet=True))
    return folder / "shards"


def timed(make, count: int) -> dict[str, float]:
    """Clips per second of ``make``, an iterable of how many clips each item holds."""
    iterator = iter(make)
    next(iterator)  # whatever is done once
    clips, wall, used = 0, time.perf_counter(), time.process_time()
    while clips < count:
        clips += next(iterator)
    wall, used = time.perf_counter() - wall, time.process_time() - used
    return {"clips_per_second": clips / wall, "per_core": clips / used}


def measure(sampler: Sampler, count: int) -> dict[str, dict[str, float]]:
    """All rows of the table."""

    def cuts():
        for number in range(10**9):
            clip = sampler.cache[int(sampler.clips[number % len(sampler.clips)])]
            np.array(sampler.cut(clip, generator(0, number)))
            yield 1

    def samples():
        for number in range(10**9):
            sampler.sample(number)
            yield 1

    def batches():
        steps = count // BATCH + 50
        for _ in make_dataset(sampler.sample, BatchShape(BATCH), 0, steps):
            yield BATCH

    def sequence():
        pairs = ClipSequence(sampler, BATCH, 10**6)
        for index in range(len(pairs)):
            pairs[index]
            yield BATCH

    rows = {
        "cut": cuts(),
        "sample": samples(),
        "tf.data": batches(),
        "PyDataset": sequence(),
    }
    return {name: timed(make, count) for name, make in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="shards; made up if not given")
    parser.add_argument("--crop", type=int, default=128, help="side of the crops")
    parser.add_argument("--clips", type=int, default=400, help="measured per row")
    parser.add_argument("--output", type=Path, default=Path("input_pipeline.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or made_up_shards(Path(folder))
        sampler = Sampler(ClipCache(data), SamplingSettings(crop=options.crop))
        results = measure(sampler, options.clips)
    table = Table(title=f"7 frames of {options.crop}x{options.crop}")
    for column in ("", "clips/s", "clips/s per core"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in results.items():
        table.add_row(name, f"{row['clips_per_second']:.0f}", f"{row['per_core']:.0f}")
    Console().print(table)
    write_json(options.output, {"crop": options.crop, "results": results})
    print(json.dumps({name: round(row["per_core"]) for name, row in results.items()}))


if __name__ == "__main__":
    main()
