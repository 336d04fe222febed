"""From features to pixels: residual blocks, pixel shuffle, the trilinear skip.

    features -> residual blocks -> 2 x (conv3x3, pixel shuffle x2) -> (N, 4H, 4W, 3)

Two tails. "full" is the usual one: 64 channels at every scale and two more
convolutions at full resolution. "light" does all its work at low resolution:
conv to 4F channels, shuffle, conv to 12 channels, shuffle; the arithmetic of an
edge model is better spent before.

The last convolution starts at zero and the result is added to the bilinearly
upsampled low-resolution frames (the new frames being the average of their
neighbours), so an untrained network is exactly trilinear upsampling and training
only has to learn what that misses.

Sources: pixel shuffle: Shi et al., CVPR 2016 (arXiv:1609.05158); tail: Zooming
Slow-Mo (arXiv:2002.11616); trilinear skip: Geng et al., RSTT, CVPR 2022
(arXiv:2203.14186).
"""

from typing import Any

import keras
from keras import layers, ops

from keras_megan.layers.composite import Composite
from keras_megan.layers.mobile_operations import uses_mobile_operations
from keras_megan.layers.motion.neighbour_fusion import NeighbourFusion
from keras_megan.layers.pixels.residual_block import ResidualBlock

SCALE = 4
SLOPE = 0.1


@keras.saving.register_keras_serializable("keras_megan")
class PixelShuffle(layers.Layer):
    """Depth to space: (N, H, W, r*r*C) -> (N, r*H, r*W, C).

    Input channel (by*r + bx)*C + c becomes channel c of the pixel (by, bx) of each
    r x r block (TensorFlow's order; other frameworks put c first).

    Args:
        block_size: r.
    """

    def __init__(self, block_size: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.block_size = int(block_size)

    def call(self, inputs):
        block = self.block_size
        if not uses_mobile_operations():
            return ops.depth_to_space(inputs, block)
        # There it comes out wrong for several frames at once; these reshapes are the
        # same.
        batch, height, width, channels = ops.shape(inputs)
        per_row = channels // block
        rows = [
            ops.reshape(
                inputs[..., by * per_row : (by + 1) * per_row],
                (batch, height, width * per_row),
            )
            for by in range(block)
        ]
        shape = (batch, height * block, width * block, channels // block**2)
        return ops.reshape(ops.concatenate(rows, axis=-1), shape)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        block = self.block_size
        if channels % block**2:
            raise ValueError(
                f"{self.name} expected a number of channels that is a multiple of "
                f"{block**2}. Received: input_shape={tuple(input_shape)}."
            )
        height, width = (
            None if size is None else size * block for size in (height, width)
        )
        return (batch, height, width, channels // block**2)

    def get_config(self):
        return {**super().get_config(), "block_size": self.block_size}


def _full_tail(filters, dtype):
    def conv(name, width, **options):
        return layers.Conv2D(
            width, 3, padding="same", dtype=dtype, name=name, **options
        )

    def activation(name):
        return layers.LeakyReLU(SLOPE, dtype=dtype, name=name)

    return [
        conv("expand_1", 4 * filters),
        PixelShuffle(2, dtype=dtype, name="shuffle_1"),
        activation("activation_1"),
        conv("expand_2", 4 * filters),
        PixelShuffle(2, dtype=dtype, name="shuffle_2"),
        activation("activation_2"),
        conv("refine", filters),
        activation("activation_3"),
        conv("to_pixels", 3, kernel_initializer="zeros"),
    ]


def _light_tail(filters, dtype):
    def conv(name, width, **options):
        return layers.Conv2D(
            width, 3, padding="same", dtype=dtype, name=name, **options
        )

    return [
        conv("expand_1", 4 * filters),
        PixelShuffle(2, dtype=dtype, name="shuffle_1"),
        layers.LeakyReLU(SLOPE, dtype=dtype, name="activation_1"),
        conv("to_pixels", 3 * 4, kernel_initializer="zeros"),
        PixelShuffle(2, dtype=dtype, name="shuffle_2"),
    ]


TAILS = {"full": _full_tail, "light": _light_tail}


@keras.saving.register_keras_serializable("keras_megan")
class Reconstruction(Composite):
    """Features to the pixels that upsampling misses: (N, H, W, C) -> (N, 4H, 4W, 3).

    Call arguments:
        inputs: (N, H, W, C).
        to_right, to_left: displacements between neighbours; see `NeighbourFusion`.
            Without them every frame is treated by itself.

    Args:
        filters: C, the width of the residual blocks, equal to the input's.
        blocks: number of residual blocks.
        tail: "full" or "light".
        tail_filters: channels between the two pixel shuffles; None: C.
        neighbours: None, or a dict: "before", the indices of the blocks before which
            frames are joined with their neighbours, and the other arguments of
            `NeighbourFusion` but `filters`.

    Raises:
        ValueError: for an unknown tail, or an index of a block that does not exist.
    """

    def __init__(
        self,
        filters: int,
        blocks: int,
        tail: str = "full",
        tail_filters: int | None = None,
        neighbours: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if tail not in TAILS:
            raise ValueError(f"tail must be one of {tuple(TAILS)}. Received: {tail!r}.")
        self.filters = int(filters)
        self.blocks = int(blocks)
        self.tail = tail
        self.tail_filters = tail_filters
        dtype = self.dtype_policy
        self.residual_blocks = [
            ResidualBlock(filters, dtype=dtype, name=f"block_{i}")
            for i in range(blocks)
        ]
        self.neighbours = dict(neighbours) if neighbours else None
        self.fusions = {}
        if neighbours:
            options = dict(neighbours)
            before = [int(block) for block in options.pop("before")]
            if not set(before) <= set(range(blocks)):
                raise ValueError(
                    "neighbours['before'] must hold indices of the residual blocks, 0 "
                    f"to {blocks - 1}. Received: {before}."
                )
            self.fusions = {
                f"{block}": NeighbourFusion(
                    filters, **options, dtype=dtype, name=f"fusion_{block}"
                )
                for block in before
            }
        self.tail_layers = TAILS[tail](tail_filters or filters, dtype)

    def call(self, inputs, to_right=None, to_left=None):
        outputs = inputs
        for index, block in enumerate(self.residual_blocks):
            fusion = self.fusions.get(f"{index}")
            if fusion is not None and to_right is not None:
                outputs = fusion(outputs, to_right, to_left)
            outputs = block(outputs)
        for layer in self.tail_layers:
            outputs = layer(outputs)
        return outputs

    def build(self, inputs_shape, to_right_shape=None, to_left_shape=None):
        self.lay_out(inputs_shape, *filter(None, (to_right_shape, to_left_shape)))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "blocks": self.blocks,
            "tail": self.tail,
            "tail_filters": self.tail_filters,
            "neighbours": self.neighbours,
        }
