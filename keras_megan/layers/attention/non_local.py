"""The non-local residual block: every pixel attends to the whole frame.

    x -> conv3x3 - ReLU - conv3x3 -> y -> y + W(attention(y)) -> + x

The attention is the embedded-Gaussian form: with queries theta(y), keys phi(y)
and values g(y), all 1x1 convolutions to half the channels,

    attention(y) = softmax(theta(y) phi(y)^T / sqrt(C/2)) g(y)

over the positions of one frame. All N = H*W positions as keys ("full") cost
N^2 multiply-adds and memory, 206 MB a frame at 64x112; "pyramid" averages keys
and values into grids of 1, 2, 4 and 8 bins a side, 85 tokens of global, hierarchical
context, and the cost becomes linear in N. (The bins divide images that are padded for
a pyramid of 4 levels, so pooling is one plain operation there.)

The last 1x1 convolution starts at zero, so a new block is a plain residual block.

Sources: Wang et al., Non-local Neural Networks, CVPR 2018 (arXiv:1711.07971);
Zhang et al., Residual Non-local Attention Networks, ICLR 2019
(arXiv:1903.10082); pooled keys: Zhu et al., ICCV 2019 (arXiv:1908.07678).
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_megan.layers.attention.adaptive_pooling import (
    AdaptiveAveragePooling,
    adaptive_average_pool,
)
from keras_megan.layers.composite import Composite

POOLS = ("pyramid", "full")


@keras.saving.register_keras_serializable("keras_megan")
class SpatialAttention(layers.Layer):
    """Softmax attention among the positions of each frame.

    Call arguments:
        queries: (N, H, W, D).
        keys: (N, H', W', D), of the same size or another.
        values: (N, H', W', E).

    Output shape: (N, H, W, E).

    Args:
        pool: "pyramid" averages keys and values into `bins` grids first;
            "full" uses every position.
        bins: sides of the grids of "pyramid".

    Weights: `key_weights` (D,), not trainable, 1/sqrt(D) in a new layer: the weight
    of each product of a query and a key channel. When net2net copies a key channel,
    the copies share its weight.
    """

    def __init__(
        self, pool: str = "pyramid", bins: Sequence[int] = (1, 2, 4, 8), **kwargs: Any
    ):
        super().__init__(**kwargs)
        if pool not in POOLS:
            raise ValueError(f"pool must be one of {POOLS}. Received: pool={pool!r}.")
        self.pool = pool
        self.bins = tuple(bins)

    def build(self, queries_shape, keys_shape, values_shape):
        self.key_weights = self.add_weight(
            name="key_weights",
            shape=(queries_shape[-1],),
            initializer=keras.initializers.Constant(1.0 / math.sqrt(queries_shape[-1])),
            trainable=False,
        )

    def call(self, queries, keys, values):
        batch, height, width, _ = ops.shape(queries)
        rows = ops.reshape(queries, (batch, height * width, queries.shape[-1]))
        rows = rows * ops.cast(self.key_weights, rows.dtype)
        scores = ops.matmul(rows, ops.transpose(self._tokens(keys), (0, 2, 1)))
        attended = ops.matmul(ops.softmax(scores, axis=-1), self._tokens(values))
        return ops.reshape(attended, (batch, height, width, values.shape[-1]))

    def _tokens(self, inputs):
        """(N, H, W, D) -> (N, tokens, D)."""
        if self.pool == "full":
            batch, height, width, channels = ops.shape(inputs)
            return ops.reshape(inputs, (batch, height * width, channels))
        pooled = [adaptive_average_pool(inputs, bins) for bins in self.bins]
        return ops.concatenate(pooled, axis=1)

    def compute_output_shape(self, queries_shape, keys_shape, values_shape):
        return (*queries_shape[:-1], values_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "pool": self.pool,
            "bins": self.bins,
        }


@keras.saving.register_keras_serializable("keras_megan")
class NonLocalResidualBlock(Composite):
    """A residual block whose residual attends to its whole frame.

    Input and output shape: (N, H, W, filters).

    Args:
        filters: number of channels.
        pool: "pyramid" (linear cost) or "full" keys; see `SpatialAttention`.
        bins: grid sides of "pyramid".
    """

    def __init__(
        self,
        filters: int,
        pool: str = "pyramid",
        bins: Sequence[int] = (1, 2, 4, 8),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.pool = pool
        self.bins = tuple(bins)
        inner = max(1, self.filters // 2)
        dtype = self.dtype_policy
        self.conv_1 = layers.Conv2D(
            filters, 3, padding="same", activation="relu", dtype=dtype, name="conv_1"
        )
        self.conv_2 = layers.Conv2D(
            filters, 3, padding="same", dtype=dtype, name="conv_2"
        )
        self.theta = layers.Conv2D(inner, 1, dtype=dtype, name="theta")
        # A bias would add the same to all of a query's scores.
        self.phi = layers.Conv2D(inner, 1, use_bias=False, dtype=dtype, name="phi")
        self.g = layers.Conv2D(inner, 1, dtype=dtype, name="g")
        # Keys and values are averaged before they are convolved: the same, for less.
        pyramid = pool == "pyramid"
        self.tokens = AdaptiveAveragePooling(self.bins, dtype=dtype, name="tokens")
        self.attention = SpatialAttention(
            "full" if pyramid else pool, bins, dtype=dtype, name="attention"
        )
        self.project = layers.Conv2D(
            filters, 1, kernel_initializer="zeros", dtype=dtype, name="project"
        )

    def call(self, inputs):
        residual = self.conv_2(self.conv_1(inputs))
        seen = self.tokens(residual) if self.pool == "pyramid" else residual
        attended = self.attention(self.theta(residual), self.phi(seen), self.g(seen))
        return inputs + residual + self.project(attended)

    def build(self, inputs_shape):
        self.lay_out(inputs_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "pool": self.pool,
            "bins": self.bins,
        }
