"""Starting runtimes without their start-up messages.

TensorFlow and LiteRT print lines to standard error while they load: which instructions
they use, that there is no GPU. They do so from C++, before TF_CPP_MIN_LOG_LEVEL counts.
In front of a program's own lines they are noise, so programs ask for quiet through that
variable, and `keras_megan` keeps the promise TensorFlow breaks. Set
``TF_CPP_MIN_LOG_LEVEL=0`` to see every message.
"""

import contextlib
import functools
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

#: The level from which TensorFlow promises errors only.
ERRORS_ONLY = 2


def wants_quiet() -> bool:
    """Whether TF_CPP_MIN_LOG_LEVEL asks for errors only."""
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "")
    return level.isdigit() and int(level) >= ERRORS_ONLY


def warnings_only() -> None:
    """Keeps TensorFlow's Python loggers to warnings, if `wants_quiet`."""
    if wants_quiet():
        logging.getLogger("tensorflow").setLevel(logging.WARNING)
        if "absl" in sys.modules:  # its logger is of a class that it brings itself
            logging.getLogger("absl").setLevel(logging.WARNING)


@contextlib.contextmanager
def starting_up() -> Iterator[None]:
    """Around the import of a runtime: holds standard error back if `wants_quiet`."""
    with standard_error_held_back() if wants_quiet() else contextlib.nullcontext():
        yield


def load_keras() -> None:
    """Imports Keras with its backend, quietly if `wants_quiet`."""
    if "keras" not in sys.modules and wants_quiet():
        with starting_up():
            import keras  # noqa: F401


@functools.cache
def start_keras_quietly() -> None:
    """Loads Keras, and lets its backend look for devices, without a line of theirs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    load_keras()
    import keras

    with standard_error_held_back():
        keras.ops.zeros((1,))


@contextlib.contextmanager
def standard_error_held_back(
    forget: type[BaseException] | tuple = (),
) -> Iterator[None]:
    """Drops whatever the block prints to standard error, from C++ too.

    Args:
        forget: Exceptions that explain themselves. If the block fails with any other,
            what was held back is printed after all.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except forget:
            raise
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
