"""What can go wrong with a user's file, as one sentence each.

Every failure a user can cause or cure (a missing file, a damaged one, a full disk, a
wrong option) is raised as `VideoError`, whose text is one complete line: what was
expected, what was found, what to do. The command line prints that line and exits with
1; anything else that escapes is a bug and keeps its traceback.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av

from keras_megan.errors import ExplainedError, reason

__all__ = ["VideoError", "reading", "reason", "writing"]


class VideoError(ExplainedError):
    """A failure explained in one line for the person at the terminal."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever the reader of `path` raises into a `VideoError` that names it."""
    try:
        yield
    except av.error.InvalidDataError as error:
        raise VideoError(
            f"Cannot read '{path}': it is not a video, or it is damaged or cut short. "
            "Check that it plays, or fetch it again."
        ) from error
    except BrokenPipeError:  # not the file: who listens to us has gone
        raise
    except (OSError, av.error.FFmpegError, UnicodeError) as error:
        raise VideoError(f"Cannot read '{path}': {reason(error)}.") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns whatever the writer of `path` raises into a `VideoError` that names it."""
    try:
        yield
    except BrokenPipeError:  # not the file: who listens to us has gone
        raise
    except (OSError, av.error.FFmpegError) as error:
        raise VideoError(f"Cannot write '{path}': {reason(error)}.") from error
