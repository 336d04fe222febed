"""Files that appear complete or not at all: written aside, synced, renamed.

    write_whole(path, data)              bytes or text in hand
    with appearing(path) as aside: ...   whatever a library writes, given its path

Until the rename the old file is what readers see; after a failure or a kill it still
is. Callers that talk to people wrap this in their own one-line errors.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; it becomes `path` if the block succeeds.

    Args:
        path: A file, or a folder: then what is there before is replaced by it. The
            path given keeps its suffixes, which tell many libraries the format.
    """
    path = Path(path)
    aside = path.with_name(f".aside-{path.name}")
    _remove(aside)
    try:
        yield aside
        if aside.is_dir():
            for file in aside.rglob("*"):
                if file.is_file():
                    sync_file(file)
            _remove(path)
        else:
            sync_file(aside)
        os.replace(aside, path)
        sync_folder(path.parent)
    finally:
        _remove(aside)


def write_whole(path: Path, data: bytes | str) -> None:
    """Writes bytes, or text as UTF-8."""
    with appearing(path) as aside:
        aside.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))


def write_json(path: Path, document) -> None:
    """Writes a document as indented JSON; refuses what is not a number."""
    write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def sync_file(path: Path) -> None:
    """Waits until a file's contents are on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Waits until a folder's entries are on the disk, where that can be asked for."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
