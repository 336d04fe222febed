"""The motion field between every two neighbouring frames, from their features.

features (B*n, H, W, C) -> embedding -> pyramid -> `MotionField`
images (B*n, H, W, 3)   --------------------------^
"""

from typing import Any

import keras
from keras import layers

from keras_megan.layers.composite import Composite
from keras_megan.layers.frames import SelectFrames
from keras_megan.layers.motion.motion_field import MotionField
from keras_megan.layers.motion.pyramid_alignment import FeaturePyramid

SLOPE = 0.1


def left_and_right(num_frames, dtype):
    """Two layers that select, of n frames, the left and the right of each pair."""
    return (
        SelectFrames(num_frames, 0, num_frames - 1, dtype=dtype, name="left"),
        SelectFrames(num_frames, 1, num_frames, dtype=dtype, name="right"),
    )


class MotionEstimate(Composite):
    """Base of the layers that estimate motion between neighbouring frames.

    A subclass keeps the `MotionField` that `make_field` returns in an attribute of its
    own and hands it to `estimate`: the attribute's name is part of the path under which
    the weights are saved.

    Args:
        num_frames: n, the given frames of a clip.
        levels: number of pyramid levels.
        reach: largest motion per frame, in low-resolution pixels.
        motion_filters: width of the motion estimators.
        matching_filters: channels in which the frames are compared at the coarser
            levels.
        finest_filters: the same at the finest level; None: `matching_filters`.
    """

    def __init__(
        self,
        num_frames: int,
        levels: int = 4,
        reach: int = 12,
        motion_filters: int = 32,
        matching_filters: int = 16,
        finest_filters: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_frames = int(num_frames)
        self.levels = int(levels)
        self.reach = int(reach)
        self.motion_filters = int(motion_filters)
        self.matching_filters = int(matching_filters)
        self.finest_filters = int(finest_filters or matching_filters)
        dtype = self.dtype_policy
        self.embed = layers.Conv2D(self.finest_filters, 1, dtype=dtype, name="embed")
        self.activation = layers.LeakyReLU(SLOPE, dtype=dtype, name="activation")
        self.pyramid = FeaturePyramid(
            self.matching_filters, levels, convolutions=1, dtype=dtype, name="pyramid"
        )
        self.left, self.right = left_and_right(num_frames, dtype)

    def make_field(self, name):
        """The motion estimator of this layer's settings."""
        return MotionField(
            self.motion_filters,
            self.levels,
            self.reach,
            dtype=self.dtype_policy,
            name=name,
        )

    def estimate(self, field, features, left_image, right_image):
        """Flow, mask and context halfway between neighbours; see `MotionField`.

        Args:
            field: the `MotionField`.
            features: (B*n, H, W, C).
            left_image, right_image: (B*(n-1), H, W, 3), the pairs' images.
        """
        pyramid = self.pyramid(self.activation(self.embed(features)))
        return field(
            [self.left(level) for level in pyramid],
            [self.right(level) for level in pyramid],
            left_image,
            right_image,
        )

    def build(self, features_shape, images_shape):
        self.lay_out(features_shape, images_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "num_frames": self.num_frames,
            "levels": self.levels,
            "reach": self.reach,
            "motion_filters": self.motion_filters,
            "matching_filters": self.matching_filters,
            "finest_filters": self.finest_filters,
        }


@keras.saving.register_keras_serializable("keras_megan")
class NeighbourMotion(MotionEstimate):
    """Motion from the middle between neighbouring frames into both of them.

    Call arguments:
        features: (B*n, H, W, C), H and W multiples of 2^(levels-1).
        images: (B*n, H, W, 3).

    Output: flow (B*(n-1), H, W, 4), mask (B*(n-1), H, W, 1) and context
    (B*(n-1), H, W, motion_filters); see `MotionField`.

    Args: see `MotionEstimate`.
    """

    def __init__(self, num_frames: int, *args, **kwargs: Any):
        super().__init__(num_frames, *args, **kwargs)
        self.field = self.make_field("field")

    def call(self, features, images):
        return self.estimate(
            self.field, features, self.left(images), self.right(images)
        )
