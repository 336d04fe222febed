"""Convolutions of all kinds."""

import keras
from keras import layers, ops

from tests.net2net.motifs.base import head, image, motif, through


@motif
def conv2d_strided():
    return through(layers.Conv2D(6, 3, strides=2, activation="tanh"))


@motif
def conv2d_dilated_without_bias():
    return through(layers.Conv2D(6, 3, dilation_rate=2, use_bias=False))


@motif
def conv2d_grouped():
    return through(layers.Conv2D(6, 3, groups=2), before=4)


@motif
def conv2d_grouped_twice():
    return through(
        layers.Conv2D(12, 3, groups=2), layers.Conv2D(12, 1, groups=3), before=8
    )


@motif
def conv2d_as_depthwise():
    return through(layers.Conv2D(8, 3, groups=4), before=4)


@motif
def conv1d():
    x = entry = keras.Input((9, 2))
    x = layers.Conv1D(4, 3, activation="gelu")(x)
    x = layers.Conv1D(4, 3, padding="causal")(x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


@motif
def conv3d():
    x = entry = keras.Input((4, 4, 4, 2))
    x = layers.Conv3D(3, 2, activation="relu")(x)
    x = layers.Conv3D(4, 2)(layers.ZeroPadding3D(1)(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling3D()(x)))


@motif
def conv2d_transposed():
    return through(layers.Conv2DTranspose(6, 3, strides=2, activation="relu"))


@motif
def conv1d_transposed():
    x = entry = keras.Input((5, 2))
    x = layers.Conv1DTranspose(4, 3, strides=2)(layers.Conv1D(3, 1)(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def conv3d_transposed():
    x = entry = keras.Input((3, 3, 3, 2))
    x = layers.Conv3DTranspose(3, 2, activation="relu")(layers.Conv3D(3, 1)(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling3D()(x)))


@motif
def depthwise():
    return through(layers.DepthwiseConv2D(3, activation="relu"))


@motif
def depthwise_multiplier():
    return through(layers.DepthwiseConv2D(3, depth_multiplier=3))


@motif
def depthwise_multiplier_meets_addition():
    x = entry = image()
    x = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
    z = layers.Conv2D(8, 1)(x)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(layers.Add()([y, z]))))


@motif
def depthwise1d():
    x = entry = keras.Input((7, 2))
    x = layers.DepthwiseConv1D(3, depth_multiplier=2)(layers.Conv1D(3, 1)(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def separable():
    return through(layers.SeparableConv2D(6, 3, depth_multiplier=2))


@motif
def separable1d():
    x = entry = keras.Input((7, 2))
    x = layers.SeparableConv1D(5, 3)(layers.Conv1D(3, 1)(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def channels_as_tokens_reduced():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    gate = ops.max(x, axis=-1, keepdims=True)
    mean = ops.mean(x, axis=-1, keepdims=True)
    x = x * ops.sigmoid(
        layers.Conv2D(1, 3, padding="same")(ops.concatenate([gate, mean], -1))
    )
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))
