"""Starting Keras without its backend's start-up messages.

TensorFlow prints lines to standard error while it loads, from C++ and whatever
TF_CPP_MIN_LOG_LEVEL says: which instructions it uses, that there is no GPU. In a
command line tool they hide the tool's own lines.
"""

import os
import sys
import tempfile


def start_keras_quietly():
    """Loads Keras and its backend with standard error held back.

    Does nothing where Keras is loaded already. If loading fails, what was held back is
    printed after all.
    """
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import keras

            keras.ops.zeros((1,))  # the backend looks for its devices
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
