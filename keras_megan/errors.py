"""Failures for reasons outside the code: one line, no traceback.

What a person at the terminal can do something about (a missing folder, a damaged file,
a full disk) is raised as an `ExplainedError`, whose text is one complete line: what was
expected, what was found, what to do. Each package has a class of its own below it. The
programs print that line and exit with 1; anything else that escapes is a bug and keeps
its traceback.
"""

import sys
from collections.abc import Callable


class ExplainedError(Exception):
    """A failure explained in one line for the person at the terminal."""


def run_program(name: str, program: Callable[[], int]) -> int:
    """Runs ``program``; a foreseen failure becomes one line and exit status 1."""
    try:
        return program()
    except ExplainedError as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted.", file=sys.stderr)
        return 130
