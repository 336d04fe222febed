"""keras_megan: space-time video super-resolution, and models that grow and shrink.

    import keras_megan

    model = keras_megan.MEGAN.from_preset("megan_edge")
    video = model.predict(frames)       # (1, 4, H, W, 3) -> (1, 7, 4H, 4W, 3)

    keras_megan.upscale("clip.mp4", "large.mp4")

`keras_megan.layers` holds the network's stages, `keras_megan.net2net` grows and prunes
any Keras model, `keras_megan.video` reads, upscales and writes files (it needs
``pip install keras_megan[video]``).
"""

import importlib

from keras_megan.quiet import load_keras

load_keras()  # without start-up messages where TF_CPP_MIN_LOG_LEVEL asks for that

from keras_megan import classifiers, layers, losses, metrics, net2net  # noqa: E402
from keras_megan.megan import MEGAN  # noqa: E402
from keras_megan.version import __version__  # noqa: E402

__all__ = [
    "MEGAN",
    "__version__",
    "classifiers",
    "layers",
    "losses",
    "metrics",
    "net2net",
    "upscale",
]


def __getattr__(name: str):
    # These need the packages of the extra "video", so they are loaded when asked for.
    if name == "upscale":
        return importlib.import_module("keras_megan.video.upscale").upscale
    if name in ("video", "imaging", "presets"):
        return importlib.import_module(f"keras_megan.{name}")
    raise AttributeError(f"module 'keras_megan' has no attribute {name!r}")
