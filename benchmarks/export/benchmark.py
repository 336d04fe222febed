"""How fast, how large, how good: artefacts side by side in one run.

    python -m benchmarks.export.benchmark edge_fp32.tflite edge_int8.tflite \
        --threads 1,2 --keras megan_edge --minterpolate --clip CLIP --out benchmark.json

Every `.tflite` file runs on LiteRT with every number of threads; beside them the Keras
model at the same sizes, and FFmpeg's motion-compensated `minterpolate` with bicubic
enlargement. All are loaded at once, each in a process of its own (`contenders`), and
take turns, in another order each round, so that whatever else the machine does hits all
alike. Seconds differ from machine to machine and hour to hour: trust the ratios, which
are taken round by round against the first row.

Quality is luma PSNR against the frames of the clip, every second of which was reduced
four times to be the input; without ``--clip`` the scene of `megan demo` is drawn.
``--profile`` adds each file's time by type of operation (`operation_times`).
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from absl import app, flags
from rich.console import Console

from benchmarks.export.contenders import CHAINS, SCALE, SMALLEST_SIDE
from benchmarks.export.report import (
    Row,
    legend,
    operations_table,
    psnr_of_halves,
    results_table,
)
from export.build.footage import load_footage
from export.errors import ExportError, saving
from keras_megan.errors import run_program
from keras_megan.files import write_json
from keras_megan.imaging.resize import imresize
from keras_megan.video.models.artefact import read_info
from keras_megan.video.models.litert_runner import available_cpus

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        files: `.tflite` files, at least one.
        threads: Numbers of threads for each file; the others run with the largest.
        keras: Preset name, preset folder or ``.keras`` file; None: none.
        minterpolate: Whether FFmpeg's filters take part.
        clip: Video file or folder of frames; None: the drawn scene.
        rounds: How often everything is timed.
        profile: Whether to time each file's operations.
        out: The JSON file to write.
    """

    files: tuple[Path, ...]
    threads: tuple[int, ...]
    keras: str | None = None
    minterpolate: bool = False
    clip: str | None = None
    rounds: int = 10
    profile: bool = False
    out: Path = Path("benchmark.json")


def benchmark(settings: Settings, console: Console | None = None) -> dict:
    """Measures, prints tables and writes the JSON file.

    Returns:
        What was written: machine, settings and one entry of ``rows`` per contender.

    Raises:
        ExportError, VideoError: If a file cannot be read or run, in one line.
    """
    console = console or Console()
    _check(settings)
    rows = contenders(settings)
    height, width = rows[0].height, rows[0].width
    clip = load_footage(settings.clip, height, width)[0]
    truth = clip[: (len(clip) - 1) // 2 * 2 + 1]  # ends on a given frame
    if len(truth) < 3:
        raise ExportError(f"'{settings.clip}' has {len(clip)} frames; 3 are needed.")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        # Here, not in the children: it would count as their memory.
        np.save(Path(folder) / "small.npy", imresize(truth[0::2], 1.0 / SCALE))
        with console.status("loading"):
            children = [stack.enter_context(_child(row, folder)) for row in rows]
        for round_number in range(settings.rounds):
            with console.status(f"round {round_number + 1} of {settings.rounds}"):
                for offset in range(len(rows)):
                    index = (round_number + offset) % len(rows)
                    rows[index].add(children[index].ask("run"))
        with console.status("scoring"):
            _score(rows, children, truth)
        if settings.profile:
            for row, child in zip(rows, children, strict=True):
                if row.kind == "litert":
                    row.operations = child.ask("profile")["operations"]
    document = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cpus": available_cpus(),
            "system": platform.platform(),
        },
        "clip": settings.clip or "demo",
        "clip_frames": len(truth),
        "rounds": settings.rounds,
        "rows": [row.document(rows[0]) for row in rows],
    }
    console.print(legend(rows), highlight=False)
    console.print(results_table(document["rows"]))
    for row in rows:
        if row.operations:
            console.print(operations_table(row))
    with saving(settings.out):
        write_json(settings.out, document)
    console.print(f"Wrote {settings.out}")
    return document


def contenders(settings: Settings) -> list[Row]:
    """All rows of a run, nothing measured yet; the first is what others relate to."""
    rows = []
    for file in settings.files:
        info = read_info(file)
        if info.scale != SCALE:
            raise ExportError(
                f"'{file}' enlarges {info.scale} times; this benchmark measures "
                f"{SCALE} times."
            )
        rows += [
            Row("litert", str(file), threads, info.height, info.width, info.frames_out)
            for threads in settings.threads
        ]
    most = max(settings.threads)
    shapes = dict.fromkeys((row.height, row.width, row.frames) for row in rows)
    if settings.keras:
        rows += [Row("keras", settings.keras, most, *shape) for shape in shapes]
    if settings.minterpolate:
        smallest = min(min(shape[:2]) for shape in shapes)
        if smallest < SMALLEST_SIDE:
            raise ExportError(
                f"FFmpeg's minterpolate needs frames of at least {SMALLEST_SIDE} "
                f"pixels each way; received {smallest}. Leave out --minterpolate."
            )
        rows += [Row("ffmpeg", c, most, *shape) for c in CHAINS for shape in shapes]
    return rows


def _check(settings: Settings) -> None:
    if not settings.files:
        raise ExportError("Nothing to measure: name one or more .tflite files.")
    if settings.rounds < 1:
        raise ExportError(f"--rounds must be at least 1. Received: {settings.rounds}")
    if not settings.threads or min(settings.threads) < 1:
        raise ExportError(
            "--threads must be whole numbers above 0, such as 1,2. Received: "
            f"{','.join(map(str, settings.threads)) or 'none'}"
        )
    if not settings.out.parent.is_dir():
        raise ExportError(
            f"Cannot write '{settings.out}': the folder '{settings.out.parent}' does "
            "not exist."
        )


class _Child:
    """The parent's end of a contender's process."""

    def __init__(self, row: Row, process: subprocess.Popen, log: Path):
        self._row, self._process, self._log = row, process, log

    def ask(self, line: str) -> dict:
        """Sends a line and waits for the answer.

        Raises:
            ExportError: If the child reports an error or has ended.
        """
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            status = self._process.wait()
            why = "memory ran out" if status == -9 else f"status {status}"
            said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise ExportError(
                f"The process that measured '{self._row.title}' ended by itself "
                f"({why}). {' '.join(said)[:200]}"
            )
        reply = json.loads(answer)
        if "error" in reply:
            foreseen = reply["kind"] in ("VideoError", "ExportError")
            before = "" if foreseen else f"{reply['kind']} in '{self._row.title}': "
            raise ExportError(before + reply["error"])
        return reply


@contextlib.contextmanager
def _child(row: Row, folder: str) -> Iterator[_Child]:
    """Starts a contender's process and waits until it is loaded and warm."""
    paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": str(row.threads),
        "TF_NUM_INTEROP_THREADS": str(row.threads),
    }
    job = {
        **asdict(row),
        "small": str(Path(folder) / "small.npy"),
        "made": str(Path(folder) / "made.npy"),  # one at a time is asked for it
    }
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".log") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.export.contenders"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        try:
            child = _Child(row, process, Path(log.name))
            child.ask(json.dumps(job))
            yield child
        finally:
            process.kill()
            process.communicate()


def _score(rows: list[Row], children: list[_Child], truth: np.ndarray) -> None:
    """Measures quality; threads change none of it."""
    known: dict[tuple, dict] = {}
    for row, child in zip(rows, children, strict=True):
        key = (row.kind, row.name, row.height, row.width)
        if key not in known:
            made = np.load(child.ask("predict")["made"])
            known[key] = psnr_of_halves(truth, made)
        row.psnr = known[key]


def _define_flags() -> None:
    """Only in the program itself: flags are global, and modules import each other."""
    usual = sorted({1, available_cpus()})
    flags.DEFINE_list(
        "threads",
        list(map(str, usual)),
        "Numbers of threads to run each file with, such as 1,2.",
    )
    flags.DEFINE_string(
        "keras",
        None,
        "Keras model to measure beside the files: preset, folder or .keras file.",
    )
    flags.DEFINE_bool(
        "minterpolate",
        False,
        "Measure FFmpeg's minterpolate with bicubic scale as well.",
    )
    flags.DEFINE_string("clip", None, "Video to measure on; by default a drawn scene.")
    flags.DEFINE_integer("rounds", 10, "Number of times that everything is timed.")
    flags.DEFINE_bool(
        "profile", False, "Measure the time by type of operation as well."
    )
    flags.DEFINE_string("out", "benchmark.json", "JSON file to write the results to.")


def _main(arguments: list[str]) -> int:
    given = flags.FLAGS
    if not all(number.isdigit() for number in given.threads):
        raise ExportError(
            "--threads must be whole numbers above 0, such as 1,2. Received: "
            f"{','.join(given.threads)}"
        )
    settings = Settings(
        files=tuple(map(Path, arguments[1:])),
        threads=tuple(map(int, given.threads)),
        keras=given.keras,
        minterpolate=given.minterpolate,
        clip=given.clip,
        rounds=given.rounds,
        profile=given.profile,
        out=Path(given.out),
    )
    benchmark(settings)
    return 0


if __name__ == "__main__":
    _define_flags()
    app.run(lambda argv: run_program("benchmark", lambda: _main(argv)))
