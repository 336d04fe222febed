"""Cut a clip of any length into overlapping windows of T frames.

A space-time network sees T frames and predicts the 2T-1 frames they span: the given
ones and those half-way between. A clip of N frames is covered by windows that share one
frame with their neighbour (stride T-1), because the last frame of one window and the
first of the next bound two different gaps:

    T = 4, N = 9          0  1  2  3  4  5  6  7  8
    window 0              0--1--2--3
    window 1                       3--4--5--6
    window 2 (the tail)                  5--6--7--8

- Where windows overlap, the first prediction is kept.
- The last window is moved back so that it ends on the last frame: the tail is never
  dropped. What it repeats is discarded.
- A clip shorter than T is filled up with copies of its last frame, and the surplus
  predictions are discarded.

So N >= 1 frames always give exactly 2N-1, in order, each exactly once. This is the
windowing behind the published Vid4 numbers (all 171 frames scored).

`stream_windows` works on an iterator of unknown length and holds at most T items;
`plan_windows` is the same plan for a known number of frames, as indices.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Window(Generic[Item]):
    """One call of the network and what to keep of it.

    Attributes:
        items: The T inputs, in order (repeats of the last one when the clip is short).
        keep: Which of the 2T-1 predictions to keep, as a slice.
        first_output: Index in the clip's 2N-1 outputs of the first one kept.
    """

    items: tuple[Item, ...]
    keep: slice
    first_output: int

    @property
    def num_outputs(self) -> int:
        """How many predictions are kept."""
        return self.keep.stop - self.keep.start

    @property
    def outputs(self) -> range:
        """Indices in the clip's outputs of the predictions that are kept."""
        return range(self.first_output, self.first_output + self.num_outputs)


def stream_windows(
    items: Iterable[Item], window_size: int = 4
) -> Iterator[Window[Item]]:
    """Yields the windows over `items` as soon as each is complete.

    Args:
        items: Any iterable of N >= 0 frames (or indices, or anything else).
        window_size: T, the number of inputs of the network; at least 2.

    Yields:
        `Window`s that together keep outputs 0 .. 2N-2, in order, each once. Nothing
        for an empty clip.

    Raises:
        ValueError: If `window_size` is below 2.
    """
    if window_size < 2:
        raise ValueError(
            f"window_size must be at least 2 (interpolation needs two frames). "
            f"Received: window_size={window_size}"
        )
    recent: list[Item] = []  # the last T items at most
    seen = 0  # items read so far
    done = 0  # outputs planned so far
    for item in items:
        recent = recent[-(window_size - 1) :] + [item]
        seen += 1
        if seen >= window_size and (seen - 1) % (window_size - 1) == 0:
            yield _window(recent, seen, done, window_size)
            done = 2 * seen - 1
    if done < 2 * seen - 1:
        yield _window(recent, seen, done, window_size)


def _window(recent: list[Item], seen: int, done: int, window_size: int) -> Window[Item]:
    """The window that ends on the newest item and adds every output not yet planned."""
    filled = tuple(recent) + (recent[-1],) * (window_size - len(recent))
    first_prediction = 2 * (seen - len(recent))  # output index of its prediction 0
    keep = slice(done - first_prediction, 2 * seen - 1 - first_prediction)
    return Window(items=filled, keep=keep, first_output=done)


def plan_windows(num_frames: int, window_size: int = 4) -> list[Window[int]]:
    """The windows for a clip of `num_frames` frames, as frame indices.

    Args:
        num_frames: N >= 1.
        window_size: T, the number of inputs of the network; at least 2.

    Returns:
        A list of `Window`s. `window.items` are the indices of the T frames to feed,
        `prediction[window.keep]` the predictions to keep, `window.outputs` where they
        go among the 2N-1 outputs.

    Raises:
        ValueError: If `num_frames` is below 1 or `window_size` below 2.

    Example:

    >>> for window in plan_windows(9, window_size=4):
    ...     print(window.items, list(window.outputs))
    (0, 1, 2, 3) [0, 1, 2, 3, 4, 5, 6]
    (3, 4, 5, 6) [7, 8, 9, 10, 11, 12]
    (5, 6, 7, 8) [13, 14, 15, 16]
    """
    if num_frames < 1:
        raise ValueError(
            f"A clip has at least one frame. Received: num_frames={num_frames}"
        )
    return list(stream_windows(range(num_frames), window_size))
