"""keras_megan: space-time video super-resolution, and models that grow and shrink.

    import keras_megan

    model = keras_megan.MEGAN.from_preset("megan_edge")
    video = model.predict(frames)       # (1, 4, H, W, 3) -> (1, 7, 4H, 4W, 3)

`keras_megan.layers` holds the network's stages, `keras_megan.net2net` grows and prunes
any Keras model, `keras_megan.video` reads, upscales and writes files.
"""

import importlib
import os
import sys

from keras_megan.version import __version__

__all__ = [
    "MEGAN",
    "MutualInference",
    "__version__",
    "classifiers",
    "layers",
    "losses",
    "metrics",
    "mutual_inference",
    "net2net",
]

#: Classes that stand at the top: name -> module.
_CLASSES = {
    "MEGAN": "keras_megan.megan",
    "MutualInference": "keras_megan.mutual_inference",
}


def __getattr__(name):
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    if name in __all__:
        return importlib.import_module(f"keras_megan.{name}")
    raise AttributeError(f"module 'keras_megan' has no attribute {name!r}")


# Importing the library registers its layers with Keras, so that saved models load. The
# `megan` program answers `--help` at once instead, and loads Keras when it needs it.
if os.path.basename((sys.argv or [""])[0]) not in ("megan", "megan.exe", "-m"):
    from keras_megan import classifiers, layers, losses, metrics, net2net
    from keras_megan.megan import MEGAN
    from keras_megan.mutual_inference import MutualInference
