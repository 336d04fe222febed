"""Normalisations and other operations that see all channels."""

import keras
from keras import layers, ops

from tests.net2net.motifs.base import head, image, motif, through


@motif
def batch_norm():
    return through(layers.BatchNormalization(), layers.ReLU())


@motif
def layer_norm():
    return through(layers.LayerNormalization(epsilon=1e-2))


@motif
def layer_norm_several_axes():
    return through(layers.LayerNormalization(axis=[1, 2, 3], epsilon=1e-2))


@motif
def rms_norm():
    return through(layers.RMSNormalization(epsilon=1e-2))


@motif
def group_norm():
    return through(layers.GroupNormalization(2, epsilon=1e-2), before=8)


@motif
def group_norm_single():
    return through(layers.GroupNormalization(1, epsilon=1e-2))


@motif
def instance_norm():
    return through(layers.GroupNormalization(-1, epsilon=1e-2))


@motif
def unit_norm():
    return through(layers.UnitNormalization())


@motif
def softmax_over_channels():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    x = x * layers.Softmax()(layers.Conv2D(4, 1)(x))
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def log_softmax_over_channels():
    return (
        through(layers.Lambda_free_log_softmax())
        if False
        else through(layers.Activation("log_softmax"))
    )


@motif
def prelu():
    return through(layers.PReLU(shared_axes=[1, 2]), layers.PReLU())


@motif
def sum_and_mean_over_channels():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    y = ops.sum(x, axis=-1, keepdims=True) * 0.1 + ops.mean(x, axis=3, keepdims=True)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x * y)))
