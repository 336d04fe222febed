"""Makes the files by which a preset runs on CPUs without TensorFlow.

    python -m export.engines --preset megan_edge --calibration CLIPS

PRESET is the name of a preset that ships with the package, or a preset's folder. For
each size of tiles and each precision a TFLite file for CPUs is made, run on LiteRT and
compared with Keras on footage, as `export.convert` does. What stays within its budget
goes into the preset's folder, `litert/`, and is listed in `litert.json` together with
the checksum of the weights it was made from. What does not is left out, and the exit
status is 1.

Run it again whenever the weights change: files of other weights are not used. `megan
upscale` then takes the file that wastes least on a clip's size (docs/upscale.md).
"""

import dataclasses
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import app, flags, logging
from rich.console import Console

from export.build.footage import DEMO
from export.build.settings import Settings, variants
from export.errors import ExportError
from keras_megan.errors import run_program
from keras_megan.files import appearing
from keras_megan.presets import preset_folder, read_config
from keras_megan.video.models.preset_files import (
    FOLDER,
    PRECISIONS,
    PresetFile,
    read_listing,
    write_listing,
)

#: For 21 usual sizes of video, from 128x72 to 1280x720, on average 66 % of the pixels
#: that are computed are computed once; with the first of these alone 54 %, with 128x72,
#: 256x148 and 360x180 71 %.
SIZES = ("128x72", "176x144")


@dataclass(frozen=True)
class Wish:
    """What to make.

    Attributes:
        preset: Name or folder of the preset.
        sizes: Width and height of the tiles.
        precisions: Some of `PRECISIONS`.
        calibration: Footage for int8: a video, a folder of videos, or "demo".
        clip: Footage to verify on; `None` for the drawn scene.
        windows: How many windows to verify on.
        add: Keep the files that the preset has of other sizes and precisions.
    """

    preset: str
    sizes: tuple[tuple[int, int], ...]
    precisions: tuple[str, ...] = PRECISIONS
    calibration: str = DEMO
    clip: str | None = None
    windows: int = 3
    add: bool = False


def parse_sizes(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Widths and heights from texts such as "128x72".

    Raises:
        ExportError: If one is not of this kind.
    """
    found = [re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text) for text in texts]
    if not texts or None in found:
        raise ExportError(
            f"Expected sizes such as 128x72; received {', '.join(texts) or 'none'}."
        )
    return tuple((int(match[1]), int(match[2])) for match in found if match)


def make_engines(wish: Wish, console: Console) -> int:
    """Makes, proves and publishes a preset's files; returns the exit status.

    Raises:
        ExportError: If the preset is not there or untrained, nothing could be
            published, or something was left out.
    """
    try:
        folder = preset_folder(wish.preset)
    except ValueError as error:
        raise ExportError(str(error)) from error
    weights = read_config(folder).get("weights_sha256")
    if weights is None:
        raise ExportError(f"The preset '{folder.name}' has no trained weights.")
    logging.set_verbosity(logging.WARNING)
    listed: list[PresetFile] = []
    failed: list[str] = []
    kept = _kept(folder, wish) if wish.add else []
    with appearing(folder / FOLDER) as aside:
        aside.mkdir()
        for file in kept:
            shutil.copy2(folder / file.file, aside)
        for width, height in wish.sizes:
            for made, message in _of_one_size(wish, folder, width, height, aside):
                console.print(message)
                if made is None:
                    failed.append(message)
                else:
                    listed.append(made)
        if not listed:
            raise ExportError(f"Nothing was published: {failed[0]}")
    write_listing(folder, weights, [*kept, *listed])
    count = len(kept) + len(listed)
    console.print(f"Wrote {folder / FOLDER} with {count} files.")
    if failed:
        raise ExportError(f"Not published: {'; '.join(failed)}")
    return 0


def _kept(folder: Path, wish: Wish) -> list[PresetFile]:
    """The files for the weights of now that the wish does not rebuild."""
    return [
        file
        for file in read_listing(folder)
        if (file.width, file.height) not in wish.sizes
        or file.precision not in wish.precisions
    ]


def _of_one_size(wish: Wish, folder: Path, width: int, height: int, aside: Path):
    """Yields what was made of one size, `None` for nothing, and a line about it."""
    # After everything cheap is known to be good: TensorFlow takes seconds to load.
    from export.build.footage import load_footage
    from export.build.make import Workshop
    from export.build.subjects import load_subject

    settings = Settings(
        model=str(folder),
        out=aside,
        formats=("tflite",),
        height=height,
        width=width,
        precisions=wish.precisions,
        targets=("cpu",),
        clip=wish.clip,
        calibration=wish.calibration,
        windows=wish.windows,
    )
    subject = load_subject(settings.model)
    footage = load_footage(settings.clip, height, width)
    calibration = None
    if "int8" in wish.precisions:
        calibration = load_footage(wish.calibration, height, width)
    workshop = Workshop(subject, settings, footage, calibration, aside)
    for variant in variants(settings):
        row = workshop.make(variant)
        path = aside / row.file
        if not row.published:
            path.unlink(missing_ok=True)
            yield None, row.one_line()
            continue
        (check,) = row.checks
        made = PresetFile(
            file=f"{FOLDER}/{row.file}",
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            width=width,
            height=height,
            precision=variant.precision,
            memory=memory_of(path),
            psnr=_rounded(check.psnr),
            keras_psnr=_rounded(check.keras_psnr),
        )
        yield made, row.one_line() + _speed(workshop.keras_seconds, check.seconds)


# Run in a process of its own, whose largest size is that of this one call. Linux keeps
# ru_maxrss of the process that started it, so there the kernel's own account is read.
_MEASURE = """
import pathlib, re, resource, sys
import numpy as np
from keras_megan.video.models.litert_runner import LiteRTRunner
status = pathlib.Path("/proc/self/status")
def peak():
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
runner = LiteRTRunner(sys.argv[1], num_threads=1)
runner.run(np.zeros(runner.info.input_shape, np.uint8))
print(peak() - before)
"""


def memory_of(path: Path) -> int:
    """Bytes by which a process grows that opens a file and runs it once.

    Raises:
        ExportError: If the process fails.
    """
    command = [sys.executable, "-c", _MEASURE, str(path.resolve())]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=root, timeout=600
    )
    if done.returncode:
        raise ExportError(f"'{path}' does not run: {done.stderr.strip()[-300:]}")
    return int(done.stdout)


def _speed(keras_seconds: float, seconds: float | None) -> str:
    """How fast a file is; a slow one saves nothing but the start of TensorFlow."""
    return f", {keras_seconds / seconds:.2f} times as fast as Keras" if seconds else ""


def _rounded(decibels: float | None) -> float | None:
    return None if decibels is None else round(decibels, 3)


def _define_flags() -> None:
    """Only in the program itself: flags are global, and modules import each other."""
    fields = {field.name: field.default for field in dataclasses.fields(Wish)}
    flags.DEFINE_string("preset", None, "Name or folder of the preset.")
    flags.DEFINE_list("sizes", list(SIZES), "Sizes of tiles, width x height.")
    flags.DEFINE_list("precision", list(PRECISIONS), ", ".join(PRECISIONS) + ".")
    flags.DEFINE_string("calibration", DEMO, "Videos to calibrate int8 on, or 'demo'.")
    flags.DEFINE_string("clip", None, "Video to verify on; default: a drawn scene.")
    flags.DEFINE_bool("add", False, "Keep files of other sizes and precisions.")
    flags.DEFINE_integer("windows", fields["windows"], "Number of windows to verify.")


def _main() -> int:
    given = flags.FLAGS
    if not given.preset:
        raise ExportError("Say which preset: --preset NAME_OR_FOLDER.")
    unknown = set(given.precision) - set(PRECISIONS)
    if unknown or not given.precision:
        raise ExportError(f"Expected precisions among {', '.join(PRECISIONS)}.")
    wish = Wish(
        preset=given.preset,
        sizes=parse_sizes(given.sizes),
        precisions=tuple(given.precision),
        calibration=given.calibration,
        clip=given.clip,
        windows=given.windows,
        add=given.add,
    )
    return make_engines(wish, Console())


if __name__ == "__main__":
    _define_flags()
    app.run(lambda argv: run_program("export", _main))
