"""Random sequence models of what is hard to follow, from a function that chooses.

Masks, subclasses that override a helper, recurrent activations that mix units, layers
that reshape by the size of their input, operations without a rule, layers that behave
differently in training.
"""

import keras
from keras import layers, ops

STEPS = 5


def registered(cls):
    return keras.saving.register_keras_serializable("net2net_odd_graphs")(cls)


@registered
def spread(x):
    """An activation that mixes units."""
    return x / (1.0 + ops.std(x, axis=-1, keepdims=True))


@registered
class MaskedBlock(layers.Layer):
    """Attention in a layer that hands masks on."""

    def __init__(self, heads=2, size=2, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.heads, self.size = heads, size
        self.attention = layers.MultiHeadAttention(heads, size)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x):
        return x + self.attention(x, x)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads, "size": self.size}


@registered
class StandardizedConv(layers.Conv1D):
    def convolution_op(self, inputs, kernel):
        kernel = kernel / (0.5 + ops.std(kernel, axis=(0, 1), keepdims=True))
        return super().convolution_op(inputs, kernel)


@registered
class SharpAttention(layers.MultiHeadAttention):
    def _compute_attention(self, query, key, value, *args, **kwargs):
        scores = ops.einsum(self._dot_product_equation, key, query)
        scores = ops.softmax(2.0 * scores, axis=-1)
        return ops.einsum(self._combine_equation, scores, value), scores


@registered
class Heads(layers.Layer):
    """Splits its channels by the sizes of its input, and scales each part."""

    def build(self, shape):
        self.gains = self.add_weight(shape=(2, 1), name="gains")

    def call(self, x):
        batch, steps, channels = ops.shape(x)
        x = ops.reshape(x, (batch, steps, 2, channels // 2)) * self.gains
        return ops.reshape(x, (batch, steps, channels))


@registered
class Flipped(layers.Layer):
    """Adds its channels sorted, for which there is no rule."""

    def call(self, x):
        return x + ops.cast(ops.argsort(x, axis=-1), x.dtype)


@registered
class DropPath(layers.Layer):
    def call(self, x, training=None):
        if training:
            shape = (ops.shape(x)[0], 1, 1)
            return x * ops.cast(keras.random.uniform(shape, seed=1) > 0.3, x.dtype)
        return x


def recurrent(choose, x):
    kind = choose([layers.LSTM, layers.GRU, layers.SimpleRNN])
    activation = choose(["tanh", "softmax", spread])
    return kind(choose([3, 4]), activation=activation, return_sequences=True)(x)


def gated(choose, x):
    activation = choose(["sigmoid", "softmax"])
    layer = layers.GRU(4, recurrent_activation=activation, return_sequences=True)
    return layers.Bidirectional(layer, merge_mode=choose(["concat", "sum"]))(x)


def attention(choose, x):
    kind = choose([layers.MultiHeadAttention, SharpAttention])
    return x + kind(choose([1, 2]), 2)(x, x)


def feed_forward(choose, x):
    y = layers.LayerNormalization()(x) if choose([True, False]) else x
    y = layers.Dense(choose([3, 5]), activation=choose(["gelu", "relu", spread]))(y)
    return x + layers.Dense(x.shape[-1])(y)


def even(choose, x):
    x = layers.Dense(choose([2, 4]))(x)
    return Heads()(x)


BLOCKS = [
    recurrent,
    gated,
    attention,
    feed_forward,
    even,
    lambda choose, x: MaskedBlock()(x),
    lambda choose, x: StandardizedConv(choose([3, 4]), 2, padding="same")(x),
    lambda choose, x: Flipped()(x),
    lambda choose, x: DropPath()(x),
    lambda choose, x: layers.Dense(choose([3, 4]), activation="tanh")(x),
]


def build(choose):
    """A random model of token numbers with up to four blocks, and one readout.

    Args:
        choose: Function from a sequence to one of its items.
    """
    entry = keras.Input((STEPS,), dtype="int32")
    masked = choose([True, False])
    x = layers.Embedding(7, choose([3, 4]), mask_zero=masked)(entry)
    for _ in range(choose([1, 2, 3, 4])):
        x = choose(BLOCKS)(choose, x)
    x = choose([layers.Flatten(), layers.GlobalAveragePooling1D()])(x)
    x = layers.Dense(6, activation="tanh", name="free")(x)
    return keras.Model(entry, layers.Dense(2)(x))
