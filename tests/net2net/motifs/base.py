"""What the motifs share: the table that they enter, an input, a readout."""

import keras
from keras import layers, ops

MOTIFS = {}


def motif(function):
    """Enters a function into the table."""
    MOTIFS[function.__name__] = function
    return function


def image(size=6, channels=3):
    return keras.Input((size, size, channels))


def head(x):
    """A readout that makes everything before it free."""
    while len(x.shape) > 2:
        x = layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else ops.mean(x, 1)
    return layers.Dense(3)(x)


def through(*stack, size=6, before=4):
    """A convolution, the layers under test, a convolution, a readout."""
    x = entry = image(size)
    x = layers.Conv2D(before, 3, padding="same", activation="relu")(x)
    for layer in stack:
        x = layer(x)
    x = layers.Conv2D(5, 1)(x)
    return keras.Model(entry, head(x))
