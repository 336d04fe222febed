"""Several branches: additions, products, concatenations, slices."""

import keras
from keras import layers, ops

from tests.net2net.motifs.base import head, image, motif


@motif
def residual_block():
    x = entry = image()
    x = layers.Conv2D(4, 3, padding="same")(x)
    for _ in range(2):
        y = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
        x = layers.Add()([x, layers.Conv2D(4, 3, padding="same")(y)])
    return keras.Model(entry, head(x))


@motif
def merging_layers():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    y = layers.Conv2D(4, 3)(entry)
    x = layers.Subtract()([layers.Maximum()([x, y]), layers.Minimum()([x, y])])
    x = layers.Average()([layers.Multiply()([x, y]), y, x])
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def raw_arithmetic():
    x = entry = image()
    x = layers.Conv2D(4, 3)(x)
    x = (ops.abs(x) + 1.5) / (2.0 + ops.square(x)) - ops.maximum(x, 0.1) ** 2
    x = ops.where(x > 0.0, x, -0.3 * x)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(ops.clip(x, -2.0, 2.0))))


@motif
def one_channel_mask():
    x = entry = image()
    x = layers.Conv2D(4, 3, padding="same")(x)
    mask = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x * mask)))


@motif
def squeeze_and_excite():
    x = entry = image()
    x = layers.Conv2D(6, 3)(x)
    s = layers.GlobalAveragePooling2D()(x)
    s = layers.Dense(6, activation="sigmoid")(layers.Dense(3, activation="relu")(s))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 6))(s)])
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def dense_concatenation():
    x = entry = image()
    x = layers.Conv2D(4, 3, padding="same")(x)
    for _ in range(3):
        y = layers.BatchNormalization()(x)
        y = layers.Conv2D(3, 3, padding="same")(layers.ReLU()(y))
        x = layers.Concatenate()([x, y])
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def concatenate_with_input():
    x = entry = image()
    x = layers.Concatenate()([layers.Conv2D(4, 3, padding="same")(x), x])
    return keras.Model(entry, head(layers.Conv2D(3, 3)(x)))


@motif
def concatenate_then_flatten():
    x = entry = image(3)
    x = layers.Concatenate()([layers.Conv2D(c, 1)(x) for c in (2, 3)])
    return keras.Model(entry, layers.Dense(2)(layers.Flatten()(x)))


@motif
def split_and_gate():
    x = entry = image()
    a, b = ops.split(layers.Conv2D(8, 3)(x), 2, axis=-1)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(a * ops.sigmoid(b))))


@motif
def split_unevenly():
    x = entry = image()
    a, b, c = ops.split(layers.Conv2D(9, 3)(x), [2, 5], axis=-1)
    x = ops.concatenate([ops.tanh(c), a, b], axis=-1)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def slices():
    x = entry = image()
    x = layers.Conv2D(8, 3)(x)
    x = x[:, 1:, ..., :3] + x[:, 1:, :, 5:]
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def one_channel_picked():
    x = entry = image()
    x = layers.Conv2D(5, 3)(x)
    x = x * ops.expand_dims(x[..., 2], -1)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def crossed_concatenation_meets_addition():
    x = entry = image()
    a, b = layers.Conv2D(3, 3)(x), layers.Conv2D(2, 3)(x)
    x = ops.concatenate([a, b], -1) + ops.concatenate([b, a], -1)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))


@motif
def stacked_frames():
    x = entry = image()
    frames = [layers.Conv2D(4, 3)(x) for _ in range(3)]
    x = ops.mean(ops.stack(frames, axis=1), axis=1)
    return keras.Model(entry, head(layers.Conv2D(3, 1)(x)))
