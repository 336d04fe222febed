"""The motion field between every two neighbouring frames, from their features.

features (B*n, H, W, C) -> embedding -> pyramid -> `MotionField`
images (B*n, H, W, 3)   --------------------------^
"""

import keras
from keras import layers

from keras_megan.layers.composite import Composite
from keras_megan.layers.frames import SelectFrames
from keras_megan.layers.motion.motion_field import MotionField
from keras_megan.layers.motion.pyramid_alignment import FeaturePyramid

SLOPE = 0.1


@keras.saving.register_keras_serializable("keras_megan")
class NeighbourMotion(Composite):
    """Motion from the middle between neighbouring frames into both of them.

    Call arguments:
        features: (B*n, H, W, C), H and W multiples of 2^(levels-1).
        images: (B*n, H, W, 3).

    Output: flow (B*(n-1), H, W, 4), mask (B*(n-1), H, W, 1) and context
    (B*(n-1), H, W, motion_filters); see `MotionField`.

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
        num_frames,
        levels=4,
        reach=12,
        motion_filters=32,
        matching_filters=16,
        finest_filters=None,
        **kwargs,
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
        before, after = (0, num_frames - 1), (1, num_frames)
        self.left = SelectFrames(num_frames, *before, dtype=dtype, name="left")
        self.right = SelectFrames(num_frames, *after, dtype=dtype, name="right")
        self.field = MotionField(
            self.motion_filters, levels, reach, dtype=dtype, name="field"
        )

    def call(self, features, images):
        pyramid = self.pyramid(self.activation(self.embed(features)))
        return self.field(
            [self.left(level) for level in pyramid],
            [self.right(level) for level in pyramid],
            self.left(images),
            self.right(images),
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
