"""The program as a user meets it: bad input, and what it serves."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from rich.console import Console

import export.web.__main__ as program
from export.errors import ExportError
from export.web import packages, site
from export.web.serve import HEADERS, serving
from export.web.site import SiteSettings

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_bad_input_is_one_line_and_status_1(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "export.web", "--out", "new", "--serve"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = [text for text in done.stderr.splitlines() if text.startswith("export.web:")]
    assert len(said) == 1 and "There is no page in 'new'" in said[0]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("texts", [["64"], ["64x"], ["64x64x3"], ["axb"]])
def test_sizes_that_are_not_sizes(texts):
    with pytest.raises(ExportError, match="Expected --size WIDTHxHEIGHT"):
        program.sizes(texts)


@pytest.mark.parametrize(
    ("folder", "changes", "line"),
    [
        ("new", {"sizes": ((4, 64),)}, "at least 8x8 pixels"),
        ("new", {"sizes": ()}, "received none"),
        ("full", {}, "Give --force to replace it"),
        ("full", {"force": True}, "is not a page that this program made"),
    ],
)
def test_pages_that_cannot_be_made(folder, changes, line, tmp_path):
    (tmp_path / "full").mkdir()
    with pytest.raises(ExportError, match=line):
        SiteSettings("megan_nano", tmp_path / folder, **changes)


def test_every_file_is_served_with_the_headers(tmp_path):
    (tmp_path / "a.wasm").write_bytes(b"\0asm")
    with (
        serving(tmp_path) as address,
        urllib.request.urlopen(f"{address}/a.wasm", timeout=20) as response,
    ):
        assert response.read() == b"\0asm"
        assert response.headers["Content-Type"] == "application/wasm"
        assert all(response.headers[name] == text for name, text in HEADERS.items())


def test_packages_are_installed_once_and_pinned():
    folder = packages.installed_packages()
    assert packages.installed_packages() == folder
    for entry in packages.VENDORED:
        installed = folder / "node_modules" / entry.package
        assert all((installed / file).is_file() for file in entry.files)
        main = (installed / next(iter(entry.files))).read_text("utf-8")
        assert all(old in main for old in entry.replaced)


def test_a_size_that_is_wrong_in_browsers_is_left_out(tmp_path, monkeypatch):
    def make(settings, width, height, folder, console):
        if width == 64:
            raise ExportError("64x64 is not right in a browser: off by 1.2")
        return {"width": width}

    monkeypatch.setattr(site, "_model", make)
    console = Console(quiet=True)
    wanted = SiteSettings("m", tmp_path / "new", ((96, 64), (64, 64), (56, 32)))
    made = site._models(wanted, tmp_path, console)
    assert [model["width"] for model in made] == [56, 96]
    only = SiteSettings("m", tmp_path / "new", ((64, 64),))
    with pytest.raises(ExportError, match="off by 1.2"):
        site._models(only, tmp_path, console)
