"""What a given frame learns from its neighbours, aligned along the motion field.

A given frame shows its scene on a grid of its own; its neighbours show nearly the same
on grids that motion has shifted by parts of a pixel. So a few channels of both are
moved to the frame before its residual blocks continue:

    flow halfway -> displacements between the given frames     MotionToNeighbours
    features -> conv1x1 -> moved here from both sides -> conv3x3s -> + features

The last convolution starts at zero, so a network to which this is added computes what
it did before.

Sources: propagation along estimated motion: Chan et al., BasicVSR, CVPR 2021
(arXiv:2012.02181); fields at other times from the middle one: Jiang et al., Super
SloMo, CVPR 2018 (arXiv:1712.00080).
"""

from typing import Any

import keras
from keras import layers, ops

from keras_megan.layers.composite import Composite
from keras_megan.layers.frames import JoinNeighbours, SelectFrames
from keras_megan.layers.motion.large_alignment import LargeAlignment
from keras_megan.layers.motion.window_alignment import WindowAlignment, kept_inside

SLOPE = 0.1


@keras.saving.register_keras_serializable("keras_megan")
class MotionToNeighbours(layers.Layer):
    """From a field halfway between two frames to the displacements between them.

    With F the field and v = F(to right) - F(to left) the motion from the left frame to
    the right one, a pixel p of the left frame is found in the right one at p + v,
    with v looked up halfway there, at p + v / 2; likewise from the right frame.

    Call arguments:
        flow: (N, H, W, 4), displacements (dy, dx) from the middle into the left and
            the right frame, in pixels.

    Output: a tuple of two tensors (N, H, W, 2), the displacements from the left frame
    into the right one and from the right frame into the left one.

    Args:
        reach: largest displacement of the field, in pixels.
    """

    def __init__(self, reach: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.reach = int(reach)
        self.sampler = WindowAlignment(self.reach, dtype="float32", name="sampler")

    def build(self, flow_shape):
        self.sampler.build(flow_shape)

    def call(self, flow):
        flow = ops.cast(flow, "float32")
        shape = ops.shape(flow)
        motion = flow[..., 2:] - flow[..., :2]
        looked_up = [
            self.sampler(motion, kept_inside(part * motion, shape[1], shape[2]))
            for part in (0.5, -0.5)
        ]
        to_right, to_left = looked_up[0], -looked_up[1]
        return tuple(ops.cast(part, self.compute_dtype) for part in (to_right, to_left))

    def compute_output_spec(self, flow):
        # Two tensors of their own: one that is returned twice would stand for both.
        shape = (*flow.shape[:-1], 2)
        return tuple(keras.KerasTensor(shape, self.compute_dtype) for _ in range(2))

    def get_config(self):
        return {**super().get_config(), "reach": self.reach}


@keras.saving.register_keras_serializable("keras_megan")
class NeighbourFusion(Composite):
    """Adds to each frame's features what both neighbours show of the same places.

    Call arguments:
        features: (B*T, H, W, C).
        to_right, to_left: (B*(T-1), H, W, 2), displacements between neighbours in
            pixels; see `MotionToNeighbours`.

    Output shape: (B*T, H, W, C). The first and the last frame of a clip have one
    neighbour each and take themselves for the other.

    Args:
        filters: C.
        num_frames: T.
        moved_filters: channels that are moved.
        hidden_filters: channels between the two convolutions.
        reach: largest displacement, in pixels.
    """

    def __init__(
        self,
        filters: int,
        num_frames: int,
        moved_filters: int,
        hidden_filters: int,
        reach: int,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.num_frames = int(num_frames)
        self.moved_filters = int(moved_filters)
        self.hidden_filters = int(hidden_filters)
        self.reach = int(reach)
        dtype = self.dtype_policy
        self.embed = layers.Conv2D(moved_filters, 1, dtype=dtype, name="embed")
        self.move = LargeAlignment(self.reach, scale=1, dtype=dtype, name="move")
        self.neighbours = JoinNeighbours(num_frames, dtype=dtype, name="neighbours")
        self.conv = layers.Conv2D(
            hidden_filters, 3, padding="same", dtype=dtype, name="conv"
        )
        self.activation = layers.LeakyReLU(SLOPE, dtype=dtype, name="activation")
        self.merge = layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer="zeros",
            dtype=dtype,
            name="merge",
        )
        self.but_last = SelectFrames(num_frames, 0, num_frames - 1, dtype=dtype)
        self.but_first = SelectFrames(num_frames, 1, num_frames, dtype=dtype)
        self.add = layers.Add(dtype=dtype, name="add")

    def call(self, features, to_right, to_left):
        moved = self.embed(features)
        from_right = self.move(self.but_first(moved), to_right)
        from_left = self.move(self.but_last(moved), to_left)
        joined = self.neighbours(moved, from_left, from_right)
        hidden = self.activation(self.conv(joined))
        return self.add([features, self.merge(hidden)])

    def build(self, features_shape, to_right_shape, to_left_shape):
        self.lay_out(features_shape, to_right_shape, to_left_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "num_frames": self.num_frames,
            "moved_filters": self.moved_filters,
            "hidden_filters": self.hidden_filters,
            "reach": self.reach,
        }
