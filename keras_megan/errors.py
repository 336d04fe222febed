"""Failures for reasons outside the code: one line, no traceback.

What a person at the terminal can do something about (a missing folder, a damaged file,
a full disk) is raised as an `ExplainedError`, whose text is one complete line: what was
expected, what was found, what to do. Each package has a class of its own below it. The
programs print that line and exit with 1; anything else that escapes is a bug and keeps
its traceback.
"""

import errno
import sys
from collections.abc import Callable

from keras_megan.quiet import warnings_only


class ExplainedError(Exception):
    """A failure explained in one line for the person at the terminal."""


_REASONS = {
    errno.ENOENT: "no such file or folder",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder",
    errno.ENOSPC: "the disk is full",
    errno.ENAMETOOLONG: "its name is too long for this disk",
    errno.EPERM: "operation not permitted",
    errno.EFBIG: "the file grew beyond the size limit set for this process or disk",
    errno.EDQUOT: "the disk quota is used up",
}


def one_line(text: object, most: int = 300) -> str:
    """An error or a warning as one line of at most `most` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def reason(error: BaseException) -> str:
    """The cause of an operating-system or FFmpeg error in a few words."""
    number = getattr(error, "errno", None)
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if number in _REASONS:
        return _REASONS[number]
    return " ".join(text.split())


def run_program(name: str, program: Callable[[], int]) -> int:
    """Runs a program and turns a foreseen failure into one line on standard error.

    Args:
        name: What the line begins with.
        program: Returns the exit status.

    Returns:
        The exit status: the program's own, 1 after a foreseen failure, 130 after
        Ctrl-C.
    """
    warnings_only()
    try:
        return program()
    except ExplainedError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted.", file=sys.stderr)
        return 130
