"""Baselines that need no network.

Each takes T small frames, uint8 (T, H, W, 3), and returns the 2T-1 large ones, float32
(2T-1, 4H, 4W, 3) in [0, 1]: the protocol of networks in
`keras_megan.video.models.runner`, so that networks and baselines are measured in the
same way. Register another with ``@register_baseline("name")`` and ``--baselines name``
finds it.

``trilinear`` is the floor, and what an untrained MEGAN computes. ``bicubic_blend``
enlarges better but still superimposes moving things twice. ``bicubic_dis`` is the one
to beat on new frames: it adds no detail, but it compensates motion of any
size, by dense inverse search (Kroeger et al., ECCV 2016) on the enlarged frames.
"""

from collections.abc import Callable

import cv2
import numpy as np

from keras_megan.imaging.resize import (
    imresize,
    interleave_midpoints,
    trilinear_upsample,
)

SCALE = 4
Method = Callable[[np.ndarray], np.ndarray]
BASELINES: dict[str, Method] = {}


def register_baseline(name: str) -> Callable[[Method], Method]:
    """Decorator that makes a function selectable by ``--baselines``."""

    def register(function: Method) -> Method:
        BASELINES[name] = function
        return function

    return register


@register_baseline("trilinear")
def trilinear(frames: np.ndarray) -> np.ndarray:
    """Linear interpolation in space and time."""
    return trilinear_upsample(_to_float(frames), SCALE)


@register_baseline("bicubic_blend")
def bicubic_blend(frames: np.ndarray) -> np.ndarray:
    """Bicubic in space, the average of the neighbours in time."""
    return interleave_midpoints(_enlarge(frames))


@register_baseline("bicubic_dis")
def bicubic_dis(frames: np.ndarray) -> np.ndarray:
    """Bicubic in space, motion-compensated by DIS optical flow in time."""
    return with_frames_between(_enlarge(frames))


@register_baseline("bicubic_dis_lanczos")
def bicubic_dis_lanczos(frames: np.ndarray) -> np.ndarray:
    """The same, moved frames sampled by Lanczos' kernel instead of linearly."""
    return with_frames_between(_enlarge(frames), cv2.INTER_LANCZOS4)


def with_frames_between(
    large: np.ndarray, sampling: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """Puts frames moved by DIS optical flow between large ones.

    Args:
        large: float32 (T, H, W, 3) in [0, 1].
        sampling: OpenCV's interpolation for moving them.

    Returns:
        float32 (2T-1, H, W, 3).
    """
    result = interleave_midpoints(large)
    flow_estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    gray = [
        cv2.cvtColor(np.rint(frame * 255.0).astype(np.uint8), cv2.COLOR_RGB2GRAY)
        for frame in large
    ]
    for i in range(len(large) - 1):
        forward = flow_estimator.calc(gray[i], gray[i + 1], None)
        backward = flow_estimator.calc(gray[i + 1], gray[i], None)
        flow = midpoint_flow(forward, backward)
        # A plain average of both sides: choosing one where the flows disagree looks
        # cleaner at occlusions but scores lower, for averaging also removes noise.
        result[2 * i + 1] = 0.5 * (
            warp(large[i], -0.5 * flow, sampling)
            + warp(large[i + 1], 0.5 * flow, sampling)
        )
    return np.clip(result, 0.0, 1.0)


def _enlarge(frames: np.ndarray) -> np.ndarray:
    return np.clip(imresize(_to_float(frames), SCALE, method="bicubic"), 0.0, 1.0)


def _to_float(frames: np.ndarray) -> np.ndarray:
    return frames.astype(np.float32) / np.float32(255.0)


def warp(
    image: np.ndarray, flow: np.ndarray, sampling: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """Samples ``image`` (H, W, C) at each pixel + ``flow`` (H, W, 2: x, y).

    Outside the image the nearest edge pixel is taken.
    """
    rows, columns = np.indices(flow.shape[:2], np.float32)
    return cv2.remap(
        image,
        columns + flow[..., 0],
        rows + flow[..., 1],
        sampling,
        borderMode=cv2.BORDER_REPLICATE,
    )


def midpoint_flow(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Motion from the first frame to the second, as seen from half-way between.

    A flow field says where each pixel of its own frame goes. At the midpoint it would
    be looked up in the wrong place, which blurs moving edges. So every pixel carries
    its flow half-way, and the flows that arrive from both frames are averaged. Where
    nothing arrives (uncovered regions), both fields at the same place stand in.

    Args:
        forward: float32 (H, W, 2), x and y in pixels, from the first to the second.
        backward: The same from the second to the first.

    Returns:
        float32 (H, W, 2): the scene point now at p was at p - flow/2 in the first frame
        and will be at p + flow/2 in the second.
    """
    moved_forward, weight_forward = _carry_half_way(forward)
    moved_backward, weight_backward = _carry_half_way(backward)
    weight = (weight_forward + weight_backward)[..., None]
    carried = (moved_forward - moved_backward) / np.maximum(weight, 1e-6)
    in_place = 0.5 * (forward - backward)
    return np.where(weight < 0.3, in_place, carried).astype(np.float32)


def _carry_half_way(flow):
    """Adds each pixel's flow to the four pixels around where half of it leads."""
    height, width = flow.shape[:2]
    rows, columns = np.indices((height, width), np.float32)
    x, y = columns + 0.5 * flow[..., 0], rows + 0.5 * flow[..., 1]
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    total = np.zeros((height * width, 2))
    weight = np.zeros(height * width)
    for row, column in (
        (top, left),
        (top, left + 1),
        (top + 1, left),
        (top + 1, left + 1),
    ):
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        share = ((1 - np.abs(y - row)) * (1 - np.abs(x - column)))[inside]
        target = (row * width + column)[inside]
        weight += np.bincount(target, share, height * width)
        for axis in (0, 1):
            total[:, axis] += np.bincount(
                target, share * flow[..., axis][inside], height * width
            )
    return total.reshape(height, width, 2), weight.reshape(height, width)
