"""Makes and proves what ships to devices.

    python -m export.convert --model megan_mobile --to savedmodel,tflite \
        --height 64 --width 112 --precision fp32,fp16,dynamic_int8,int8 \
        --target cpu,gpu --calibration CLIPS --out DIR

MODEL is a preset, a preset's folder or any ``.keras`` file with one image or one clip
as input. Every TFLite file is run on LiteRT's CPU runtime, and those for GPUs on
LiteRT's GPU accelerator, on real footage, and compared with Keras. What is over its
budget or does not run is not published, and the exit status is 1. ``report.html`` says
all of it, with pictures. Details: docs/export.md.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from rich.console import Console

from export.build.settings import (
    FORMATS,
    PRECISION_NAMES,
    TARGETS,
    Settings,
    Variant,
    variants,
)
from export.errors import ExportError
from keras_megan.errors import run_program


def export(settings: Settings, console: Console) -> int:
    """Makes, proves and publishes everything; returns the exit status.

    Raises:
        ExportError: If nothing can be made: bad sizes, unreadable footage, outputs
            that exist.
    """
    # After the settings are known to be good: TensorFlow takes seconds to load.
    logging.set_verbosity(logging.WARNING)
    from export.build.footage import load_footage
    from export.build.make import Workshop, saved_model_row
    from export.build.subjects import load_subject
    from export.verify.report import write_report

    subject = load_subject(settings.model, settings.largest)
    for note in subject.notes:
        console.print(f"note: {note}", style="yellow")
    wanted = variants(settings)
    _check_outputs(settings, subject.name, wanted)
    settings.out.mkdir(parents=True, exist_ok=True)
    footage = load_footage(settings.clip, settings.height, settings.width)
    calibration = (
        load_footage(settings.calibration, settings.height, settings.width)
        if "int8" in settings.precisions
        else None
    )
    aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=settings.out))
    try:
        workshop = Workshop(subject, settings, footage, calibration, aside)
        rows = []
        if "savedmodel" in settings.formats:
            rows.append(saved_model_row(workshop))
        for number, variant in enumerate(wanted, 1):
            with console.status(f"{number}/{len(wanted)} {variant}"):
                row = workshop.make(variant)
            rows.append(row)
            console.print(f"{number}/{len(wanted)} {row.one_line()}")
        for row in rows:
            if row.published:
                _publish(aside / row.file, settings.out / row.file)
        write_report(settings.out, workshop, rows)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    console.print(f"Wrote {settings.out / 'report.html'}")
    failed = [row.file for row in rows if not row.published]
    if failed:
        raise ExportError(
            f"Not published: {', '.join(failed)}. Why is in "
            f"{settings.out / 'report.html'}."
        )
    return 0


def _check_outputs(settings: Settings, name: str, wanted: Sequence[Variant]) -> None:
    files = [variant.file_name(settings, name) for variant in wanted]
    if "savedmodel" in settings.formats:
        files.append(f"{name}_savedmodel")
    there = [file for file in [*files, "report.html"] if (settings.out / file).exists()]
    if there and not settings.force:
        raise ExportError(
            f"{', '.join(there)} exists in '{settings.out}'. Give --force to replace "
            "it, or another --out."
        )


def _publish(made: Path, path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(made, path)


def _define_flags() -> None:
    """Only in the program itself: flags are global, and modules import each other."""
    flags.DEFINE_string(
        "model", None, "Network to export: preset, preset folder or .keras file."
    )
    flags.DEFINE_string("out", None, "Folder for the files and the report.")
    flags.DEFINE_list("to", list(FORMATS), "Formats to write: savedmodel, tflite.")
    flags.DEFINE_integer("height", 64, "Height of the TFLite files' input in pixels.")
    flags.DEFINE_integer("width", 112, "Width of the TFLite files' input in pixels.")
    flags.DEFINE_list(
        "precision", ["fp32", "fp16"], f"Precisions: {', '.join(PRECISION_NAMES)}."
    )
    flags.DEFINE_list(
        "target",
        ["cpu", "gpu"],
        f"Runtimes to make files for: {', '.join(TARGETS)}.",
    )
    flags.DEFINE_list(
        "interface", ["float32"], "Types of a file's input and output: float32, uint8."
    )
    flags.DEFINE_string(
        "clip", None, "Video to verify files on; by default a drawn scene."
    )
    flags.DEFINE_string("calibration", None, "Videos to calibrate int8 on, or 'demo'.")
    flags.DEFINE_integer("windows", 3, "Number of windows of the clip to verify.")
    flags.DEFINE_float("white", 1.0, "Value of a white pixel, for image networks.")
    flags.DEFINE_bool("force", False, "Replace files that exist.")
    flags.DEFINE_bool(
        "allow_unverified",
        False,
        "Publish files for GPUs even without a GPU driver to verify them.",
    )


def _main() -> int:
    given = flags.FLAGS
    if not (given.model and given.out):
        raise ExportError("Expected --model MODEL and --out DIR.")
    settings = Settings(
        model=given.model,
        out=Path(given.out),
        formats=tuple(given.to),
        height=given.height,
        width=given.width,
        precisions=tuple(given.precision),
        targets=tuple(given.target),
        interfaces=tuple(given.interface),
        clip=given.clip,
        calibration=given.calibration,
        windows=given.windows,
        largest=given.white,
        force=given.force,
        allow_unverified=given.allow_unverified,
    )
    return export(settings, Console())


if __name__ == "__main__":
    _define_flags()
    app.run(lambda argv: run_program("export", _main))
