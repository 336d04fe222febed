"""Turn a stream of frames into the tasks of a job: windows that respect scene cuts.

In: frames in order. Out: `Task`s, each a window within one scene with the output frames
it yields: which of the network's predictions, at which exact moment. With twice the
frames, and a cut before frame 5:

    frames      0  1  2  3  4 | 5  6
    outputs     0  1  2 ... 8 9 10  11  12      output 9 lies across the cut: it shows
                                                frame 4 again

Frames that equal the one before them (held drawings, title cards, the repeats by which
24 frames a second become 30) are one picture to the network: they cost nothing, and it
sees pictures that differ instead of copies.

The plan depends on the frames alone, so an interrupted job that reads them again finds
the same tasks again. At most one window of frames is held, and one frame more, because
what becomes of a frame depends on whether another follows.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from keras_megan.video.io.read import Frame
from keras_megan.video.request.rate import HALF, Multiple, Placement, Rate
from keras_megan.video.scene_cuts import SceneCutDetector
from keras_megan.video.windows import Window, stream_windows


@dataclass(frozen=True)
class Shot:
    """One output frame.

    Attributes:
        call: In which call of the network it is made; a window may need several.
        position: Among the 2T-1 predictions of that call.
        moment: When it appears, in seconds on the input's clock.
    """

    call: int
    position: int
    moment: Fraction


@dataclass(frozen=True)
class Task:
    """One window and the output frames it yields.

    Attributes:
        window: The frames.
        first_output: Index among all outputs of its first one.
        shots: Its outputs, in order.
        times: For each call of the network, the time in (0, 1) of the new frame in each
            of the T-1 gaps.
    """

    window: Window["Placed"]
    first_output: int
    shots: tuple[Shot, ...]
    times: tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class Placed:
    """A picture, the scene it belongs to, and what becomes of it.

    Attributes:
        image: RGB, shape (height, width, 3), of one frame or of several equal ones.
        scene: Number of its scene.
        placement: When it is shown, and what the network makes behind it.
    """

    image: np.ndarray
    scene: int
    placement: Placement


class Plan:
    """Reads frames into tasks, and counts.

    Args:
        frames: The frames, in order.
        threshold: See `SceneCutDetector`; `None` for one single scene.
        window_size: T of the network.
        rate: When output frames appear; twice as many if not given.

    Attributes:
        frames: How many frames were read so far.
        repeats: How many of them equal the one before.
        outputs: How many output frames the tasks so far yield.
        cuts: How many of the frames open a new scene.
        begin, end: When the first appeared and the last one read disappears.
    """

    def __init__(
        self,
        frames: Iterator[Frame],
        threshold: float | None,
        window_size: int,
        rate: Rate | None = None,
    ):
        self._source, self._size = frames, window_size
        self._detector = None if threshold is None else SceneCutDetector(threshold)
        self.rate = rate or Multiple(2)
        self.frames = self.repeats = self.cuts = self.outputs = 0
        self.begin = self.end = Fraction(0)

    def tasks(self) -> Iterator[Task]:
        """Yields the tasks as soon as their frames are read."""
        for _, frames in itertools.groupby(self._placed(), lambda item: item.scene):
            for window in stream_windows(frames, self._size):
                task = self._task(window)
                self.outputs += len(task.shots)
                if task.shots:
                    yield task

    def tick(self, moment: Fraction, time_base: Fraction) -> int:
        """A moment as a whole number of time bases since the first frame."""
        return round((moment - self.begin) / time_base)

    @property
    def result_end(self) -> Fraction:
        """When the last output frame disappears, once all tasks were taken."""
        return self.rate.end(self.end)

    def _task(self, window: Window[Placed]) -> Task:
        shots = []
        calls: list[list[Fraction]] = []
        for position in range(window.keep.start, window.keep.stop):
            placement = window.items[position // 2].placement
            if position % 2 == 0:
                shots += [Shot(0, position, moment) for moment in placement.given]
                continue
            for call, (moment, time) in enumerate(placement.new):
                if call == len(calls):
                    calls.append([HALF] * (self._size - 1))
                calls[call][position // 2] = time
                shots.append(Shot(call, position, moment))
        times = tuple(map(tuple, calls)) or ((HALF,) * (self._size - 1),)
        return Task(window, self.outputs, tuple(shots), times)

    def _placed(self) -> Iterator[Placed]:
        """Pictures with their places; each waits until the next one is known."""
        held: tuple[int, Frame] | None = None
        given: list[Fraction] = []
        for scene, same, frame in self._numbered():
            if held is not None:
                before, last = held
                ends = same or scene != before
                placement = self.rate.place(last.time, last.duration, ends, False)
                given += placement.given
                if not same:
                    placement = Placement(tuple(given), placement.new)
                    yield Placed(last.image, before, placement)
                    given = []
            held = (scene, frame)
        if held is not None:
            before, last = held
            placement = self.rate.place(last.time, last.duration, True, True)
            given += placement.given
            yield Placed(last.image, before, Placement(tuple(given)))

    def _numbered(self) -> Iterator[tuple[int, bool, Frame]]:
        """Frames with the number of their scene, and whether they repeat the last."""
        previous: Frame | None = None
        for frame in self._source:
            if previous is None:
                self.begin = frame.time
                same = False
            else:
                same = np.array_equal(previous.image, frame.image)
            if same:
                self.repeats += 1
            elif self._detector is not None:
                self.cuts += self._detector.is_cut(frame.image)
            self.frames += 1
            self.end = frame.time + frame.duration
            previous = frame
            yield self.cuts, same, frame
