"""Attention and recurrence."""

import keras
from keras import layers, ops

from tests.net2net.motifs.base import head, motif


@motif
def multi_head_attention():
    x = entry = keras.Input((4, 5))
    x = layers.Dense(6)(x)
    x = x + layers.MultiHeadAttention(2, 3, value_dim=4)(x, x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def cross_attention():
    x = entry = keras.Input((4, 5))
    q, v, k = layers.Dense(6)(x), layers.Dense(4)(x), layers.Dense(3)(x)
    x = layers.MultiHeadAttention(2, 3, output_shape=5, use_bias=False)(q, v, key=k)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def group_query_attention():
    x = entry = keras.Input((4, 5))
    x = layers.Dense(6)(x)
    x = x + layers.GroupQueryAttention(3, 4, 2)(x, x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def plain_attention():
    x = entry = keras.Input((4, 5))
    q, v = layers.Dense(6)(x), layers.Dense(6)(x)
    x = layers.Attention(use_scale=True)([q, layers.Dense(4)(x), v])
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@motif
def transformer_block():
    x = entry = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7, 6)(x)
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-2)(x)
        x = x + layers.MultiHeadAttention(2, 3)(y, y)
        y = layers.Dense(8, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(6)(y)
    x = layers.LayerNormalization()(x)
    return keras.Model(entry, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def _recurrent(layer):
    x = entry = keras.Input((4, 3))
    x = layer(layers.Dense(5)(x))
    x = layers.Dense(4)(x)
    return keras.Model(
        entry, layers.Dense(2)(ops.mean(x, 1) if len(x.shape) > 2 else x)
    )


@motif
def lstm():
    return _recurrent(layers.LSTM(4))


@motif
def gru():
    return _recurrent(layers.GRU(4, return_sequences=True))


@motif
def gru_reset_before():
    return _recurrent(layers.GRU(4, reset_after=False))


@motif
def simple_rnn():
    return _recurrent(layers.SimpleRNN(4))


@motif
def bidirectional_concat():
    return _recurrent(layers.Bidirectional(layers.LSTM(4, return_sequences=True)))


@motif
def bidirectional_sum():
    return _recurrent(layers.Bidirectional(layers.GRU(4), merge_mode="sum"))


@motif
def lstm_with_states():
    x = entry = keras.Input((4, 3))
    y, h, c = layers.LSTM(4, return_sequences=True, return_state=True)(x)
    y = layers.LSTM(4)(y, initial_state=[h, c])
    return keras.Model(entry, layers.Dense(2)(y + c))


@motif
def conv_lstm():
    x = entry = keras.Input((3, 5, 5, 2))
    x = layers.TimeDistributed(layers.Conv2D(3, 2, activation="relu"))(x)
    x = layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True)(x)
    x = layers.ConvLSTM2D(3, 2)(x)
    return keras.Model(entry, head(x))
