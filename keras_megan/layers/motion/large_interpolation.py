"""New frames from their neighbours' large results, at any time between them.

Enlarging first and interpolating afterwards keeps what enlarging found: a new frame
made of small ones would have to invent its detail again.

    features, images -> motion field halfway     (see `motion_field`)
        -> the field at time t                   MotionAtTime
        -> both neighbours' large frames, moved  LargeAlignment
        -> blended by the occlusion mask         + what a small network corrects

The correction sees both moved frames as s*s phases of the small pixels, with what the
motion estimator knows; it starts at zero.

Sources: time-dependent fields from one: Jiang et al., Super SloMo, CVPR 2018
(arXiv:1712.00080), here along the field's own velocity; phases: Shi et al., CVPR 2016
(arXiv:1609.05158), in reverse.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_megan.layers.composite import Composite
from keras_megan.layers.motion.frame_interpolation import LEAST_WEIGHT, share_inside
from keras_megan.layers.motion.large_alignment import LargeAlignment
from keras_megan.layers.motion.window_alignment import WindowAlignment, kept_inside
from keras_megan.layers.pixels.bilinear_upsampling import BilinearUpsampling
from keras_megan.layers.pixels.reconstruction import SCALE, PixelShuffle

SLOPE = 0.1
#: Times are kept this far from both ends, where the odds of the mask are infinite.
LEAST_TIME = 1e-3


@keras.saving.register_keras_serializable("keras_megan")
class MotionAtTime(layers.Layer):
    """Carries a motion field from the middle to another time along its velocity.

    With F the field halfway and v = F(to right) - F(to left) the motion from the left
    frame to the right one, the field at time t is that of the middle, looked up at
    p - (t - 1/2) v, less (t - 1/2) v in both parts; log((1-t)/t) is added to the logit
    of taking the left frame. At one half nothing changes.

    Call arguments:
        flow: (N, H, W, 4), displacements into the left and the right frame, in pixels.
        logits: (N, H, W, 1), of taking the left frame.
        context: (N, H, W, C), carried along.
        times: (N,) or (N, 1), in (0, 1).

    Output: flow, logits and context at those times, of the same shapes.

    Args:
        reach: largest displacement, in pixels.
    """

    def __init__(self, reach: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.reach = int(reach)
        self.sampler = WindowAlignment(self.reach, dtype="float32", name="sampler")

    def build(self, flow_shape, logits_shape, context_shape, times_shape):
        self.sampler.build(flow_shape)

    def call(self, flow, logits, context, times):
        times = ops.reshape(ops.cast(times, "float32"), (-1, 1, 1, 1))
        times = ops.clip(times, LEAST_TIME, 1.0 - LEAST_TIME)
        shape = ops.shape(flow)
        flow = ops.cast(flow, "float32")
        moved = (times - 0.5) * (flow[..., 2:] - flow[..., :2])
        place = kept_inside(-moved, shape[1], shape[2])
        parts = [flow, ops.cast(logits, "float32"), ops.cast(context, "float32")]
        looked_up = self.sampler(ops.concatenate(parts, axis=-1), place)
        flow = looked_up[..., :4] - ops.concatenate([moved, moved], axis=-1)
        logits = looked_up[..., 4:5] + ops.log((1.0 - times) / times)
        carried = flow, logits, looked_up[..., 5:]
        return tuple(ops.cast(tensor, self.compute_dtype) for tensor in carried)

    def compute_output_spec(self, flow, logits, context, times):
        return tuple(
            keras.KerasTensor(tensor.shape, self.compute_dtype)
            for tensor in (flow, logits, context)
        )

    def get_config(self):
        return {**super().get_config(), "reach": self.reach}


@keras.saving.register_keras_serializable("keras_megan")
class LeftShare(layers.Layer):
    """The left frame's part in the blend: its mask, and whether it sees the pixel.

    Call arguments:
        logits: (N, H, W, 1); the mask m is their sigmoid.
        flow: (N, H, W, 4), displacements into the left and the right frame, in pixels.

    Output shape: (N, H, W, 1): m*i_l / (m*i_l + (1-m)*i_r), with i the share of each
    bilinear sample that lies inside the image.
    """

    def call(self, logits, flow):
        mask = ops.sigmoid(ops.cast(logits, "float32"))
        flow = ops.cast(flow, "float32")
        left = mask * share_inside(flow[..., :2])
        right = (1.0 - mask) * share_inside(flow[..., 2:])
        # Where neither frame sees the pixel, the mask alone decides.
        share = (left + LEAST_WEIGHT * mask) / (left + right + LEAST_WEIGHT)
        return ops.cast(share, self.compute_dtype)

    def compute_output_shape(self, logits_shape, flow_shape):
        return logits_shape

    def get_config(self):
        # Keras cannot derive it where the dtype was given as a policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_megan")
class PixelUnshuffle(layers.Layer):
    """Space to depth: (N, r*H, r*W, C) -> (N, H, W, r*r*C); undoes `PixelShuffle`.

    A convolution with a constant 0/1 kernel, which every runtime computes rightly.

    Args:
        block_size: r.
    """

    def __init__(self, block_size: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.block_size = int(block_size)

    def call(self, inputs):
        block, channels = self.block_size, inputs.shape[-1]
        size = block * block * channels
        kernel = np.eye(size, dtype="float32").reshape(block, block, channels, size)
        return ops.conv(
            inputs,
            ops.cast(kernel, inputs.dtype),
            strides=block,
            padding="valid",
            data_format="channels_last",
        )

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        block = self.block_size
        height, width = (
            None if size is None else size // block for size in (height, width)
        )
        return (batch, height, width, channels * block**2)

    def get_config(self):
        return {**super().get_config(), "block_size": self.block_size}


@keras.saving.register_keras_serializable("keras_megan")
class LargeInterpolation(Composite):
    """The large frames between, from both neighbours' large frames.

    Call arguments:
        left, right: (N, 4H, 4W, 3), the neighbours enlarged.
        flow: (N, H, W, 4); logits: (N, H, W, 1); context: (N, H, W, C). See
            `MotionField`.

    Output shape: (N, 4H, 4W, 3).

    Args:
        filters: channels of the correction's hidden layer; 0: no correction.
        reach: largest displacement, in small pixels.
    """

    def __init__(self, filters: int, reach: int = 12, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.reach = int(reach)
        dtype = self.dtype_policy
        self.align = LargeAlignment(reach, SCALE, dtype="float32", name="align")
        self.share = LeftShare(dtype="float32", name="share")
        self.enlarge = BilinearUpsampling(SCALE, dtype="float32", name="enlarge")
        if self.filters:
            self.phases = PixelUnshuffle(SCALE, dtype=dtype, name="phases")
            self.concatenate = layers.Concatenate(dtype=dtype, name="concatenate")
            self.hidden = layers.Conv2D(
                self.filters, 3, padding="same", dtype=dtype, name="hidden"
            )
            self.activation = layers.LeakyReLU(SLOPE, dtype=dtype, name="activation")
            self.correct = layers.Conv2D(
                3 * SCALE**2,
                3,
                padding="same",
                kernel_initializer="zeros",
                dtype=dtype,
                name="correct",
            )
            self.shuffle = PixelShuffle(SCALE, dtype=dtype, name="shuffle")
            self.add = layers.Add(dtype="float32", name="add")

    def call(self, left, right, flow, logits, context):
        left = self.align(left, flow[..., :2])
        right = self.align(right, flow[..., 2:])
        share = self.enlarge(self.share(logits, flow))
        between = right + share * (left - right)
        if not self.filters:
            return between
        seen = self.concatenate([self.phases(left), self.phases(right), context])
        hidden = self.activation(self.hidden(seen))
        return self.add([between, self.shuffle(self.correct(hidden))])

    def build(self, left_shape, right_shape, flow_shape, logits_shape, context_shape):
        self.lay_out(left_shape, right_shape, flow_shape, logits_shape, context_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "reach": self.reach,
        }
