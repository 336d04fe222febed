"""Turn a stream of frames into the tasks of a job: windows that respect scene cuts.

In: frames in order. Out: `Task`s, each a window within one scene, with its place among
all 2N-1 outputs and the exact moments of its predictions:

    frames      0  1  2  3  4 | 5  6            a cut before frame 5
    outputs     0  1  2 ... 8 9 10  11  12      output 9 lies across the cut: it repeats
                          held ^                output 8

The plan depends on the frames alone, so an interrupted job that reads them again finds
the same tasks again. At most one window of frames is held.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from keras_megan.video.io.read import Frame
from keras_megan.video.scene_cuts import SceneCutDetector, split_scenes
from keras_megan.video.windows import Window, stream_windows


@dataclass(frozen=True)
class Task:
    """One window and its place in the whole clip.

    Attributes:
        window: The frames and which predictions to keep.
        first_output: Index among all outputs of the first prediction that is kept.
        hold: Whether the output before that one lies across a cut and repeats its
            predecessor.
    """

    window: Window[Frame]
    first_output: int
    hold: bool

    def moments(self) -> list[Fraction]:
        """When each of the window's 2T-1 predictions appears, in seconds."""
        found = []
        for frame in self.window.items:
            found += [frame.time, frame.time + frame.duration / 2]
        return found[:-1]


class Plan:
    """Reads frames into tasks, and counts.

    Args:
        frames: The frames, in order.
        threshold: See `SceneCutDetector`; `None` for one single scene.
        window_size: T of the network.

    Attributes:
        frames: How many frames were read so far.
        cuts: How many of them open a new scene.
        begin, end: When the first appeared and the last one read disappears.
    """

    def __init__(
        self, frames: Iterator[Frame], threshold: float | None, window_size: int
    ):
        self._source, self._size = frames, window_size
        self._detector = None if threshold is None else SceneCutDetector(threshold)
        self.frames = self.cuts = 0
        self.begin = self.end = Fraction(0)

    def tasks(self) -> Iterator[Task]:
        """Yields the tasks as soon as their frames are read."""
        for scene, frames in itertools.groupby(self._numbered(), lambda pair: pair[0]):
            opening = 2 * (self.frames - 1)  # groupby has read the scene's first frame
            hold = scene > 0
            for window in stream_windows((f for _, f in frames), self._size):
                yield Task(window, opening + window.first_output, hold)
                hold = False

    def tick(self, moment: Fraction, time_base: Fraction) -> int:
        """A moment as a whole number of time bases since the first frame."""
        return round((moment - self.begin) / time_base)

    def _numbered(self) -> Iterator[tuple[int, Frame]]:
        for cut, frame in split_scenes(
            self._source, self._detector, lambda frame: frame.image
        ):
            if self.frames == 0:
                self.begin = frame.time
            self.cuts += cut
            self.frames += 1
            self.end = frame.time + frame.duration
            yield self.cuts, frame
