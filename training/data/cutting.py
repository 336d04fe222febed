"""Cuts footage into short clips worth training on.

In: frames one at a time, any number. Out: clips of ``min_length`` to ``length``
consecutive frames, uint8 (L, H, W, 3), in which every frame follows from the one
before. Footage is divided between two frames where

    a new scene begins      the manifest says so, or `SceneCutDetector` finds it
    nothing moves           fewer than ``still_pixels`` of the pixels change: a repeated
                            frame teaches the network that motion stops half-way
    too much moves          mean optical flow above ``max_motion``: nothing can be
                            matched, and what is learned is to blur

Frames are judged on a grey thumbnail a quarter of their size, where compression noise
has been averaged away; motion is measured there by DIS optical flow (Kroeger et al.,
ECCV 2016) and given in pixels of the full frame.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from keras_megan.video.scene_cuts import SceneCutDetector

_THUMBNAIL_FACTOR = 4
_VISIBLE_CHANGE = 3  # grey levels out of 255, on the thumbnail


@dataclass(frozen=True)
class SegmentSettings:
    """What makes a clip.

    Attributes:
        length: Frames of a whole clip.
        min_length: Fewer are thrown away; at least what the network's window spans.
        still_pixels: Share of pixels that must change visibly between two frames.
        max_motion: Mean motion allowed, in pixels per frame.
    """

    length: int = 21
    min_length: int = 7
    still_pixels: float = 0.002
    max_motion: float = 32.0


@dataclass
class SegmentCounts:
    """Why footage was divided, and how many frames are left of it.

    Attributes:
        frames: Read.
        kept: In clips.
        cuts, still, wild: Divisions by each cause.
    """

    frames: int = 0
    kept: int = 0
    cuts: int = 0
    still: int = 0
    wild: int = 0


@dataclass
class Segmenter:
    """Divides one source.

    Attributes:
        settings: What makes a clip.
        cuts: Numbers of frames that are known to open a new scene.
        counts: Filled while the frames pass.
    """

    settings: SegmentSettings
    cuts: frozenset[int] = frozenset()
    counts: SegmentCounts = field(default_factory=SegmentCounts)

    def clips(
        self, frames: Iterable[np.ndarray]
    ) -> Iterator[tuple[int, np.ndarray, float]]:
        """Yields (number of the first frame, clip (L, H, W, 3), mean motion).

        Args:
            frames: uint8 RGB (H, W, 3), all of one size.
        """
        detector = SceneCutDetector()
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        held: list[np.ndarray] = []
        motions: list[float] = []
        start, before = 0, None
        for number, frame in enumerate(frames):
            self.counts.frames += 1
            thumbnail = _thumbnail(frame)
            is_cut = detector.is_cut(frame) or number in self.cuts
            divided, motion = False, 0.0
            if before is not None:
                divided, motion = self._divides(is_cut, flow, before, thumbnail)
            if divided or len(held) == self.settings.length:
                yield from self._finish(start, held, motions)
                held, motions = [], []
            if held:
                motions.append(motion)
            else:
                start = number
            held.append(frame)
            before = thumbnail
        yield from self._finish(start, held, motions)

    def _divides(self, is_cut, flow, before, thumbnail) -> tuple[bool, float]:
        if is_cut:
            self.counts.cuts += 1
            return True, 0.0
        difference = cv2.absdiff(before, thumbnail)
        if np.mean(difference >= _VISIBLE_CHANGE) < self.settings.still_pixels:
            self.counts.still += 1
            return True, 0.0
        field_ = flow.calc(before, thumbnail, None)
        motion = _THUMBNAIL_FACTOR * float(np.linalg.norm(field_, axis=-1).mean())
        if motion > self.settings.max_motion:
            self.counts.wild += 1
            return True, motion
        return False, motion

    def _finish(self, start, held, motions):
        if len(held) >= self.settings.min_length:
            self.counts.kept += len(held)
            yield start, np.stack(held), float(np.mean(motions))


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    # DIS needs patches of 8x8 pixels on its coarsest level.
    size = (max(32, width // _THUMBNAIL_FACTOR), max(32, height // _THUMBNAIL_FACTOR))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
