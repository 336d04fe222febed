"""Progressive fusion: each frame is refined with what all frames have in common.

For the T frames' features I_t (C channels each), all convolutions followed by
LeakyReLU(0.2):

    a_t  = conv3x3 (I_t)                    the same weights for every frame
    base = conv1x1 ([a_1, ..., a_T])        T*C -> C, the frames' common ground
    I_t  = I_t + conv3x3 ([base, a_t])      2C -> C, the same weights for every frame

The last convolution is linear in its two halves and `base` is the same for all
frames, so its first half is computed once per clip instead of T times: exactly
the same result and weights (139,456 at 64 channels and 7 frames) with a quarter
fewer multiply-adds.

Source: Yi et al., PFNL, ICCV 2019 (progressive fusion residual blocks).
"""

from typing import Any

import keras
from keras import layers

from keras_megan.layers.composite import Composite
from keras_megan.layers.frames import AddToFrames, FramesToChannels

SLOPE = 0.2


@keras.saving.register_keras_serializable("keras_megan")
class ProgressiveFusionBlock(Composite):
    """One progressive fusion residual block over the frames of a clip.

    Input and output shape: (B*T, H, W, filters).

    Args:
        filters: C, the number of channels, equal to the input's.
        num_frames: T, fixed by the weights of the 1x1 convolution.
    """

    def __init__(self, filters: int, num_frames: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.num_frames = int(num_frames)
        dtype = self.dtype_policy

        def conv(size, name, **options):
            return layers.Conv2D(
                filters, size, padding="same", dtype=dtype, name=name, **options
            )

        def activation(name):
            return layers.LeakyReLU(SLOPE, dtype=dtype, name=name)

        self.frame_conv = conv(3, "frame_conv")
        self.frame_activation = activation("frame_activation")
        self.stack = FramesToChannels(num_frames, dtype=dtype, name="stack")
        self.base_conv = conv(1, "base_conv")
        self.base_activation = activation("base_activation")
        # The two halves of the convolution on [base, a_t]; one bias. They begin with a
        # tenth of Glorot's standard deviation: at the whole of it megan_base, with
        # twenty blocks, hardly began to learn (docs/training.md).
        small = keras.initializers.VarianceScaling(0.01, "fan_avg", "uniform")
        self.merge_base = conv(
            3, "merge_base", use_bias=False, kernel_initializer=small.clone()
        )
        self.merge_frame = conv(3, "merge_frame", kernel_initializer=small.clone())
        self.add_base = AddToFrames(num_frames, dtype=dtype, name="add_base")
        self.merge_activation = activation("merge_activation")

    def call(self, inputs):
        frames = self.frame_activation(self.frame_conv(inputs))
        base = self.base_activation(self.base_conv(self.stack(frames)))
        merged = self.add_base(self.merge_frame(frames), self.merge_base(base))
        return inputs + self.merge_activation(merged)

    def build(self, inputs_shape):
        self.lay_out(inputs_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "num_frames": self.num_frames,
        }
