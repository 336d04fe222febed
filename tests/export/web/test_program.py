"""The program as a user meets it: bad input, and what it serves."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from export.web import packages
from export.web.serve import HEADERS, serving

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "Say where to: --out DIR."),
        (["--out", "new"], "Say what to make"),
        (["--out", "new", "--serve"], "There is no page in"),
        (["--out", "new", "--model", "m", "--size", "64"], "WIDTHxHEIGHT"),
        (["--out", "new", "--model", "m", "--size", "4x64"], "at least 8x8"),
        (["--out", "full", "--model", "m"], "Give --force to replace it"),
        (["--out", "full", "--model", "m", "--force"], "is not a page that this"),
    ],
)
def test_bad_input_is_one_line_and_status_1(arguments, line, tmp_path):
    (tmp_path / "full").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "export.web", *arguments],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said = [text for text in done.stderr.splitlines() if text.startswith("export.web:")]
    assert len(said) == 1 and line in said[0]
    assert {path.name for path in tmp_path.iterdir()} <= {"full", ".config", ".keras"}


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
        texts = [(installed / file).read_text("utf-8") for file in entry.files][:1]
        assert all(old in text for text in texts for old in entry.replaced)
