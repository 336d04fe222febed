"""From a clip to the frames that are encoded, in one process and in a worker alike.

    production = Production(clip, options, rate, codec, frames_in, size)
    for task in production.plan.tasks():
        predictions = predict(task, upscaler)       all calls of the network for a task
        for shot in task.shots:
            production.image(shot, predictions)     resized, and sharpened if wanted

What a `Production` does is cheap beside the network and runs where frames are encoded.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from keras_megan.imaging.sharpness import evened, sharpness
from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import Folder, VideoFile
from keras_megan.video.io.writing.codecs import Codec
from keras_megan.video.io.writing.segments import Encoder, encoder_for
from keras_megan.video.jobs.job import UpscaleOptions
from keras_megan.video.jobs.schedule import Plan, Shot, Task
from keras_megan.video.models.runner import takes_times
from keras_megan.video.request.rate import HALF, Rate
from keras_megan.video.request.size import resizer
from keras_megan.video.tiles import TiledRunner


class Predictions:
    """The frames that the network made for one task.

    Args:
        calls: For each call its frames, (2T-1, sH, sW, 3) uint8 or uint16; even ones
            are given, odd ones new.
    """

    def __init__(self, calls: list[np.ndarray]):
        self._calls = calls
        self._sharpness: dict[tuple[int, int], float] = {}

    def image(self, shot: Shot) -> np.ndarray:
        """The frame of a shot, (sH, sW, 3)."""
        return self._calls[shot.call][shot.position]

    def even_image(self, shot: Shot) -> np.ndarray:
        """The same; a new frame is sharpened to match the given ones beside it."""
        if shot.position % 2 == 0:
            return self.image(shot)
        before = self._sharpness_of(shot.call, shot.position - 1)
        after = self._sharpness_of(shot.call, shot.position + 1)
        return evened(self.image(shot), before, after)

    def _sharpness_of(self, call: int, position: int) -> float:
        """The sharpness of a given frame, measured once for its two neighbours."""
        key = call, position
        if key not in self._sharpness:
            self._sharpness[key] = sharpness(self._calls[call][position])
        return self._sharpness[key]


def predict(task: Task, upscaler: TiledRunner) -> Predictions:
    """Runs the network on a task.

    Args:
        task: The window and the output frames to make from it.
        upscaler: The network.

    Raises:
        VideoError: If the network takes no times and the task needs them.
    """
    frames = np.stack([item.image for item in task.window.items])
    return Predictions(
        [upscaler(frames, _times(each, upscaler)) for each in task.times]
    )


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


class Production:
    """Reads a clip into tasks and makes the frames that are encoded.

    Args:
        clip: The opened input.
        options: How to upscale.
        rate: When output frames appear.
        codec: How to encode; `None` for images.
        frames_in: T of the network.
        size: Width and height of the result.

    Attributes:
        plan: The tasks; see `Plan`.
        time_base: Seconds of a tick.
        new_encoder: Makes the encoder of a segment, given the segment's path.
        size: Width and height of the result.
    """

    def __init__(
        self,
        clip: VideoFile | Folder,
        options: UpscaleOptions,
        rate: Rate,
        codec: Codec | None,
        frames_in: int,
        size: tuple[int, int],
    ):
        self.plan = Plan(
            clip.frames(options.start, options.end),
            options.scene_threshold,
            frames_in,
            rate,
        )
        self.time_base: Fraction = rate.clock(clip.info.time_base)
        self.new_encoder: Callable[[Path], Encoder] = encoder_for(
            clip.info, codec, options.crf
        )
        self.size = size
        self._even = options.even_sharpness
        self._resize = resizer(*size)

    def tick(self, shot: Shot) -> int:
        """When a shot appears, in ticks since the first frame."""
        return self.plan.tick(shot.moment, self.time_base)

    def image(self, shot: Shot, predictions: Predictions) -> np.ndarray:
        """The frame that is encoded, RGB (height, width, 3)."""
        even = self._even
        return self._resize(
            predictions.even_image(shot) if even else predictions.image(shot)
        )
