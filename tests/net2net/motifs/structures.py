"""Shared layers, nested models, composite layers and models."""

import keras
from keras import layers, ops

from tests.net2net.motifs.base import head, image, motif, through


class Scale(layers.Layer):
    """A composite layer with a variable of its own."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), name="gamma")
        self.conv = layers.Conv2D(shape[-1], 3, padding="same")
        self.conv.build(shape)

    def call(self, x, training=None):
        return x + self.gamma * ops.relu(self.conv(x))


class RawKernels(layers.Layer):
    """A layer that computes with raw operations and its own kernels."""

    def build(self, shape):
        self.window = self.add_weight(shape=(3, 3, shape[-1], 6), name="window")
        self.spread = self.add_weight(shape=(3, 3, 6, 1), name="spread")
        self.mix = self.add_weight(shape=(6, 4), name="mix")
        self.shift = self.add_weight(shape=(4,), name="shift")

    def call(self, x):
        x = ops.conv(x, self.window, padding="same")
        x = ops.depthwise_conv(ops.relu(x), self.spread, padding="same")
        x = self.shift + ops.matmul(x, self.mix)
        return ops.einsum("bhwc,cd->bhwd", x, ops.transpose(self.mix))


@motif
def composite_layers():
    return through(Scale(), Scale())


@motif
def raw_kernels():
    return through(RawKernels())


@motif
def nested_models():
    inner = keras.Sequential([layers.Conv2D(4, 3, padding="same"), layers.ReLU()])
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    branch = keras.Input((None, None, 4))
    deep = keras.Model(branch, Scale()(inner(branch)))
    return keras.Model(entry, head(layers.Conv2D(3, 1)(deep(deep(x)) + inner(x))))


@motif
def shared_layer():
    x = entry = image()
    shared = layers.Conv2D(4, 3, padding="same")
    x = layers.Conv2D(4, 1)(x)
    x = shared(ops.relu(shared(x)))
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def two_inputs_two_outputs():
    a, b = keras.Input((6, 6, 2), name="left"), keras.Input((6, 6, 3), name="right")
    x = layers.Conv2D(4, 3)(a) + layers.Conv2D(4, 3)(b)
    y = layers.Conv2D(3, 1)(x)
    return keras.Model({"left": a, "right": b}, {"map": y, "label": head(x)})


@motif
def sequential():
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(5, activation="relu"),
            layers.Dense(2, activation="softmax"),
        ]
    )


@motif
def constant_per_channel():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    x = x * ops.convert_to_tensor([1.0, -2.0, 0.5, 3.0], dtype=x.dtype)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))
