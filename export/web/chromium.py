"""Starts headless Chromium and waits for it, with a limit on everything.

    programs, job -> run_in_chromium("run_model.mjs", job, seconds) -> standard output

The programs in ``browser/`` run under Node.js and drive Chromium by playwright-core.
They keep a time limit of their own, end when what started them is gone (their standard
input closes), and close the browser. If one does not end all the same, it is asked to
and then killed, and its browser ends with it, as it listens to a pipe that closes.
Profiles lie in a folder that is removed afterwards.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from export.web.packages import HERE, installed_packages

_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
)
#: Seconds that starting and closing may take beside what a program does.
_MARGIN = 20.0
NO_BROWSER = (
    "there is no Chromium or no Node.js here: on Debian 'apt-get install chromium npm'"
)


class BrowserError(Exception):
    """A program in the browser did not do what it should; the text says why."""


def find_chromium() -> str | None:
    """Chromium's path; None if it, Node.js or npm is not there."""
    if not (shutil.which("node") and shutil.which("npm")):
        return None
    return next(filter(None, map(shutil.which, _NAMES)), None)


def run_in_chromium(program: str | Path, job: dict, seconds: float) -> str:
    """Runs one of the programs to its end.

    Args:
        program: A file in ``browser/``, or the path of another one.
        job: What it does; it finds it as JSON, with the packages and Chromium's path.
        seconds: After which it gives up.

    Returns:
        What it printed.

    Raises:
        BrowserError: If there is no browser, it fails, or it takes too long.
        ExportError: If its packages cannot be installed.
    """
    chromium = find_chromium()
    if chromium is None:
        raise BrowserError(NO_BROWSER)
    packages = installed_packages()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        described = Path(folder) / "job.json"
        known = {"packages": str(packages), "chromium": chromium, "seconds": seconds}
        described.write_text(json.dumps(known | job), "utf-8")
        life, ours = os.pipe()
        process = subprocess.Popen(
            ["node", str(HERE / "browser" / program), str(described)],
            env=os.environ | {"TMPDIR": folder},
            stdin=life,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        os.close(life)
        try:
            output, errors = process.communicate(timeout=seconds + _MARGIN)
        except subprocess.TimeoutExpired as error:
            raise BrowserError(f"no result within {seconds:g} seconds") from error
        finally:
            _end(process)
            os.close(ours)
    if process.returncode:
        raise BrowserError(_failure(errors, process.returncode))
    return output


def _end(process: subprocess.Popen) -> None:
    """Asks the program to end, then ends it; does nothing if it has ended."""
    for request, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
        if process.poll() is not None:
            break
        os.killpg(process.pid, request)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    for stream in (process.stdout, process.stderr):
        stream.close()


def _failure(errors: str, status: int) -> str:
    lines = errors.splitlines()
    said = [line for line in lines if line.startswith("failed: ")]
    text = said[0].removeprefix("failed: ") if said else " ".join(lines[-3:])
    return f"{text[:600] or 'nothing was said'} (status {status})"
