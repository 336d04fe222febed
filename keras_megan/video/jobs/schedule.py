"""Turn a stream of frames into the tasks of a job: windows that respect scene cuts.

In: frames in order. Out: `Task`s, each a window within one scene, with its place among
all 2N-1 outputs and the exact moments of its predictions:

    frames      0  1  2  3  4 | 5  6            a cut before frame 5
    outputs     0  1  2 ... 8 9 10  11  12      output 9 lies across the cut: it repeats
                          held ^                output 8

Frames that equal the one before them (held drawings, title cards, the repeats by which
24 frames a second become 30) are one `Still` to the network: they cost nothing, and it
sees pictures that differ instead of copies.

The plan depends on the frames alone, so an interrupted job that reads them again finds
the same tasks again. At most one window of frames is held.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from keras_megan.video.io.read import Frame
from keras_megan.video.scene_cuts import SceneCutDetector, split_scenes
from keras_megan.video.windows import Window, stream_windows


@dataclass
class Still:
    """A picture and when it is seen.

    Attributes:
        image: uint8 or uint16 RGB, shape (height, width, 3).
        first: Index among all frames of the first one that shows it.
        times: When each of the frames that show it appears, in seconds.
        end: When the last of them disappears.
    """

    image: np.ndarray
    first: int
    times: list[Fraction]
    end: Fraction

    @property
    def last(self) -> int:
        """Index of the last frame that shows it."""
        return self.first + len(self.times) - 1


@dataclass(frozen=True)
class Task:
    """One window and its place in the whole clip.

    Attributes:
        window: The pictures and which predictions to keep.
        hold: Whether the output before its first one lies across a cut and repeats its
            predecessor.
    """

    window: Window[Still]
    hold: bool

    def outputs(self) -> Iterator[tuple[int, int, Fraction]]:
        """Yields (prediction, index among all outputs, moment in seconds), in order."""
        for position in range(self.window.keep.start, self.window.keep.stop):
            still = self.window.items[position // 2]
            if position % 2:
                middle = (still.times[-1] + still.end) / 2
                yield position, 2 * still.last + 1, middle
                continue
            index = 2 * still.first
            for time, after in itertools.pairwise(still.times):
                yield position, index, time
                yield position, index + 1, (time + after) / 2
                index += 2
            yield position, index, still.times[-1]

    def span(self) -> range:
        """The indices of its outputs, without the one that is held before them."""
        keep, items = self.window.keep, self.window.items

        def index(position: int, after: bool) -> int:
            still = items[position // 2]
            if position % 2:
                return 2 * still.last + 1
            return 2 * (still.last if after else still.first)

        return range(index(keep.start, False), index(keep.stop - 1, True) + 1)


class Plan:
    """Reads frames into tasks, and counts.

    Args:
        frames: The frames, in order.
        threshold: See `SceneCutDetector`; `None` for one single scene.
        window_size: T of the network.

    Attributes:
        frames: How many frames were read so far.
        cuts: How many of them open a new scene.
        repeats: How many of them equal the one before.
        begin, end: When the first appeared and the last one read disappears.
    """

    def __init__(
        self, frames: Iterator[Frame], threshold: float | None, window_size: int
    ):
        self._source, self._size = frames, window_size
        self._detector = None if threshold is None else SceneCutDetector(threshold)
        self.frames = self.cuts = self.repeats = 0
        self.begin = self.end = Fraction(0)

    def tasks(self) -> Iterator[Task]:
        """Yields the tasks as soon as their frames are read."""
        for scene, stills in itertools.groupby(self._numbered(), lambda pair: pair[0]):
            hold = scene > 0
            for window in stream_windows((s for _, s in stills), self._size):
                yield Task(window, hold)
                hold = False

    def tick(self, moment: Fraction, time_base: Fraction) -> int:
        """A moment as a whole number of time bases since the first frame."""
        return round((moment - self.begin) / time_base)

    def _numbered(self) -> Iterator[tuple[int, Still]]:
        scene = 0
        for cut, still in split_scenes(
            self._stills(), self._detector, lambda still: still.image
        ):
            scene += cut
            self.cuts += cut
            yield scene, still

    def _stills(self) -> Iterator[Still]:
        """Frames that show the same picture, as one."""
        still: Still | None = None
        for frame in self._source:
            if self.frames == 0:
                self.begin = frame.time
            self.end = frame.time + frame.duration
            if still is not None and np.array_equal(still.image, frame.image):
                self.repeats += 1
                still.times.append(frame.time)
                still.end = self.end
            else:
                if still is not None:
                    yield still
                still = Still(frame.image, self.frames, [frame.time], self.end)
            self.frames += 1
        if still is not None:
            yield still
