"""Turn a stream of frames into the tasks of a job: windows that respect scene cuts.

In: frames in order. Out: `Task`s, each a window within one scene with the output frames
it yields: which of the network's predictions, at which exact moment. With twice the
frames, and a cut before frame 5:

    frames      0  1  2  3  4 | 5  6
    outputs     0  1  2 ... 8 9 10  11  12      output 9 lies across the cut: it shows
                                                frame 4 again

Frames that equal the one before them (held drawings, title cards, the repeats that turn
24 frames a second into 30) form one `Run`: they cost nothing, and the network sees
pictures that differ instead of copies.

The plan depends on the frames alone, so an interrupted job that reads them again finds
the same tasks. At most one window of frames is held, plus one frame, because the
placement of a frame depends on whether another follows.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from keras_megan.video.io.reading.read import Frame
from keras_megan.video.request.rate import HALF, Multiple, Placement, Rate
from keras_megan.video.scene_cuts import SceneCutDetector, split_scenes
from keras_megan.video.windows import Window, stream_windows


@dataclass(frozen=True)
class Shot:
    """One output frame.

    Attributes:
        call: The call of the network that makes it; a window may need several.
        position: Its position among the 2T-1 predictions of that call.
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


@dataclass
class Run:
    """A picture and the frames that show it, one after another.

    Attributes:
        image: RGB, shape (height, width, 3).
        times: When each of the frames appears and how long it is shown, in seconds.
    """

    image: np.ndarray
    times: list[tuple[Fraction, Fraction]]


@dataclass(frozen=True)
class Placed:
    """A picture, the scene it belongs to, and when it is shown."""

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
        frames: Number of frames read so far.
        repeats: Number of those that equal the one before.
        outputs: Number of output frames of the tasks so far.
        cuts: Number of frames that open a new scene.
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
        held: tuple[int, Run] | None = None
        for scene, run in self._numbered():
            if held is not None:
                yield self._place(*held, scene_ends=scene != held[0], clip_ends=False)
            held = (scene, run)
        if held is not None:
            yield self._place(*held, scene_ends=True, clip_ends=True)

    def _place(self, scene: int, run: Run, scene_ends, clip_ends) -> Placed:
        *repeated, (time, duration) = run.times
        given: list[Fraction] = []
        for earlier in repeated:
            # Between two frames that are equal, new ones are the same picture.
            placement = self.rate.place(*earlier, scene_ends=False, clip_ends=False)
            given += placement.given + tuple(moment for moment, _ in placement.new)
        placement = self.rate.place(time, duration, scene_ends, clip_ends)
        placement = Placement((*given, *placement.given), placement.new)
        return Placed(run.image, scene, placement)

    def _numbered(self) -> Iterator[tuple[int, Run]]:
        scene = 0
        for cut, run in split_scenes(
            self._runs(), self._detector, lambda run: run.image
        ):
            scene += cut
            self.cuts += cut
            yield scene, run

    def _runs(self) -> Iterator[Run]:
        run: Run | None = None
        for frame in self._source:
            if self.frames == 0:
                self.begin = frame.time
            self.frames += 1
            self.end = frame.time + frame.duration
            if run is not None and np.array_equal(run.image, frame.image):
                self.repeats += 1
                run.times.append((frame.time, frame.duration))
                continue
            if run is not None:
                yield run
            run = Run(frame.image, [(frame.time, frame.duration)])
        if run is not None:
            yield run
