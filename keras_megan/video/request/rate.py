"""When output frames appear: twice as many, any multiple, or any constant rate.

    nothing             twice the frames; each new one half-way between two given ones
    --factor 4          three new frames in each gap, evenly; a variable rate stays
    --factor 1          the given frames alone (also: --no-interpolation)
    --factor 2.5        2.5 times the average rate, constant
    --fps 60000/1001    this rate, constant, exactly, whatever the input's is

A `Rate` places frames one after another: for each given frame it says at which moments
the frame itself is shown, and at which moments of the gap behind it the network is
asked for a new frame, and for which time in the gap. Moments are exact fractions of
seconds.

    given frames      |           |           |           |
    constant rate     0    x    x |  x    x   |0   x    x |        0: within a hundredth
                                                                   of a gap: kept

A frame that falls within a hundredth of a gap beside a given one is that one,
untouched. Over a scene cut nothing is made: the frame before it stays until the next
scene begins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from keras_megan.video.errors import VideoError

#: How near a moment must be to a given frame, as a share of the gap, to be that frame.
NEAR = Fraction(1, 100)
HALF = Fraction(1, 2)
_FINEST_CLOCK = 1_000_000
_LARGEST_CLOCK = 2**31 - 1
_HIGHEST_FACTOR = 64


@dataclass(frozen=True)
class Placement:
    """The output frames made from a given frame and the gap after it.

    Attributes:
        given: Moments at which the frame itself is shown.
        new: Moment of each new frame in the gap, and its time there, in (0, 1).
    """

    given: tuple[Fraction, ...]
    new: tuple[tuple[Fraction, Fraction], ...] = ()


class Rate(Protocol):
    """Places frames, which are given in order; each clip gets one of its own."""

    def place(
        self, time: Fraction, duration: Fraction, scene_ends: bool, clip_ends: bool
    ) -> Placement:
        """Places the frame that appears at `time` and is shown for `duration`."""

    def end(self, end: Fraction) -> Fraction:
        """When the last output frame disappears, given when the last input does."""

    def expected(self, frames: int, duration: Fraction) -> int:
        """The number of output frames that a number of given ones becomes."""

    def frames_per_second(self, given: Fraction) -> Fraction:
        """The result's rate, on average, if the input has the rate `given`."""

    def clock(self, time_base: Fraction) -> Fraction:
        """The result's time base in seconds, given the input's."""

    @property
    def only_half(self) -> bool:
        """Whether all new frames lie half-way, which every network can make."""


class Multiple:
    """`factor` times the frames: each gap divided evenly.

    N frames become factor * (N - 1) + 1. The last is shown as long as the input's last.
    """

    def __init__(self, factor: int):
        self.factor = factor
        self.only_half = factor <= 2

    def place(self, time, duration, scene_ends, clip_ends) -> Placement:
        shares = [Fraction(k, self.factor) for k in range(1, self.factor)]
        if clip_ends:
            return Placement((time,))
        between = [(time + duration * share, share) for share in shares]
        if scene_ends:
            return Placement((time, *(moment for moment, _ in between)))
        return Placement((time,), tuple(between))

    def end(self, end: Fraction) -> Fraction:
        return end

    def expected(self, frames: int, duration: Fraction) -> int:
        return max(1, self.factor * (frames - 1) + 1)

    def frames_per_second(self, given: Fraction) -> Fraction:
        return given * self.factor

    def clock(self, time_base: Fraction) -> Fraction:
        finer = time_base / self.factor
        if finer.denominator > _LARGEST_CLOCK:
            return Fraction(1, _FINEST_CLOCK)
        return finer


class Constant:
    """`fps` frames a second from the first given frame on, whatever the input's times.

    The result is as long as the input to within half of one of its frames.

    Args:
        fps: Frames per second.
        given_fps: The input's average rate, to find out what the network has to make.
    """

    def __init__(self, fps: Fraction, given_fps: Fraction):
        self.fps = fps = Fraction(fps)
        self.only_half = (2 * given_fps / fps).denominator == 1
        self._begin: Fraction | None = None
        self._next = 0

    def place(self, time, duration, scene_ends, clip_ends) -> Placement:
        if self._begin is None:
            self._begin = time
        end = time + duration
        given, new = [], []
        for moment in self._until(end, clip_ends):
            share = (moment - time) / duration
            if share <= NEAR or clip_ends or (scene_ends and share < 1 - NEAR):
                given.append(moment)
            elif share < 1 - NEAR:
                near_half = abs(share - HALF) <= NEAR
                new.append((moment, HALF if near_half else share))
            else:
                break  # the next given frame is shown then
            self._next += 1
        return Placement(tuple(given), tuple(new))

    def _until(self, end: Fraction, clip_ends: bool) -> Iterator[Fraction]:
        """The moments from the next one on that lie before `end`."""
        begin = self._begin or Fraction(0)
        total = self._count(end - begin)
        for index in range(self._next, _LARGEST_CLOCK):
            moment = begin + index / self.fps
            if index >= total if clip_ends else moment >= end:
                return
            yield moment

    def _count(self, duration: Fraction) -> int:
        return max(1, int(duration * self.fps + HALF))

    def end(self, end: Fraction) -> Fraction:
        begin = self._begin or Fraction(0)
        return begin + self._count(end - begin) / self.fps

    def expected(self, frames: int, duration: Fraction) -> int:
        return self._count(duration)

    def frames_per_second(self, given: Fraction) -> Fraction:
        return self.fps

    def clock(self, time_base: Fraction) -> Fraction:
        return 1 / self.fps


def choose_rate(
    fps: Fraction | None, factor: Fraction | None, given_fps: Fraction
) -> Rate:
    """The `Rate` that was asked for.

    Args:
        fps: The value of `--fps`, or `None`.
        factor: The value of `--factor`, or `None`. Without either, 2.
        given_fps: The input's average rate.

    Raises:
        VideoError: If both are given or one is out of range.
    """
    if fps is not None and factor is not None:
        raise VideoError("--fps, --factor and --no-interpolation exclude each other.")
    if fps is not None:
        if not 0 < fps <= 1000:
            raise VideoError(f"--fps must be above 0, at most 1000. Received: {fps}")
        return Constant(fps, given_fps)
    factor = Fraction(2) if factor is None else factor
    if not 0 < factor <= _HIGHEST_FACTOR:
        raise VideoError(
            f"--factor must be above 0, at most {_HIGHEST_FACTOR}. Received: {factor}"
        )
    if factor.denominator == 1:
        return Multiple(int(factor))
    return Constant(given_fps * factor, given_fps)
