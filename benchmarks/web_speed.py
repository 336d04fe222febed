"""How fast is a network in the browser, beside LiteRT on the same machine's CPU?

    python -m benchmarks.web_speed exported/megan_nano_112x64_gpu_fp32.tflite \
        [--rounds 3] [--windows 5] [--webgpu] [--out web_speed.json]

Runs files that `export.convert --target web` made: on LiteRT's CPU runtime with one
thread and with all, in headless Chromium as WebAssembly and, if asked, on WebGPU. All
take turns in every round, so that a busy machine slows all of them alike; the first
window of a browser is left out, because shaders are compiled in it. Time is that of the
network on one window, with its input and output in memory; decoding and saving come on
top. Frames count all that a window gives.

Where WebGPU is a software adapter its time says nothing about a GPU, and the table says
that it is one.
"""

import platform
import statistics
from pathlib import Path

import numpy as np
from absl import app, flags
from rich.console import Console
from rich.table import Table

from export.build.flatbuffer import read_graph
from export.errors import ExportError, saving
from export.verify.browser import run_in_browser
from export.verify.runtime import time_on_cpu
from keras_megan.errors import run_program
from keras_megan.files import write_json
from keras_megan.video.models.litert_runner import available_cpus

_SOFTWARE = ("swiftshader", "llvmpipe", "lavapipe")


def measure(path: Path, rounds: int, windows: int, webgpu: bool) -> list[dict]:
    """Times one file everywhere.

    Args:
        path: A file with one clip as input.
        rounds: How often all take turns.
        windows: Windows that each browser computes in each round, besides the first.
        webgpu: Whether WebGPU takes part.

    Returns:
        A row for each place: where, seconds of one window, frames a second, a note.

    Raises:
        ExportError: If the file cannot be read, or does not run in the browser.
    """
    graph = read_graph(path)
    rng = np.random.default_rng(0)
    inputs = [rng.random(graph.inputs[0].shape, np.float32) for _ in range(windows + 1)]
    threads = sorted({1, available_cpus()})
    browsers = ["wasm", "webgpu"] if webgpu else ["wasm"]
    times: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    for _ in range(rounds):
        for count in threads:
            name = f"LiteRT, {count} thread{'s' if count > 1 else ''}"
            times.setdefault(name, []).append(time_on_cpu(path, inputs[:1], count))
        for accelerator in browsers:
            run = run_in_browser(path, inputs, accelerator)
            if run.status != "done" or run.console:
                why = run.message or "; ".join(run.console)
                raise ExportError(f"'{path}' does not run on {accelerator}: {why}")
            name = f"Chromium, {accelerator}"
            times.setdefault(name, []).append(statistics.median(run.seconds[1:]))
            if any(software in run.adapter for software in _SOFTWARE):
                notes[name] = f"{run.adapter}: software, says nothing about a GPU"
    frames = graph.outputs[0].shape[0]
    rows = []
    for name, found in times.items():
        seconds = statistics.median(found)
        rows.append(
            {
                "file": path.name,
                "where": name,
                "seconds": seconds,
                "frames_per_second": frames / seconds,
                "note": notes.get(name, ""),
            }
        )
    return rows


def _main(files: list[str]) -> int:
    given, console = flags.FLAGS, Console()
    if not files or min(given.rounds, given.windows) < 1:
        raise ExportError(
            "Give at least one .tflite file, one round and one window, for example: "
            "python -m benchmarks.web_speed FILE.tflite"
        )
    rows = []
    for file in files:
        rows += measure(Path(file), given.rounds, given.windows, given.webgpu)
    table = Table("file", "where", "one window", "frames/s", "note")
    for row in rows:
        table.add_row(
            row["file"],
            row["where"],
            f"{1e3 * row['seconds']:.0f} ms",
            f"{row['frames_per_second']:.1f}",
            row["note"],
        )
    console.print(table)
    if given.out:
        document = {
            "machine": platform.machine(),
            "cpus": available_cpus(),
            "rounds": given.rounds,
            "rows": rows,
        }
        with saving(Path(given.out)):
            write_json(Path(given.out), document)
    return 0


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 3, "How often all take turns.")
    flags.DEFINE_integer("windows", 5, "Timed windows of each browser in a round.")
    flags.DEFINE_bool("webgpu", False, "Whether WebGPU takes part.")
    flags.DEFINE_string("out", None, "A JSON file for the result.")
    app.run(lambda argv: run_program("web_speed", lambda: _main(argv[1:])))
