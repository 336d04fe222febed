"""Reshapes and other layouts of data."""

import keras
from keras import layers, ops

from tests.net2net.motifs.base import head, image, motif, through


@motif
def depth_to_space():
    return through(
        layers.Conv2D(12, 3),
        lambda x: ops.depth_to_space(x, 2),
        lambda x: ops.space_to_depth(x, 4),
    )


@motif
def channel_shuffle():
    x = entry = image()
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = ops.reshape(x, (-1, 6, 6, 2, 4))
    x = ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, 6, 6, 8))
    x = layers.DepthwiseConv2D(3)(x)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def permute_and_reshape():
    x = entry = image()
    x = layers.Conv2D(5, 3)(x)
    x = layers.Reshape((16, 5))(layers.Permute((2, 1, 3))(x))
    x = ops.swapaxes(ops.moveaxis(x, 1, 2), 1, 2)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def tile_repeat_pad():
    x = entry = image()
    x = layers.Conv2D(3, 3)(x)
    x = ops.tile(x, (1, 1, 1, 2))
    x = ops.repeat(x, 2, axis=-1)
    x = ops.pad(x, ((0, 0), (1, 1), (0, 0), (1, 2)))
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def spatial_layers():
    return through(
        layers.ZeroPadding2D(1),
        layers.MaxPooling2D(2),
        layers.UpSampling2D(2, interpolation="bilinear"),
        layers.AveragePooling2D(2),
        layers.Cropping2D(1),
        layers.Resizing(5, 5),
        layers.Dropout(0.5),
        layers.SpatialDropout2D(0.5),
        lambda x: ops.image.resize(x, (4, 4)),
        lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    )


@motif
def broadcast_to():
    x = entry = keras.Input((5,))
    x = layers.Reshape((1, 1, 6))(layers.Dense(6)(x))
    x = layers.Conv2D(3, 1)(ops.broadcast_to(x, (2, 2, 3, 6)))
    return keras.Model(entry, head(x))
