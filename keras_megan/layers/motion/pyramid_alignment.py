"""Pyramid deformable alignment: one frame's features moved onto another's place.

Both frames come as feature pyramids, finest level first, every level half the
size of the one before. From the coarsest level up, an offset feature is made of
the two frames and of the coarser level's offset feature, and a deformable
convolution samples the source with it:

    coarsest:  o = act(conv[source, target]); o = act(conv o)
               y = act(deform(source, o))
    finer:     o = act(conv[source, target]); o = act(conv[o, 2*up(o_coarser)])
               o = act(conv o)
               y = act(conv[deform(source, o), up(y_coarser)])
    finest:    as finer, without the last act

up is bilinear x2; act is LeakyReLU(0.1). At 64 channels and three levels one
direction has 1,112,008 parameters, the two of frame interpolation 2,224,016.

Sources: Wang et al., EDVR, CVPRW 2019 (arXiv:1905.02716); in this form, without
cascading: Xiang et al., Zooming Slow-Mo, CVPR 2020 (arXiv:2002.11616).
"""

from typing import Any

import keras
from keras import layers

from keras_megan.layers.composite import Composite
from keras_megan.layers.motion.deformable_conv2d import DeformableConv2D
from keras_megan.layers.pixels.bilinear_upsampling import BilinearUpsampling

SLOPE = 0.1


@keras.saving.register_keras_serializable("keras_megan")
class FeaturePyramid(Composite):
    """(N, H, W, C) -> a list of `levels` features, each half the size of the last.

    Output shapes: (N, H, W, C), (N, H/2, W/2, filters), ... H and W must be
    multiples of 2^(levels-1).

    Args:
        filters: channels of the coarser levels.
        levels: number of levels, the input itself being the first.
        convolutions: convolutions per level, the first with stride 2.
    """

    def __init__(
        self, filters: int, levels: int = 3, convolutions: int = 2, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.levels = int(levels)
        self.convolutions = int(convolutions)
        dtype = self.dtype_policy
        self.level_layers = [
            self._level_layers(level, dtype) for level in range(1, self.levels)
        ]

    def _level_layers(self, level, dtype):
        # Padding on both sides: "same" would pad a stride of 2 on one side only.
        stack = [layers.ZeroPadding2D(1, dtype=dtype, name=f"pad_{level}")]
        for i in range(self.convolutions):
            stack += [
                layers.Conv2D(
                    self.filters,
                    3,
                    strides=1 if i else 2,
                    padding="same" if i else "valid",
                    dtype=dtype,
                    name=f"conv_{level}_{i}",
                ),
                layers.LeakyReLU(SLOPE, dtype=dtype, name=f"activation_{level}_{i}"),
            ]
        return stack

    def call(self, inputs):
        pyramid = [inputs]
        for stack in self.level_layers:
            level = pyramid[-1]
            for layer in stack:
                level = layer(level)
            pyramid.append(level)
        return pyramid

    def build(self, inputs_shape):
        self.lay_out(inputs_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "levels": self.levels,
            "convolutions": self.convolutions,
        }


@keras.saving.register_keras_serializable("keras_megan")
class PyramidAlignment(Composite):
    """Aligns the source frame's features with the target frame.

    Call arguments:
        source: list of (N, H/2^l, W/2^l, filters), l = 0..levels-1: what moves.
        target: the same of the frame to align with.

    Output shape: (N, H, W, filters).

    Args:
        filters: number of channels.
        levels: number of pyramid levels.
        offset_groups: groups of channels that share offsets.
    """

    def __init__(
        self, filters: int, levels: int = 3, offset_groups: int = 8, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.levels = int(levels)
        self.offset_groups = int(offset_groups)
        dtype = self.dtype_policy

        def conv(name):
            return layers.Conv2D(filters, 3, padding="same", dtype=dtype, name=name)

        coarsest = self.levels - 1
        self.pair_convs = [conv(f"pair_{i}") for i in range(levels)]
        self.carry_convs = [conv(f"carry_{i}") for i in range(coarsest)]
        self.offset_convs = [conv(f"offset_{i}") for i in range(levels)]
        self.samplers = [
            DeformableConv2D(
                filters,
                3,
                offset_groups=offset_groups,
                dtype=dtype,
                name=f"sample_{i}",
            )
            for i in range(levels)
        ]
        self.merge_convs = [conv(f"merge_{i}") for i in range(coarsest)]
        self.activation = layers.LeakyReLU(SLOPE, dtype=dtype, name="activation")
        self.concatenate = layers.Concatenate(dtype=dtype, name="concatenate")
        self.upsample = BilinearUpsampling(2, dtype=dtype, name="upsample")
        # Offsets are counted in pixels of their level.
        self.twice = layers.Rescaling(2.0, dtype=dtype, name="double")

    def call(self, source, target):
        act, join = self.activation, self.concatenate
        offset, aligned = None, None
        for level in reversed(range(self.levels)):
            pair = join([source[level], target[level]])
            finer = act(self.pair_convs[level](pair))
            if offset is not None:
                carried = self.twice(self.upsample(offset))
                finer = act(self.carry_convs[level](join([finer, carried])))
            offset = act(self.offset_convs[level](finer))
            sampled = self.samplers[level](source[level], offset)
            if aligned is None:
                aligned = act(sampled)
            else:
                sampled = join([sampled, self.upsample(aligned)])
                aligned = self.merge_convs[level](sampled)
                aligned = act(aligned) if level else aligned
        return aligned

    def build(self, source_shape, target_shape):
        self.lay_out(source_shape, target_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "levels": self.levels,
            "offset_groups": self.offset_groups,
        }
