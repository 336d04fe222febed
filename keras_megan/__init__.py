"""keras_megan: space-time video super-resolution, and models that grow and shrink.

    import keras_megan

    model = keras_megan.MEGAN.from_preset("megan_edge")
    video = model.predict(frames)       # (1, 4, H, W, 3) -> (1, 7, 4H, 4W, 3)

    keras_megan.upscale("clip.mp4", "large.mp4")

`keras_megan.layers` holds the network's stages, `keras_megan.net2net` grows and prunes
any Keras model, `keras_megan.video` reads, upscales and writes files (it needs
``pip install keras_megan[video]``).

Importing this registers all layers with Keras (`registration` says how), but loads
nothing that takes long: each of the names below is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_megan.registration import register_with_keras
from keras_megan.version import __version__

if TYPE_CHECKING:
    from keras_megan import classifiers, layers, losses, metrics, net2net
    from keras_megan.megan import MEGAN
    from keras_megan.video.api import upscale

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
_MODULES = {
    *("classifiers", "imaging", "layers", "losses", "metrics", "net2net", "presets"),
    "video",
}
_OBJECTS = {"MEGAN": "keras_megan.megan", "upscale": "keras_megan.video.api"}


def __getattr__(name: str) -> Any:
    if name in _OBJECTS:
        return getattr(importlib.import_module(_OBJECTS[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"keras_megan.{name}")
    raise AttributeError(f"module 'keras_megan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_OBJECTS})


register_with_keras()
