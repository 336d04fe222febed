"""Dense layers and products of tensors."""

import keras
from keras import layers, ops

from tests.net2net.motifs.base import head, image, motif, through


@motif
def mlp():
    x = entry = keras.Input((5,))
    for units in (7, 6):
        x = layers.Dense(units, activation="silu")(x)
    return keras.Model(entry, layers.Dense(2)(x))


@motif
def flatten_then_dense():
    return through(layers.Flatten(), layers.Dense(5), layers.Reshape((1, 1, 5)), size=3)


@motif
def dense_then_image():
    x = entry = keras.Input((4,))
    x = layers.Reshape((3, 3, 5))(layers.Dense(45, activation="relu")(x))
    return keras.Model(entry, head(layers.Conv2D(4, 2)(x)))


@motif
def einsum_dense():
    x = entry = keras.Input((4, 5))
    x = layers.Dense(6)(x)
    x = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")(x)
    x = layers.EinsumDense("abde,def->abf", (None, 4), bias_axes="f")(x)
    x = layers.EinsumDense("...x,xy->...y", 5, activation="relu")(x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def attention_by_hand():
    x = entry = keras.Input((4, 5))
    q, k, v = (layers.Dense(6)(x) for _ in range(3))
    scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) / 2.0)
    x = layers.Dense(4)(ops.matmul(scores, v))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def einsum_attention_by_hand():
    x = entry = keras.Input((4, 6))
    q, k, v = (layers.Reshape((4, 2, 3))(layers.Dense(6)(x)) for _ in range(3))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k))
    x = ops.einsum("bhqk,bkhd->bqhd", scores, v)
    x = layers.Dense(4)(layers.Reshape((4, 6))(x))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def dot_layer():
    x = entry = keras.Input((5,))
    a, b = layers.Dense(6)(x), layers.Dense(6)(x)
    return keras.Model(entry, layers.Dense(2)(layers.Dot(axes=1)([a, b])))


@motif
def channel_gram_matrix():
    x = entry = image()
    x = layers.Reshape((36, 4))(layers.Conv2D(4, 3, padding="same")(x))
    gram = ops.matmul(ops.transpose(x, (0, 2, 1)), x)
    x = ops.matmul(x, ops.softmax(gram / 50.0, axis=-1))
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def embedding():
    x = entry = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7, 5)(x)
    x = layers.Dense(4, activation="relu")(x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
