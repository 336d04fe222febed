"""What can go wrong in an export for reasons outside the code.

A preset that does not exist, a file that is not a TFLite model, a layer that no
built-in operation can express, a full disk: each is raised as `ExportError`, whose text
is one complete line (what was expected, what was found, what to do). The programs print
that line and exit with 1; anything else that escapes is a bug and keeps its traceback.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from keras_megan.errors import ExplainedError, reason


class ExportError(ExplainedError):
    """A failure explained in one line for the person at the terminal."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns an operating-system error on ``path`` into a line that names it."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"Cannot read '{path}': {reason(error)}.") from error


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turns an operating-system error while ``path`` is written into such a line."""
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"Cannot write '{path}': {reason(error)}. What was there before is intact; "
            "make room, or choose another --out, and start the same command again."
        ) from error
