"""The two ways from frames to large frames, and the trunk behind both.

A base makes large frames that an untrained network already gets right: `small_base`
interpolates small frames and enlarges them, `large_base` enlarges given frames and
makes new ones of their neighbours' large results (see `megan`). The trunk adds what the
base misses.
"""

from collections.abc import Callable
from typing import Any

from keras import layers

from keras_megan.layers.attention.memory_graph import MemoryGraphAggregation
from keras_megan.layers.attention.non_local import NonLocalResidualBlock
from keras_megan.layers.frames import InterleaveFrames
from keras_megan.layers.motion.frame_interpolation import (
    FrameInterpolation,
    OcclusionBlend,
)
from keras_megan.layers.motion.large_interpolation import (
    LargeInterpolation,
    MotionAtTime,
)
from keras_megan.layers.motion.motion_field import SampleBothSides
from keras_megan.layers.motion.neighbour_fusion import MotionToNeighbours
from keras_megan.layers.motion.neighbour_motion import NeighbourMotion, left_and_right
from keras_megan.layers.pixels.bilinear_upsampling import BilinearUpsampling
from keras_megan.layers.pixels.progressive_fusion import ProgressiveFusionBlock
from keras_megan.layers.pixels.reconstruction import SCALE, Reconstruction
from keras_megan.layers.pixels.still_network import StillNetwork

#: What `alignment_options` may hold where large frames are moved.
MOTION_OPTIONS = (
    "levels",
    "reach",
    "motion_filters",
    "matching_filters",
    "finest_filters",
)


def has_trunk(config: dict[str, Any]) -> bool:
    """Whether a config has anything that follows on the features of all frames."""
    parts = ("memory", "non_local_blocks", "fusion_blocks")
    return not config["still_blocks"] or any(config[part] for part in parts)


def trunk(config: dict[str, Any], policy: Any) -> list:
    """The layers from the features of all 2T-1 frames to what the base misses."""
    if not has_trunk(config):
        return []
    filters, total = config["filters"], 2 * config["num_frames"] - 1
    parts = []
    if config["memory"]:
        size = config["descriptor_size"]
        parts.append(
            MemoryGraphAggregation(
                filters, total, config["memory"], size, dtype=policy, name="memory"
            )
        )
    parts += [
        NonLocalResidualBlock(
            filters, config["non_local_pool"], dtype=policy, name=f"non_local_{i}"
        )
        for i in range(config["non_local_blocks"])
    ]
    parts += [
        ProgressiveFusionBlock(filters, total, dtype=policy, name=f"fusion_{i}")
        for i in range(config["fusion_blocks"])
    ]
    parts.append(
        Reconstruction(
            filters,
            config["reconstruction_blocks"],
            config["tail"],
            config["tail_filters"],
            dtype=policy,
            name="reconstruct",
        )
    )
    return parts


def _apply(stack, features):
    for layer in stack:
        features = layer(features)
    return features


def small_base(
    config: dict[str, Any], extraction: list, trunk: list, policy: Any
) -> tuple[int, Callable]:
    """New frames start from small ones: (size's multiple, images -> large frames)."""
    num_frames = config["num_frames"]
    interpolate = FrameInterpolation(
        config["filters"],
        num_frames,
        config["alignment"],
        dtype=policy,
        name="interpolate",
        **config["alignment_options"],
    )
    all_features = InterleaveFrames(num_frames, dtype=policy, name="all_features")
    all_images = InterleaveFrames(num_frames, dtype="float32", name="all_images")
    upsample = BilinearUpsampling(SCALE, dtype="float32", name="upsample")
    add = layers.Add(dtype="float32", name="add")

    def network(images, times=None):
        features = _apply(extraction, images)
        between, images_between = interpolate(features, images)
        features = _apply(trunk, all_features(features, between))
        return add([features, upsample(all_images(images, images_between))])

    return 2 ** (interpolate.branch.levels - 1), network


def large_base(
    config: dict[str, Any], extraction: list, trunk: list, policy: Any
) -> tuple[int, Callable]:
    """New frames start from large ones: (size's multiple, images -> large frames)."""
    options, num_frames = config["alignment_options"], config["num_frames"]
    unknown = sorted(set(options) - set(MOTION_OPTIONS))
    if config["alignment"] != "window" or unknown:
        raise ValueError(
            'still_blocks needs alignment="window" with options among '
            f"{', '.join(MOTION_OPTIONS)}. Received: alignment="
            f"{config['alignment']!r}, alignment_options={options}."
        )
    motion = NeighbourMotion(num_frames, dtype=policy, name="motion", **options)
    neighbours = config["neighbours"]
    if neighbours:
        neighbours = {
            **neighbours,
            "num_frames": num_frames,
            "reach": 2 * motion.reach,
        }
        to_neighbours = MotionToNeighbours(
            motion.reach, dtype="float32", name="to_neighbours"
        )
    still_filters = config["still_filters"] or config["filters"]
    still = StillNetwork(
        still_filters,
        config["still_blocks"],
        config["still_tail_filters"] or still_filters // 2,
        neighbours,
        dtype=policy,
        name="still",
    )
    at_time = MotionAtTime(motion.reach, dtype="float32", name="at_time")
    interpolate = LargeInterpolation(
        config["correction_filters"], motion.reach, dtype=policy, name="between"
    )
    left, right = left_and_right(num_frames, "float32")
    all_large = InterleaveFrames(num_frames, dtype="float32", name="all_large")
    if trunk:
        sample = SampleBothSides(motion.reach, dtype=policy, name="sample")
        blend = OcclusionBlend(dtype=policy, name="blend")
        all_features = InterleaveFrames(num_frames, dtype=policy, name="all_features")
        add = layers.Add(dtype="float32", name="add")

    def network(images, times=None):
        features = _apply(extraction, images)
        flow, mask, context = motion(features, images)
        large = still(images, *(to_neighbours(flow) if neighbours else ()))
        if times is not None:
            flow, mask, context = at_time(flow, mask, context, times)
        between = interpolate(left(large), right(large), flow, mask, context)
        frames = all_large(large, between)
        if not trunk:
            return frames
        sides = sample(left(features), right(features), flow)
        features = all_features(features, blend(*sides, mask, flow))
        return add([frames, _apply(trunk, features)])

    return 2 ** (motion.levels - 1), network
