"""Executes the notebooks beside this file and reports what fails.

    python -m examples.run [NAME ...]

Each runs in a fresh kernel of this Python, in a temporary folder where it may leave
files. The notebooks themselves are not changed: they are kept without outputs.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent
#: Seconds that a cell may take.
TIMEOUT = 170


def run(path: Path) -> None:
    """Executes one notebook.

    Raises:
        CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            # Sockets in the folder, not ports that something else may take.
            km=AsyncKernelManager(
                kernel_name="python3", transport="ipc", ip=f"{folder}/kernel"
            ),
            timeout=TIMEOUT,
            resources={"metadata": {"path": folder}},
        )
        # What a failed cell says is in the error.
        client.execute(stderr=subprocess.DEVNULL)


def main(names: list[str]) -> int:
    """Runs the notebooks of these names, or all; returns the exit status."""
    # The kernel finds the checkout's programs, `export` among them.
    paths = [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"examples: no notebook {unknown[0]!r}; choose from {', '.join(known)}.")
        return 1
    failed = []
    for name in names or known:
        begun = time.monotonic()
        try:
            run(known[name])
        except CellExecutionError as error:
            print(f"examples: {name} failed:\n{error}", file=sys.stderr)
            failed.append(name)
        else:
            print(f"examples: {name} passed in {time.monotonic() - begun:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
