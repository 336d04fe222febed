"""What can go wrong in a training run for reasons outside the code.

An empty folder, crops larger than the frames, a damaged checkpoint, a full disk: each
is raised as `TrainingError`, whose text is one complete line (what was expected, what
was found, what to do). The programs print that line and exit with 1; anything else that
escapes is a bug and keeps its traceback.
"""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from keras_megan.errors import ExplainedError, reason

#: Exit status after SIGTERM or Ctrl-C: the state is saved, the run is not finished.
STOPPED = 143


class TrainingError(ExplainedError):
    """A failure explained in one line for the person at the terminal."""


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turns whatever the writer of ``path`` raises into a line that names it."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"Cannot write '{path}': {reason(error)}.") from error
    except Exception as error:
        text = str(error)
        number = next(
            (
                code
                for code, phrase in _PHRASES.items()
                if any(p in text for p in phrase)
            ),
            None,
        )
        if number is None:
            raise
        explained = reason(OSError(number, text))
        raise TrainingError(
            f"Cannot write '{path}': {explained}. What was saved before is intact; "
            "make room and start the same command again."
        ) from error


# TensorFlow and HDF5 report file system errors as their own exceptions, by text.
_PHRASES = {
    errno.ENOSPC: ("No space left on device",),
    errno.EFBIG: ("File too large",),
    errno.EDQUOT: ("Disk quota exceeded",),
    errno.EACCES: ("Permission denied",),
    errno.EROFS: ("Read-only file system",),
}
