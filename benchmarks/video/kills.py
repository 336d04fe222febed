"""Is the result the same, whenever a job is killed? kill -9 at random moments.

    python -m benchmarks.video.kills --kills 20 --seed 1
    python -m benchmarks.video.kills --kills 20 --ray

Starts `megan upscale` on a drawn clip with sound, kills it without warning at a random
moment of its running time, starts the same command again, lets it finish, and compares
the result with that of a run without interruption, byte for byte. A tiny network stands
in for the real one, so that most moments lie in reading, encoding and joining. With
`--ray` two workers compute, and the driver is killed.

Prints a line for each kill and a table; 1 is returned if a result was lost or differs.
"""

import argparse
import collections
import random
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.video.containers import RATE, write_tone
from keras_megan.video.jobs.journal import remove, work_folder
from keras_megan.video.models.artefact import ArtefactInfo, with_info

FRAMES, HEIGHT, WIDTH = 400, 48, 64
_ROOT = Path(__file__).parents[2]


def make_network(path: Path) -> None:
    """Writes a file for LiteRT that repeats pixels and averages in time."""
    import tensorflow as tf

    def forward(frames):
        large = tf.repeat(tf.repeat(frames, 4, axis=1), 4, axis=2)
        between = (large[1:] + large[:-1]) * 0.5
        return tf.concat(
            [tf.reshape(tf.stack([large[:-1], between], 1), (6, *large.shape[1:])),
             large[-1:]],
            0,
        )  # fmt: skip

    shape = (4, HEIGHT, WIDTH, 3)
    traced = tf.function(forward, input_signature=[tf.TensorSpec(shape, tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [traced.get_concrete_function()], tf.Module()
    )
    kind = "float32"
    info = ArtefactInfo("repeat", "1", 4, 7, 4, HEIGHT, WIDTH, kind, kind, kind)
    path.write_bytes(with_info(converter.convert(), info))


def make_clip(path: Path) -> None:
    """Writes a moving pattern with a tone."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        track = container.add_stream("aac", rate=44100, layout="stereo")
        for index in range(FRAMES):
            waves = [np.sin((x + index) / 9), np.cos((y - index) / 7), np.sin(x / 5)]
            image = np.stack([110 + 70 * wave for wave in waves], -1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        write_tone(container, track, 44100, "stereo")


def start(folder: Path, output: str, options: list[str]) -> subprocess.Popen:
    """`megan upscale` in a process of its own."""
    command = [sys.executable, "-m", "keras_megan", "upscale", folder / "in.mp4"]
    command += ["-o", folder / output, "--model", folder / "repeat.tflite", "--quiet"]
    return subprocess.Popen(
        [*map(str, command), *options],
        cwd=_ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Waits; what it said if it failed, else ""."""
    _, said = process.communicate()
    return "" if process.returncode == 0 else f"exit {process.returncode}: {said}"


def try_kill(folder: Path, chooser: random.Random, seconds: float, options) -> str:
    """One kill and the run after it. Returns "same" or what went wrong."""
    output = folder / "out.mp4"
    process = start(folder, output.name, options)
    time.sleep(chooser.uniform(0, seconds))
    process.kill()
    process.communicate()
    done = len(list(work_folder(output).glob("segment_*.json")))
    state = "after its end" if output.exists() else f"with {done} segments"
    if not output.exists():
        failure = finish(start(folder, output.name, options))
        if failure:
            return failure
    same = output.read_bytes() == (folder / "whole.mp4").read_bytes()
    outcome = "same" if same else "differs"
    output.unlink()
    if work_folder(output).exists():  # killed between the last rename and tidying up
        remove(work_folder(output))
        outcome += ", the work folder was left"
    print(f"killed {state}: {outcome}", flush=True)
    return outcome


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true", help="with two workers of Ray")
    parsed = parser.parse_args(arguments)
    options = ["--ray", "--workers", "2"] if parsed.ray else []
    chooser = random.Random(parsed.seed)
    outcomes: collections.Counter = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_network(folder / "repeat.tflite")
        make_clip(folder / "in.mp4")
        # Without workers: theirs has to be the same.
        failure = finish(start(folder, "whole.mp4", []))
        if failure:
            print(failure)
            return 1
        began = time.monotonic()
        failure = finish(start(folder, "timed.mp4", options))
        if failure:
            print(failure)
            return 1
        seconds = time.monotonic() - began
        for _ in range(parsed.kills):
            outcomes[try_kill(folder, chooser, seconds, options)] += 1
    print(f"{parsed.kills} kills, seed {parsed.seed}: {dict(outcomes)}")
    return 0 if all(outcome.startswith("same") for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
