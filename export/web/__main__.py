"""Makes the page, and serves it to this machine if asked.

    python -m export.web --model megan_nano --out site
    python -m export.web --out site --serve        what is there, on a local server

The folder can be copied to any web server; docs/web.md says which headers it should
send. Details of what is made: `export.web.site`.
"""

import os
import threading
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags
from rich.console import Console

from export.errors import ExportError
from export.web.serve import serving
from export.web.site import SIZES, SiteSettings, build_site
from keras_megan.errors import run_program


def _define_flags() -> None:
    flags.DEFINE_string("model", None, "Preset, preset folder or .keras file.")
    flags.DEFINE_string("out", None, "The folder to make or to serve.")
    flags.DEFINE_list(
        "size",
        [f"{width}x{height}" for width, height in SIZES],
        "WIDTHxHEIGHT of the network's tiles.",
    )
    flags.DEFINE_bool("force", False, "Replace a folder that an earlier run made.")
    flags.DEFINE_bool("serve", False, "Serve the folder to this machine.")
    flags.DEFINE_integer("port", 8000, "Where to serve it; 0 takes a free port.")


def sizes(texts: list[str]) -> tuple[tuple[int, int], ...]:
    """WIDTHxHEIGHT of each text, as numbers.

    Raises:
        ExportError: If a text is something else.
    """
    try:
        pairs = [tuple(map(int, text.split("x"))) for text in texts]
        return tuple((width, height) for width, height in pairs)
    except ValueError as error:
        raise ExportError(
            f"Expected --size WIDTHxHEIGHT, for example 56x32,112x64; received "
            f"{','.join(texts)}."
        ) from error


def _main() -> int:
    given, console = flags.FLAGS, Console()
    if not given.out:
        raise ExportError("Say where to: --out DIR.")
    out = Path(given.out)
    if given.model:
        settings = SiteSettings(given.model, out, sizes(given.size), given.force)
        build_site(settings, console)
    elif not given.serve:
        raise ExportError("Say what to make: --model MODEL, or --serve what is there.")
    if given.serve:
        if not (out / "site.json").is_file():
            raise ExportError(
                f"There is no page in '{out}'; make one with --model megan_nano."
            )
        with serving(out, given.port) as address:
            console.print(f"Serving {out} at {address} until Ctrl-C is pressed.")
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    _define_flags()
    app.run(lambda argv: run_program("export.web", _main))
