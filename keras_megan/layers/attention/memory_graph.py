"""LMGA, long-range memory graph aggregation: graph attention among channels.

The nodes of the graph are channel maps: node (t, i) is channel i of frame t. An
edge says how much one channel's appearance helps another, and the memory lets a
frame read the nodes of all other frames, however far away.

    Q, K, V = 1x1 convolutions of the features        (B*T, H, W, C) each
    q, k    = Q and K averaged to S x S bins, standardised over the bins
    e       = q[t, i] . k[tau, j] / S                 S times their correlation
    A       = softmax over all memory nodes (tau, j)
    Y[t, i] = sum over (tau, j) of A V[tau, j]        a mix of whole channel maps
    z       = sigmoid(conv1x1([F, Y]))
    output  = F + conv1x1(z * Y)                      starts at zero

Descriptors have a fixed size, so edges do not depend on the image's size and
the cost is linear in the number of pixels. Three memories:

    "bank"       every frame reads the channels of all T frames
    "recurrent"  keys and values are accumulated over time in both directions by
                 a learned gate per node; a frame reads its two accumulated sets
    "intra"      a frame reads its own channels only: the ablation

Softmax over channels is not invariant when a channel is copied: two copies would
take twice the share. `log_count[j]`, the logarithm of how many copies node j has,
is subtracted from its logits, which makes widening a network exact.

Source: the abstract of You et al., MEGAN, WACV 2022 (arXiv:2110.15327), which names the
module and its purpose; the equations are this project's reconstruction.
"""

from typing import Any

import keras
from keras import layers, ops

from keras_megan.layers.attention.adaptive_pooling import (
    AdaptiveAveragePooling,
    adaptive_average_pool,
)
from keras_megan.layers.composite import Composite
from keras_megan.layers.frames import channels_to_frames, frames_to_channels

MEMORIES = ("bank", "recurrent", "intra")
EPSILON = 1e-5


@keras.saving.register_keras_serializable("keras_megan")
class ChannelGraphAttention(layers.Layer):
    """Attention among the channel maps of a clip's frames.

    Call arguments:
        queries, keys: (B*T, any height, any width, C), the frames of a clip next to
            each other; they are averaged into descriptors.
        values: (B*T, H, W, C).

    Output shape: (B*T, H, W, C). (Queries may have another number of channels than keys
    and values; the output then has theirs.)

    Weights: `log_count` (C,), not trainable, zero in a new layer; with the
    recurrent memory a gate per direction, (2*S*S,) and a bias, shared by all
    nodes.

    Args:
        num_frames: T, the frames of a clip.
        memory: "bank", "recurrent" or "intra"; see the module's docstring.
        descriptor_size: S, the side of the averaged descriptors.
    """

    def __init__(
        self,
        num_frames: int,
        memory: str = "bank",
        descriptor_size: int = 16,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if memory not in MEMORIES:
            raise ValueError(
                f"memory must be one of {MEMORIES}. Received: memory={memory!r}."
            )
        self.num_frames = int(num_frames)
        self.memory = memory
        self.descriptor_size = int(descriptor_size)

    def build(self, queries_shape, keys_shape, values_shape):
        self.log_count = self.add_weight(
            name="log_count",
            shape=(keys_shape[-1],),
            initializer="zeros",
            trainable=False,
        )
        if self.memory == "recurrent":
            bins = self.descriptor_size**2
            self.gate_kernel = self.add_weight(
                name="gate_kernel", shape=(2, 2 * bins), initializer="glorot_uniform"
            )
            self.gate_bias = self.add_weight(
                name="gate_bias", shape=(2,), initializer="zeros"
            )

    def call(self, queries, keys, values):
        attend = getattr(self, f"_attend_{self.memory}")
        return attend(self.describe(queries), self.describe(keys), values)

    def describe(self, maps: Any) -> Any:
        """(B*T, H, W, C) -> (B*T, C, S*S), zero mean and unit variance over bins."""
        bins = ops.transpose(
            adaptive_average_pool(maps, self.descriptor_size), (0, 2, 1)
        )
        bins = bins - ops.mean(bins, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(bins), axis=-1, keepdims=True)
        return bins * ops.rsqrt(variance + EPSILON)

    def edges(self, queries: Any, keys: Any, sets: int) -> Any:
        """Attention of query nodes over memory nodes.

        queries (G, I, S*S), keys (G, sets*C, S*S) -> (G, I, sets*C), rows sum to 1.
        """
        scores = ops.matmul(queries, ops.transpose(keys, (0, 2, 1)))
        penalty = ops.cast(ops.tile(self.log_count, (sets,)), scores.dtype)
        return ops.softmax(scores * (1.0 / self.descriptor_size) - penalty, axis=-1)

    def _attend_intra(self, queries, keys, values):
        weights = self.edges(queries, keys, sets=1)
        batch, height, width, channels = ops.shape(values)
        maps = ops.reshape(values, (batch, height * width, channels))
        mixed = ops.matmul(maps, ops.transpose(weights, (0, 2, 1)))
        return ops.reshape(mixed, (batch, height, width, queries.shape[1]))

    def _attend_bank(self, queries, keys, values):
        frames, bins = self.num_frames, self.descriptor_size**2
        asking, nodes = frames * queries.shape[1], frames * keys.shape[1]
        queries = ops.reshape(queries, (-1, asking, bins))
        keys = ops.reshape(keys, (-1, nodes, bins))
        weights = self.edges(queries, keys, sets=frames)
        # One product mixes all nodes into all nodes: (N, T*C) x (T*C, T*C).
        maps = frames_to_channels(values, frames)
        batch, height, width, _ = ops.shape(maps)
        maps = ops.reshape(maps, (batch, height * width, nodes))
        mixed = ops.matmul(maps, ops.transpose(weights, (0, 2, 1)))
        mixed = ops.reshape(mixed, (batch, height, width, asking))
        return channels_to_frames(mixed, frames)

    def _attend_recurrent(self, queries, keys, values):
        frames = self.num_frames
        batch, height, width, channels = ops.shape(values)
        bins = self.descriptor_size**2
        keys = ops.reshape(keys, (-1, frames, channels, bins))
        maps = ops.reshape(values, (-1, frames, height * width, channels))
        forward = self._accumulate(keys, maps, 0, range(frames))
        backward = self._accumulate(keys, maps, 1, reversed(range(frames)))
        key_memory = ops.concatenate([forward[0], backward[0]], axis=2)
        key_memory = ops.reshape(key_memory, (batch, 2 * channels, bins))
        weights = self.edges(queries, key_memory, sets=2)
        value_memory = ops.concatenate([forward[1], backward[1]], axis=-1)
        value_memory = ops.reshape(value_memory, (batch, height * width, 2 * channels))
        mixed = ops.matmul(value_memory, ops.transpose(weights, (0, 2, 1)))
        return ops.reshape(mixed, (batch, height, width, queries.shape[1]))

    def _accumulate(self, keys, maps, direction, order):
        """The memory after each frame: keys (B,T,C,S*S) and values (B,T,N,C).

        M_t = (1 - u) M_(t-1) + u K_t,  u = sigmoid(w . [M_(t-1), K_t] + b) per node.
        """
        kernel = ops.cast(self.gate_kernel[direction], keys.dtype)
        bias = ops.cast(self.gate_bias[direction], keys.dtype)
        stored_keys, stored_maps = {}, {}
        key, value = None, None
        for t in order:
            if key is None:
                key, value = keys[:, t], maps[:, t]
            else:
                both = ops.concatenate([key, keys[:, t]], axis=-1)
                update = ops.sigmoid(ops.sum(both * kernel, axis=-1) + bias)
                key = key + update[..., None] * (keys[:, t] - key)
                value = value + update[:, None, :] * (maps[:, t] - value)
            stored_keys[t], stored_maps[t] = key, value
        times = range(self.num_frames)
        return (
            ops.stack([stored_keys[t] for t in times], axis=1),
            ops.stack([stored_maps[t] for t in times], axis=1),
        )

    def compute_output_shape(self, queries_shape, keys_shape, values_shape):
        return (*values_shape[:-1], queries_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "memory": self.memory,
            "descriptor_size": self.descriptor_size,
        }


@keras.saving.register_keras_serializable("keras_megan")
class MemoryGraphAggregation(Composite):
    """LMGA: features enriched by the channels of every frame, gated.

    Input and output shape: (B*T, H, W, filters). A new layer is the identity.

    Args:
        filters: C, the number of channels.
        num_frames: T, the frames of a clip.
        memory: "bank", "recurrent" or "intra".
        descriptor_size: S, the side of the averaged descriptors.
    """

    def __init__(
        self,
        filters: int,
        num_frames: int,
        memory: str = "bank",
        descriptor_size: int = 16,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.num_frames = int(num_frames)
        self.memory = memory
        self.descriptor_size = int(descriptor_size)
        dtype = self.dtype_policy

        def conv(name, **options):
            return layers.Conv2D(filters, 1, dtype=dtype, name=name, **options)

        self.pool = AdaptiveAveragePooling(
            self.descriptor_size, dtype=dtype, name="pool"
        )
        # A bias would vanish when the descriptors are standardised.
        self.theta = conv("theta", use_bias=False)
        self.phi = conv("phi", use_bias=False)
        self.g = conv("g")
        self.attention = ChannelGraphAttention(
            num_frames, memory, descriptor_size, dtype=dtype, name="attention"
        )
        self.concatenate = layers.Concatenate(dtype=dtype, name="concatenate")
        self.gate = conv("gate", activation="sigmoid")
        self.project = conv("project", kernel_initializer="zeros")

    def call(self, inputs):
        pooled = self.pool(inputs)
        read = self.attention(self.theta(pooled), self.phi(pooled), self.g(inputs))
        gate = self.gate(self.concatenate([inputs, read]))
        return inputs + self.project(gate * read)

    def build(self, inputs_shape):
        self.lay_out(inputs_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "num_frames": self.num_frames,
            "memory": self.memory,
            "descriptor_size": self.descriptor_size,
        }
