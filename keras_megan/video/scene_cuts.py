"""Find scene cuts, so that no frame is invented between two scenes.

In: frames one at a time. Out: for each, whether it opens a new scene. The decision for
a frame uses it and the frames before it; nothing is looked up ahead.

The score of a frame, 0 to 100, is the geometric mean of two distances to the frame
before, both on a thumbnail of at most 64x36:

- how much the colours at each place changed, *beyond what they changed at the previous
  frame*: steady motion, pans and flicker differ as much every time, a cut does not;
- how much the histogram of luma and chroma changed: objects that move keep it, another
  scene has another.

A cut has to show in both, which is why one threshold does for calm and for wild clips.
The first distance is the idea of FFmpeg's scene score (`scdet`).
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import cv2
import numpy as np

DEFAULT_THRESHOLD = 16.0
_THUMBNAIL = (64, 36)
_BINS = 16

Item = TypeVar("Item")


class SceneCutDetector:
    """Scores frames one after another.

    Args:
        threshold: Score, 0 to 100, from which a frame opens a new scene. Lower finds
            more cuts; 0 cuts everywhere, above 100 nowhere.

    Raises:
        ValueError: If the threshold is negative.

    Example:

    >>> detector = SceneCutDetector()
    >>> cuts = [i for i, frame in enumerate(frames) if detector.is_cut(frame)]
    """

    def __init__(self, threshold: float = DEFAULT_THRESHOLD):
        if not threshold >= 0:
            raise ValueError(
                "The scene threshold must be a number from 0 to 100. "
                f"Received: threshold={threshold}"
            )
        self.threshold = threshold
        self._thumbnail: np.ndarray | None = None
        self._histogram: np.ndarray | None = None
        self._change = 0.0  # of the previous frame

    def score(self, image: np.ndarray) -> float:
        """How much a uint8 RGB image (H, W, 3) differs from the one before: 0 to 100.

        The first image scores 0.
        """
        small = cv2.resize(image, _THUMBNAIL, interpolation=cv2.INTER_AREA)
        thumbnail = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb).astype(np.float32) / 255
        histogram = np.stack([_histogram(thumbnail[..., c]) for c in range(3)])
        score = 0.0
        if self._thumbnail is not None:
            # Half of the range everywhere is as far apart as scenes get.
            change = 2 * float(np.abs(thumbnail - self._thumbnail)[..., 0].mean())
            change = min(1.0, change)
            fresh = max(0.0, change - self._change)
            moved = np.abs(np.cumsum(histogram - self._histogram, axis=1)).sum(axis=1)
            moved = 4 * float(moved.max()) / _BINS
            score = 100 * float(np.sqrt(fresh * min(1.0, moved)))
            self._change = change
        self._thumbnail, self._histogram = thumbnail, histogram
        return score

    def is_cut(self, image: np.ndarray) -> bool:
        """Whether the image opens a new scene (the first one never does)."""
        first = self._thumbnail is None
        score = self.score(image)
        cut = not first and score >= self.threshold
        if cut:
            self._change = 0.0  # the new scene's motion is yet unknown
        return cut


def _histogram(channel: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(channel, bins=_BINS, range=(0.0, 1.0))
    return counts / channel.size


def split_scenes(
    frames: Iterable[Item], detector: SceneCutDetector | None, image=lambda item: item
) -> Iterator[tuple[bool, Item]]:
    """Pairs each frame with whether it opens a new scene.

    Args:
        frames: Frames, or anything that holds one.
        detector: A fresh `SceneCutDetector`, or `None` for one single scene.
        image: Gets the uint8 RGB array out of an item.

    Yields:
        (opens_scene, item); `opens_scene` is `False` for the first item.
    """
    for item in frames:
        yield (detector is not None and detector.is_cut(image(item))), item
