"""Teachers for the motion field: optical flow between the true frames.

The network must guess how the missing frame moves without seeing it. In training that
frame is there, so dense inverse search finds the motion from it into both neighbours,
and the network learns to find the same. Moving pixels until they match teaches small
motion well; where neighbours are many pixels apart, a blur of both is a local optimum,
which training leaves only with such a teacher.

    high, uint8 (2T-1, H, W, 3)
        -> grey, half the size
        -> DIS from every odd frame into the one before and the one after
        -> float32 (T-1, H/4, W/4, 4): (dy, dx) into the left frame, then into the
           right one, in low-resolution pixels, as `MotionField` returns

Sources: Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016
(arXiv:1603.03590); a teacher that sees the missing frame: Huang et al., RIFE, ECCV 2022
(arXiv:2011.06294).
"""

import cv2
import numpy as np

from training.data.sampling import SCALE

#: Size at which flow is estimated, as a divisor of the frames' own.
_REDUCTION = 2


def neighbour_flow(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Motion between two given frames, in both directions.

    Args:
        left, right: uint8 (H, W, 3), H and W multiples of 4 and at least 32.

    Returns:
        float32 (H/4, W/4, 4), (dy, dx) from the left frame into the right one, then
        from the right into the left one, in pixels of the low resolution.
    """
    between = _estimator(np.stack([left, right]))
    return np.concatenate([between(0, 1), between(1, 0)], axis=-1)


def teacher_flow(high: np.ndarray) -> np.ndarray:
    """Motion from every missing frame into its two neighbours.

    Args:
        high: uint8 (2T-1, H, W, 3), H and W multiples of 4 and at least 32.

    Returns:
        float32 (T-1, H/4, W/4, 4), in pixels of the low resolution.
    """
    between = _estimator(high)
    missing = range(1, len(high), 2)
    pairs = [(between(i, i - 1), between(i, i + 1)) for i in missing]
    return np.stack([np.concatenate(pair, axis=-1) for pair in pairs])


def _estimator(frames: np.ndarray):
    """(i, j) -> float32 (H/4, W/4, 2), motion from frame i into frame j."""
    height, width = frames.shape[1:3]
    grey = [
        cv2.resize(
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY),
            (width // _REDUCTION, height // _REDUCTION),
            interpolation=cv2.INTER_AREA,
        )
        for frame in frames
    ]
    # An estimator keeps buffers; one of its own makes this safe in several threads.
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    small = (width // SCALE, height // SCALE)

    def between(start, end):
        flow = search.calc(grey[start], grey[end], None)
        flow = cv2.resize(flow, small, interpolation=cv2.INTER_AREA)
        return flow[..., ::-1] * (_REDUCTION / SCALE)

    return between
