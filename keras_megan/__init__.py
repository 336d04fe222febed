"""keras_megan: space-time video super-resolution, and models that grow and shrink.

    import keras_megan

    model = keras_megan.MEGAN.from_preset("megan_edge")
    video = model.predict(frames)       # (1, 4, H, W, 3) -> (1, 7, 4H, 4W, 3)

`keras_megan.layers` holds the network's stages, `keras_megan.net2net` grows and prunes
any Keras model, `keras_megan.video` reads, upscales and writes files.
"""

from keras_megan import layers, losses, metrics, net2net
from keras_megan.megan import MEGAN
from keras_megan.version import __version__

__all__ = ["MEGAN", "__version__", "layers", "losses", "metrics", "net2net"]
