"""The missing frames' features, from the frames on both sides.

Of n given frames, every neighbouring pair (left, right) yields one frame between:

    features (B*n, H, W, C), images (B*n, H, W, 3)
        -> features (B*(n-1), H, W, C), images (B*(n-1), H, W, 3)

Two ways to bring both sides to the middle:

    "deformable"  pyramid deformable alignment in both directions with weights of
                  their own, then a 1x1 convolution over the two. Unbounded motion.
                  The images between are the plain average of their neighbours.
    "window"      a motion field into both frames, estimated coarse to fine, moves
                  features and images alike; an occlusion mask blends them, a
                  convolution adds what moving misses. Motion up to `reach` pixels
                  per frame, and every operation runs on mobile GPUs.

The images between are what the skip connection upsamples, so with "window" motion
reaches the output directly. Untrained, both give the average of the neighbours.

Source: feature-level temporal interpolation: Xiang et al., Zooming Slow-Mo, CVPR 2020
(arXiv:2002.11616); the window branch is this project's own, see `motion_field`.
"""

from typing import Any

import keras
from keras import layers, ops

from keras_megan.layers.composite import Composite
from keras_megan.layers.motion.motion_field import SampleBothSides
from keras_megan.layers.motion.neighbour_motion import MotionEstimate, left_and_right
from keras_megan.layers.motion.pyramid_alignment import FeaturePyramid, PyramidAlignment

SLOPE = 0.1
# Where neither side sees a pixel, the blend's weights sum to nearly nothing.
LEAST_WEIGHT = 1e-2


@keras.saving.register_keras_serializable("keras_megan")
class OcclusionBlend(layers.Layer):
    """Blends two moved frames by a mask and by what lies inside their images.

    Call arguments:
        left, right: (N, H, W, C), sampled with zeros outside the image.
        logits: (N, H, W, 1); the mask m is their sigmoid, the left one's part.
        flow: (N, H, W, 4), the displacements they were sampled at, in pixels.

    Output shape: (N, H, W, C): (m*left + (1-m)*right) / (m*i_l + (1-m)*i_r), with i the
    share of each bilinear sample that lay inside the image.
    """

    def call(self, left, right, logits, flow):
        mask = ops.sigmoid(ops.cast(logits, "float32"))
        flow = ops.cast(flow, "float32")
        left_inside = share_inside(flow[..., :2])
        right_inside = share_inside(flow[..., 2:])
        weight = mask * left_inside + (1.0 - mask) * right_inside
        weight = ops.maximum(weight, LEAST_WEIGHT)
        take_left = ops.cast(mask / weight, left.dtype)
        take_right = ops.cast((1.0 - mask) / weight, left.dtype)
        return left * take_left + right * take_right

    def compute_output_shape(self, left_shape, right_shape, logits_shape, flow_shape):
        return left_shape

    def get_config(self):
        # Keras cannot derive it where the dtype was given as a policy.
        return super().get_config()


def share_inside(displacement):
    """Share of the bilinear sample at p + displacement that is inside: (N, H, W, 1)."""
    _, height, width, _ = ops.shape(displacement)
    inside = None
    for axis, size in ((1, height), (2, width)):
        place = ops.arange(size, dtype="float32")
        place = ops.reshape(place, (1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1))
        place = place + displacement[..., axis - 1 : axis]
        last = ops.cast(size, "float32")
        share = ops.clip(place + 1.0, 0.0, 1.0) * ops.clip(last - place, 0.0, 1.0)
        inside = share if inside is None else inside * share
    return inside


@keras.saving.register_keras_serializable("keras_megan")
class DeformableInterpolation(Composite):
    """Both sides by pyramid deformable alignment, blended by a 1x1 convolution.

    Call arguments and output: as `FrameInterpolation`.
    """

    def __init__(
        self,
        filters: int,
        num_frames: int,
        levels: int = 3,
        offset_groups: int = 8,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.num_frames = int(num_frames)
        self.levels = int(levels)
        self.offset_groups = int(offset_groups)
        dtype = self.dtype_policy
        self.pyramid = FeaturePyramid(filters, levels, dtype=dtype, name="pyramid")
        self.left, self.right = left_and_right(num_frames, dtype)
        self.align_left, self.align_right = (
            PyramidAlignment(filters, levels, offset_groups, dtype=dtype, name=name)
            for name in ("align_left", "align_right")
        )
        self.concatenate = layers.Concatenate(dtype=dtype, name="concatenate")
        self.blend = layers.Conv2D(filters, 1, dtype=dtype, name="blend")
        self.average = layers.Average(dtype=dtype, name="average")

    def call(self, features, images):
        pyramid = self.pyramid(features)
        left = [self.left(level) for level in pyramid]
        right = [self.right(level) for level in pyramid]
        both = [self.align_left(left, right), self.align_right(right, left)]
        between = self.blend(self.concatenate(both))
        return between, self.average([self.left(images), self.right(images)])

    def build(self, features_shape, images_shape):
        self.lay_out(features_shape, images_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "num_frames": self.num_frames,
            "levels": self.levels,
            "offset_groups": self.offset_groups,
        }


@keras.saving.register_keras_serializable("keras_megan")
class WindowInterpolation(MotionEstimate):
    """Both sides by a bounded motion field, blended by an occlusion mask.

    Call arguments and output: as `FrameInterpolation`.

    Args:
        filters: channels of the features.
        num_frames, levels, reach, finest_filters: see `MotionEstimate`.
        motion_filters: width of the motion estimators; None: `filters`.
        matching_filters: channels in which the frames are compared at the coarser
            levels; None: half of `filters`.
    """

    def __init__(
        self,
        filters: int,
        num_frames: int,
        levels: int = 4,
        reach: int = 12,
        motion_filters: int | None = None,
        matching_filters: int | None = None,
        finest_filters: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            num_frames,
            levels,
            reach,
            motion_filters or filters,
            matching_filters or max(8, filters // 2),
            finest_filters,
            **kwargs,
        )
        self.filters = int(filters)
        dtype = self.dtype_policy
        self.motion = self.make_field("motion")
        self.concatenate = layers.Concatenate(dtype=dtype, name="concatenate")
        self.sample = SampleBothSides(reach, dtype=dtype, name="sample")
        self.blend = OcclusionBlend(dtype=dtype, name="blend")
        self.correct = layers.Conv2D(
            filters, 3, padding="same", dtype=dtype, name="correct"
        )

    def motion_alone(self, features: Any, images: Any) -> tuple[Any, Any]:
        """Flow (B*(n-1), H, W, 4) and images between, without moving the features."""
        sides = self.left(images), self.right(images)
        flow, mask, _ = self.estimate(self.motion, features, *sides)
        return flow, self.blend(*self.sample(*sides, flow), mask, flow)

    def call(self, features, images):
        left_image, right_image = self.left(images), self.right(images)
        flow, mask, context = self.estimate(
            self.motion, features, left_image, right_image
        )
        join = self.concatenate
        left, right = self.sample(
            join([self.left(features), left_image]),
            join([self.right(features), right_image]),
            flow,
        )
        between = self.blend(left, right, mask, flow)
        missed = self.correct(
            join([left[..., : self.filters], right[..., : self.filters], context])
        )
        return between[..., : self.filters] + missed, between[..., self.filters :]

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


ALIGNMENTS = {"deformable": DeformableInterpolation, "window": WindowInterpolation}


@keras.saving.register_keras_serializable("keras_megan")
class FrameInterpolation(Composite):
    """Features and images of the frames between n given ones.

    Call arguments:
        features: (B*n, H, W, filters), H and W multiples of 2^(levels-1).
        images: (B*n, H, W, 3), the low-resolution frames themselves.

    Output: features (B*(n-1), H, W, filters) and images (B*(n-1), H, W, 3).

    Args:
        filters: number of channels.
        num_frames: n, the given frames of a clip, at least 2.
        alignment: "deformable" or "window".
        **options: of the alignment: `levels`; `offset_groups` of "deformable";
            `reach`, `motion_filters`, `matching_filters`, `finest_filters` of
            "window".
    """

    def __init__(
        self,
        filters: int,
        num_frames: int,
        alignment: str = "deformable",
        **options: Any,
    ):
        of_any_layer = options.keys() & {"name", "dtype", "trainable"}
        super().__init__(**{key: options.pop(key) for key in of_any_layer})
        if alignment not in ALIGNMENTS:
            raise ValueError(
                f"alignment must be one of {tuple(ALIGNMENTS)}. "
                f"Received: {alignment!r}."
            )
        if num_frames < 2:
            raise ValueError(
                "FrameInterpolation needs at least 2 given frames to find one between. "
                f"Received: num_frames={num_frames}."
            )
        self.filters = int(filters)
        self.num_frames = int(num_frames)
        self.alignment = alignment
        self.options = options
        self.branch = ALIGNMENTS[alignment](
            filters, num_frames, dtype=self.dtype_policy, name=alignment, **options
        )

    def call(self, features, images):
        return self.branch(features, images)

    def build(self, features_shape, images_shape):
        self.lay_out(features_shape, images_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "num_frames": self.num_frames,
            "alignment": self.alignment,
            **self.options,
        }
