"""Find scene cuts, so that no frame is invented between two scenes.

In: frames one at a time. Out: for each, whether it opens a new scene. The decision for
a frame uses it and the frames before it; nothing is looked up ahead.

The score of a frame, 0 to 100, is the larger of two.

**Another scene.** The geometric mean of two distances to the frame before, both on a
thumbnail of at most 64x36:

- how much the colours at each place changed, *beyond what they changed at the previous
  frame*: steady motion, pans and flicker differ as much every time, a cut does not;
- how much the histogram of luma and chroma changed: objects that move keep it, another
  scene has another.

A cut has to show in both, which is why one threshold does for calm and for wild clips.
The first distance is the idea of FFmpeg's scene score (`scdet`).

**A jump within a scene**, where a piece of a take was left out: the same colours, so
the histogram knows nothing of it. The lesser of two ratios to the most that the last
frames had, on a grey thumbnail of 128x72: how much the picture changed, and how much of
that no motion explains. The motion is DIS optical flow (Kroeger et al., ECCV 2016);
what it carries to another place is subtracted, so a pushed camera is not a jump.
"""

import collections
from collections.abc import Iterable, Iterator
from typing import TypeVar

import cv2
import numpy as np

DEFAULT_THRESHOLD = 16.0
_THUMBNAIL = (64, 36)
_BINS = 16
_GREY = (128, 72)
# Frames to compare with. Drawings that are held for as long are not jumps, nor is what
# comes so soon after a cut.
_HISTORY = 6
_DESCENT_STEPS = 40
# Added to both sides of the ratios, in grey levels, so that noise is not a change.
_CHANGE_FLOOR, _UNEXPLAINED_FLOOR = 3.0, 1.5
# Ratios that score `DEFAULT_THRESHOLD`.
_CHANGE_RATIO, _UNEXPLAINED_RATIO = 1.7, 1.5

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
        self._jumps = JumpMeter()

    def score(self, image: np.ndarray) -> float:
        """How much an RGB image (H, W, 3) differs from the one before: 0 to 100.

        Args:
            image: uint8, or uint16 for clips of more than 8 bits.

        The first image scores 0.
        """
        if image.dtype == np.uint16:
            image = (image >> 8).astype(np.uint8)
        jump = self._jumps.score(image)
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
        return max(score, jump)

    def is_cut(self, image: np.ndarray) -> bool:
        """Whether the image opens a new scene (the first one never does)."""
        first = self._thumbnail is None
        score = self.score(image)
        cut = not first and score >= self.threshold
        if cut:
            self._change = 0.0  # the new scene's motion is yet unknown
        return cut


class JumpMeter:
    """Scores jumps within a scene, frame by frame."""

    def __init__(self):
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        # Else the result depends on the number of threads, and a job that is continued
        # elsewhere would find other cuts.
        self._flow.setUseSpatialPropagation(False)
        # What propagation would have saved.
        self._flow.setGradientDescentIterations(_DESCENT_STEPS)
        self._flow.setFinestScale(1)
        self._before: np.ndarray | None = None
        self._history: collections.deque = collections.deque(maxlen=_HISTORY)
        width, height = _GREY
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        self._rows, self._columns = rows, columns

    def score(self, image: np.ndarray) -> float:
        """How much the change to a uint8 RGB image looks like a jump: 0 to 100."""
        small = cv2.resize(image, _GREY, interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        before, self._before = self._before, grey
        if before is None:
            return 0.0
        change = float(cv2.absdiff(before, grey).mean())
        unexplained = self._unexplained(before, grey)
        score = 0.0
        if len(self._history) == _HISTORY:
            changes, rests = zip(*self._history, strict=True)
            ratio = (change + _CHANGE_FLOOR) / (max(changes) + _CHANGE_FLOOR)
            rest = (unexplained + _UNEXPLAINED_FLOOR) / (
                max(rests) + _UNEXPLAINED_FLOOR
            )
            share = min(
                (ratio - 1) / (_CHANGE_RATIO - 1),
                (rest - 1) / (_UNEXPLAINED_RATIO - 1),
            )
            score = min(100.0, DEFAULT_THRESHOLD * max(0.0, share))
        self._history.append((change, unexplained))
        return score

    def _unexplained(self, before: np.ndarray, grey: np.ndarray) -> float:
        """Mean difference in grey levels that remains after motion is undone."""
        flow = self._flow.calc(grey, before, None)
        x, y = self._columns + flow[..., 0], self._rows + flow[..., 1]
        moved = cv2.remap(
            before, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        height, width = grey.shape
        # What came in over the border could not be known.
        known = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        return float(cv2.absdiff(moved, grey)[known].mean()) if known.any() else 0.0


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
