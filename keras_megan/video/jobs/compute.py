"""From a task to its output frames: calls of the network, and what follows them.

One process and the workers of a cluster go the same way, so their frames are the same:

    predict(task, upscaler)             all calls of the network that a task needs
    Retouch(width, height, even)        makes the frame that is encoded of a prediction

A `Retouch` is cheap beside the network and runs where frames are encoded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from keras_megan.imaging.sharpness import evened
from keras_megan.video.errors import VideoError
from keras_megan.video.jobs.schedule import Shot, Task
from keras_megan.video.models.runner import takes_times
from keras_megan.video.request.rate import HALF
from keras_megan.video.request.size import resizer
from keras_megan.video.tiles import TiledRunner


def predict(task: Task, upscaler: TiledRunner) -> list[np.ndarray]:
    """Runs the network on a task.

    Args:
        task: The window and what is wanted of it.
        upscaler: The network.

    Returns:
        For each call its frames, (2T-1, sH, sW, 3) uint8 or uint16.

    Raises:
        VideoError: If the network takes no times and the task needs them.
    """
    frames = np.stack([item.image for item in task.window.items])
    return [upscaler(frames, _times(each, upscaler)) for each in task.times]


def _times(times: tuple[Fraction, ...], upscaler: TiledRunner) -> np.ndarray | None:
    """The times of one call as the network takes them; `None` for half-way."""
    if all(time == HALF for time in times):
        return None
    if not takes_times(upscaler.runner):
        raise VideoError(
            f"The model '{upscaler.runner.name}' makes new frames half-way between two "
            "given ones only, and this clip's frame rate varies. Leave out --fps, or "
            "choose a model that takes times (megan models)."
        )
    return np.array(times, np.float32)


@dataclass
class Retouch:
    """Makes the frame that is encoded.

    Attributes:
        width, height: Its size.
        even: Whether new frames are sharpened to match the given ones beside them.
    """

    width: int
    height: int
    even: bool = False
    _resize: Callable[[np.ndarray], np.ndarray] = field(init=False)

    def __post_init__(self):
        self._resize = resizer(self.width, self.height)

    def __call__(self, shot: Shot, predictions: list[np.ndarray]) -> np.ndarray:
        """The frame (height, width, 3) of a shot, from what `predict` returned."""
        frames = predictions[shot.call]
        if self.even and shot.position % 2:
            return self._resize(evened(frames, shot.position))
        return self._resize(frames[shot.position])
