"""Which frames of a ground-truth clip are predicted in which call.

A network of T inputs is evaluated in windows of 2T-1 ground-truth frames: every second
one, reduced, is an input ("given"); all 2T-1 are targets, the others "new". Windows
start every 2T-2 frames and share a border frame; the first prediction of it counts.
A clip rarely ends where a window does, so one more window ends on the last frame:

    T = 4, N = 10           0  1  2  3  4  5  6  7  8  9
    window 0  inputs        0     2     4     6                scores 0..6
    window 1  inputs                 3     5     7     9       scores 7, 8, 9

All N frames are thus scored, each once: the 171 of Vid4's 41, 34, 49 and 47, as TMNet
and RSTT do it. Zooming Slow-Mo's own script stops after the last regular window and
scores 37, 31, 49 and 43, together 160.

For an odd N these are the windows of `keras_megan.video.windows`. For an even N, which
only ground truth can have, the last window starts on an odd frame.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationWindow:
    """One call of a method.

    Attributes:
        start, stop: The ground-truth frames it spans, stop excluded; 2T-1 of them.
        first_scored: The first of them that no earlier window has scored.
    """

    start: int
    stop: int
    first_scored: int

    @property
    def inputs(self) -> slice:
        """Ground-truth frames that are reduced and given to the method."""
        return slice(self.start, self.stop, 2)

    @property
    def scored(self) -> range:
        """Ground-truth frames for which this window's prediction counts."""
        return range(self.first_scored, self.stop)

    def is_given(self, frame: int) -> bool:
        """Whether the method saw a reduced ``frame`` (or had to invent it)."""
        return (frame - self.start) % 2 == 0


def evaluation_windows(num_frames: int, num_inputs: int = 4) -> list[EvaluationWindow]:
    """Windows that score each of ``num_frames`` frames exactly once.

    Args:
        num_frames: N, at least ``2 * num_inputs - 1``.
        num_inputs: T, at least 2.

    Raises:
        ValueError: If an argument is too small.
    """
    if num_inputs < 2:
        raise ValueError(f"Expected at least 2 inputs per window; got {num_inputs}.")
    span = 2 * num_inputs - 1
    if num_frames < span:
        raise ValueError(
            f"A window of {num_inputs} inputs spans {span} frames; the clip has "
            f"{num_frames}."
        )
    starts = list(range(0, num_frames - span + 1, span - 1))
    if starts[-1] + span < num_frames:
        starts.append(num_frames - span)
    windows, scored = [], 0
    for start in starts:
        windows.append(EvaluationWindow(start, start + span, scored))
        scored = start + span
    return windows
