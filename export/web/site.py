"""Lays out the static folder: the page, the network's files, samples, third-party code.

    SiteSettings -> build_site -> site/
        index.html, *.js, style.css     from page/, as they are
        models/NAME_WxH_gpu_fp32.tflite one for each size, verified in a browser
        models/NAME_WxH.input, .answer  a window and what Keras makes of it
        samples/*.mp4                   two clips of the drawn scene
        vendor/                         LiteRT.js, mediabunny, and their licences
        site.json                       what the page has
        _headers                        what the host should send

The folder appears by a rename when all of it is there. Every file is made by
`export.convert` for the target "web", so nothing is published that a browser does not
compute rightly.
"""

import functools
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from export.build.settings import Settings, variants
from export.errors import ExportError, saving
from export.web.packages import (
    HERE,
    VENDORED,
    copy_vendored,
    installed_packages,
    version,
)
from export.web.samples import SAMPLES
from export.web.serve import header_file
from keras_megan import __version__
from keras_megan.files import write_json, write_whole

#: Sizes of tiles, (width, height), when none are asked for.
SIZES = ((56, 32), (112, 64), (168, 96))
#: Every so many numbers of the known answer are kept: a prime, so that all rows,
#: columns, frames and colours have their turn.
STRIDE = 211


@dataclass(frozen=True)
class SiteSettings:
    """What to make.

    Attributes:
        model: Preset, preset folder or ``.keras`` file.
        out: The folder to make.
        sizes: (width, height) of the tiles; the page picks among them.
        force: Replace a folder that exists.
    """

    model: str
    out: Path
    sizes: tuple[tuple[int, int], ...] = SIZES
    force: bool = False

    def __post_init__(self):
        if self.out.exists() and not self.force:
            raise ExportError(
                f"'{self.out}' exists. Give --force to replace it, or another --out."
            )
        if self.out.exists() and not (self.out / "site.json").is_file():
            raise ExportError(
                f"'{self.out}' is not a page that this program made, so it is not "
                "replaced. Give another --out."
            )
        if not self.sizes or min(min(size) for size in self.sizes) < 8:
            raise ExportError(
                "Expected sizes of tiles of at least 8x8 pixels, like 56x32,112x64; "
                f"received {', '.join(f'{w}x{h}' for w, h in self.sizes) or 'none'}."
            )


def build_site(settings: SiteSettings, console: Console) -> None:
    """Makes the whole folder.

    Raises:
        ExportError: If no size is right in the browser, or something cannot be made.
    """
    packages = installed_packages()  # before minutes of work
    out = settings.out
    with saving(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        with saving(out):
            shutil.copytree(HERE / "page", aside, dirs_exist_ok=True)
            copy_vendored(packages, aside / "vendor")
            (aside / "samples").mkdir()
            for sample in SAMPLES:
                sample.write(aside / "samples")
            models = _models(settings, aside / "models", console)
            write_whole(aside / "_headers", header_file())
            write_json(aside / "site.json", _document(models, packages))
            aside.chmod(0o755)
            if out.exists():
                shutil.rmtree(out)
            aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    console.print(f"Wrote {out} ({size / 1e6:.0f} MB): any web server can host it.")


def _models(settings: SiteSettings, folder: Path, console: Console) -> list[dict]:
    """Every size that browsers compute rightly, the smallest first."""
    made: list[dict] = []
    refused: list[ExportError] = []
    for size in sorted(settings.sizes, key=lambda size: size[0] * size[1]):
        try:
            made.append(_model(settings, *size, folder, console))
        except ExportError as error:
            refused.append(error)
    if not made:
        raise refused[0]
    for error in refused:
        console.print(f"Left out: {error}", style="yellow")
    return made


def _model(
    settings: SiteSettings, width: int, height: int, folder: Path, console: Console
) -> dict:
    """Makes one size; returns what the page must know of it."""
    from export.build.footage import load_footage
    from export.convert import export

    folder.mkdir(exist_ok=True)
    subject = _subject(settings.model)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        wanted = Settings(
            model=settings.model,
            out=Path(made),
            formats=("tflite",),
            height=height,
            width=width,
            precisions=("fp32",),
            targets=("web",),
        )
        try:
            export(wanted, Console(quiet=True))
        except ExportError as error:
            raise _explained(error, Path(made) / "report.json") from error
        (variant,) = variants(wanted)
        file = variant.file_name(wanted, subject.name)
        errors = _errors(Path(made) / "report.json")
        (Path(made) / file).rename(folder / file)
    found = ", ".join(f"{name} within {error:.1e}" for name, error in errors.items())
    console.print(f"{file}: as Keras in a browser, {found} of the range.")
    footage = load_footage(None, height, width)
    window = subject.samples(footage, height, width, 1)[0].tensor
    pixels = np.rint(window * 255).astype(np.uint8)
    answer = subject.forward(pixels.astype(np.float32) * np.float32(1 / 255))
    kept = np.asarray(answer, np.float32).ravel()[::STRIDE]
    stem = f"{subject.name}_{width}x{height}"
    pixels.tofile(folder / f"{stem}.input")
    kept.astype("<f4").tofile(folder / f"{stem}.answer")
    return {
        "name": subject.name,
        "file": f"models/{file}",
        "width": width,
        "height": height,
        "scale": subject.scale,
        "framesIn": subject.frames_in,
        "framesOut": subject.frames_out,
        "bytes": (folder / file).stat().st_size,
        "largestErrors": errors,
        "check": {
            "input": f"models/{stem}.input",
            "answer": f"models/{stem}.answer",
            "stride": STRIDE,
        },
    }


def _errors(report: Path) -> dict[str, float]:
    """Runtime -> largest error against Keras, of the range."""
    (row,) = json.loads(report.read_text("utf-8"))["artefacts"]
    return {check["runtime"]: check["largest_error"] for check in row["checks"]}


def _explained(error: ExportError, report: Path) -> ExportError:
    """The error with what the report says, which does not stay."""
    if not report.is_file():
        return error
    (row,) = json.loads(report.read_text("utf-8"))["artefacts"]
    findings = [finding["message"] for finding in row["findings"]]
    said = "; ".join([row["message"], *findings[:2]])
    return ExportError(f"{row['file']} is not right in a browser: {said}")


@functools.lru_cache(maxsize=1)
def _subject(name: str):
    from export.build.subjects import VideoSubject, load_subject

    subject = load_subject(name)
    if not isinstance(subject, VideoSubject):
        raise ExportError(
            f"The page is for videos; '{name}' takes one image. Give a network for "
            "space-time super-resolution."
        )
    return subject


def _document(models: list[dict], packages: Path) -> dict:
    return {
        "name": models[0]["name"],
        "version": __version__,
        "models": models,
        "samples": [
            {"file": f"samples/{sample.file}", "title": sample.title}
            for sample in SAMPLES
        ],
        "packages": {
            entry.package: version(packages, entry.package) for entry in VENDORED
        },
    }
