"""Starting runtimes without their start-up messages.

TensorFlow and LiteRT print lines to standard error while they load, from C++ and
whatever TF_CPP_MIN_LOG_LEVEL says: which instructions they use, that there is no GPU.
In a command line tool they hide the tool's own lines.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def start_keras_quietly():
    """Loads Keras and its backend with standard error held back.

    Does nothing where Keras is loaded already. If loading fails, what was held back is
    printed after all.
    """
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with standard_error_held_back():
        import keras

        keras.ops.zeros((1,))  # the backend looks for its devices


@contextlib.contextmanager
def standard_error_held_back(
    forget: type[BaseException] | tuple = (),
) -> Iterator[None]:
    """Whatever the block prints to standard error is dropped, C++ included.

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
