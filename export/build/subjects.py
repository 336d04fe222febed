"""What is exported: a network, how it is fed, and how its results are judged.

A `Subject` wraps a Keras model and knows

    tensor_shape(height, width)    what the device feeds: always four axes
    forward(tensor)                the model on it
    samples(footage, ...)          device inputs from footage, with the truth if any
    score(output, truth)           quality in dB, or None if the truth is unknown
    delicate                       names of layers that stay float32

Video networks, (B, T, H, W, 3) -> (B, 2T-1, sH, sW, 3), are fed one clip, (T, H, W, 3),
and scored by luma PSNR against the footage that was reduced for them. Image networks,
(B, H, W, C) -> anything, are fed one image, (1, H, W, C); their outputs are compared
with Keras's only. `load_subject` tells them apart by their input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import ops

from export.errors import ExportError
from keras_megan.metrics import luma_psnr
from keras_megan.video.errors import VideoError
from keras_megan.imaging.resize import imresize
from keras_megan.video.models.runner import KerasRunner, load_runner
from keras_megan.video.tiles import to_uint8


@dataclass(frozen=True)
class Sample:
    """One input of the device.

    Attributes:
        tensor: float32, of the subject's `tensor_shape`, 0 to 1.
        truth: uint8, what the output should be; None: unknown.
    """

    tensor: np.ndarray
    truth: np.ndarray | None


class VideoSubject:
    """A network for space-time super-resolution.

    Args:
        runner: The network as the video tool runs it.

    Attributes:
        delicate: Parts of the names of layers that no int8 computes: displacements,
            masks, and what is added to the enlarged frames.
    """

    delicate = ("head", "to_pixels")

    def __init__(self, runner: KerasRunner):
        self.model, self.name = runner.model, runner.name
        self.frames_in, self.frames_out = runner.frames_in, runner.frames_out
        self.scale = runner.scale
        self.notes = runner.notes

    def tensor_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(frames_in, height, width, 3)."""
        return (self.frames_in, height, width, 3)

    def sample_shape(self, height: int, width: int) -> tuple[int, ...]:
        """One sample of the Keras model, as net2net counts it: the whole clip."""
        return self.tensor_shape(height, width)

    def forward(self, tensor):
        """(T, H, W, 3) -> (2T-1, sH, sW, 3), 0 to 1, no axis for clips."""
        clip = ops.reshape(tensor, (1, *tensor.shape))
        output = self.model(clip, training=False)
        return ops.reshape(output, output.shape[1:])

    def samples(
        self, clips: Sequence[np.ndarray], height: int, width: int, count: int
    ) -> list[Sample]:
        """Windows from all over the footage, reduced by the published bicubic.

        Args:
            clips: uint8 (N, scale * height, scale * width, 3).
            height, width: Size of the reduced frames.
            count: Largest number of windows.

        Raises:
            ExportError: If every clip is shorter than a window.
        """
        windows = [
            clip[start : start + self.frames_out]
            for clip in clips
            for start in range(0, len(clip) - self.frames_out + 1, self.frames_out - 1)
        ]
        if not windows:
            raise ExportError(
                f"The footage needs {self.frames_out} frames in one clip; the longest "
                f"has {max(len(clip) for clip in clips)}."
            )
        return [
            Sample(
                imresize(truth[0::2], 1.0 / self.scale).astype(np.float32) / 255,
                truth,
            )
            for truth in _spread(windows, count)
        ]

    def score(self, output: np.ndarray, truth: np.ndarray | None) -> float | None:
        """Mean luma PSNR in dB of float or uint8 frames."""
        if truth is None:
            return None
        return float(np.mean(luma_psnr(truth, to_uint8(output, self.name))))


class ImageSubject:
    """Any other network with one image going in.

    Args:
        model: Its input is (B, H, W, C).
        name: For messages and files.
        largest: Value of a white pixel as the network expects it.
    """

    notes: tuple[str, ...] = ()
    delicate: tuple[str, ...] = ()

    def __init__(self, model: keras.Model, name: str, largest: float = 1.0):
        self.model, self.name, self.largest = model, name, largest
        self.channels = int(model.input_shape[-1])

    def tensor_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(1, height, width, channels)."""
        return (1, height, width, self.channels)

    def sample_shape(self, height: int, width: int) -> tuple[int, ...]:
        """One sample of the Keras model, as net2net counts it: (H, W, C)."""
        return self.tensor_shape(height, width)[1:]

    def forward(self, tensor):
        """The model's output, with its axis for images."""
        return self.model(tensor, training=False)

    def samples(
        self, clips: Sequence[np.ndarray], height: int, width: int, count: int
    ) -> list[Sample]:
        """Frames from all over the footage, shrunk to the size; see `VideoSubject`."""
        samples = []
        for frame in _spread([frame for clip in clips for frame in clip], count):
            image = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            if self.channels == 1:
                image = image.mean(axis=-1, keepdims=True)
            tensor = image[None].astype(np.float32) * np.float32(self.largest / 255)
            samples.append(Sample(tensor, None))
        return samples

    def score(self, output: np.ndarray, truth: np.ndarray | None) -> float | None:
        """Returns None: the truth is unknown."""
        return None


Subject = VideoSubject | ImageSubject


def _spread(items: list, count: int) -> list:
    """At most ``count`` of the items, evenly."""
    chosen = dict.fromkeys(np.linspace(0, len(items) - 1, count).round().astype(int))
    return [items[index] for index in chosen]


def load_subject(name: str, largest: float = 1.0) -> Subject:
    """Loads what is to be exported.

    Args:
        name: A preset's name, a preset's folder, or a ``.keras`` file.
        largest: For image networks, the value of a white pixel.

    Raises:
        ExportError: If it cannot be loaded or has an input of another kind.
    """
    if Path(name).suffix == ".keras" and Path(name).is_file():
        model = _load_file(Path(name))
        shape = model.input_shape
        if isinstance(shape, tuple) and len(shape) == 4 and shape[-1] in (1, 3):
            return ImageSubject(model, Path(name).stem, largest)
        return _video_subject(lambda: KerasRunner(model, Path(name).stem))
    return _video_subject(lambda: load_runner(name))


def _video_subject(load) -> VideoSubject:
    try:
        return VideoSubject(load())
    except VideoError as error:
        raise ExportError(
            f"{error} Export takes networks for video, (B, T, H, W, 3) -> "
            "(B, 2T-1, sH, sW, 3), or for one image, (B, H, W, 1 or 3)."
        ) from error


def _load_file(path: Path) -> keras.Model:
    import keras_megan.megan  # noqa: F401  registers the layers

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged archive can raise nearly anything
        text = " ".join(str(error).split())
        raise ExportError(f"Cannot load the model '{path}': {text[:300]}") from error
