"""Ground-truth clips, and the low-resolution input made from them.

In: a folder. Out: clips as uint8 RGB arrays (N, H, W, 3), H and W multiples of the
scale, and for any of their frames the input of a network: reduced by MATLAB-style
antialiased bicubic interpolation and rounded to 8 bits, as the published benchmarks
store it. Taking another bicubic (OpenCV's, TensorFlow's) aliases, and costs a network
trained on the antialiased one several decibels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from keras_megan.imaging.find import ClipSource
from keras_megan.imaging.resize import area_downscale, imresize
from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import open_clip
from training.data.codecs import through_codec
from training.evaluation.baselines import SCALE

#: Compressed video from this many lines up is halved by ``downscale="auto"``.
AUTO_DOWNSCALE_LINES = 480
DOWNSCALES = ("auto", "1", "2")


@dataclass(frozen=True)
class Clip:
    """A ground-truth clip.

    Attributes:
        name: What tables call it.
        truth: uint8 RGB (N, H, W, 3).
        damaged: uint8 RGB (N, H / 4, W / 4, 3), the small frames where they are not
            simply the reduced truth.
        bits: Bits per pixel of the small frames, where a codec made them.
    """

    name: str
    truth: np.ndarray
    damaged: np.ndarray | None = None
    bits: float | None = None

    def small(self, frames: slice | Sequence[int]) -> np.ndarray:
        """Some of the frames as a network is given them, uint8 (n, H / 4, W / 4, 3)."""
        if self.damaged is not None:
            return self.damaged[frames]
        return degrade(self.truth[frames])

    def compressed(self, codec: str, quality: int) -> "Clip":
        """The same clip with small frames that went through a video codec.

        All of its frames, those between the given ones too, are one film.
        """
        small, size = through_codec(degrade(self.truth), codec, quality)
        bits = 8.0 * size / small[..., 0].size
        return replace(self, damaged=small, bits=bits)


def downscale_factor(source: ClipSource, lines: int, downscale: str) -> int:
    """By how much a clip is shrunk before it serves as ground truth.

    Args:
        source: The clip.
        lines: The shorter side of its frames.
        downscale: ``"1"`` or ``"2"``, or ``"auto"``: 2 for video files (compressed, so
            their finest detail is not true) of at least 480 lines, 1 for the rest.

    Raises:
        ValueError: For another ``downscale``.
    """
    if downscale not in DOWNSCALES:
        raise ValueError(f"downscale must be one of {DOWNSCALES}; got {downscale!r}.")
    if downscale != "auto":
        return int(downscale)
    lossy = not source.path.is_dir()
    return 2 if lossy and lines >= AUTO_DOWNSCALE_LINES else 1


def load_clip(
    source: ClipSource,
    max_frames: int | None = None,
    downscale: str = "1",
    min_frames: int = 7,
    min_side: int = 64,
) -> Clip:
    """Reads a clip as ground truth.

    Args:
        source: From ``find_clips``.
        max_frames: Number of frames to take from the beginning; None: all. They are
            held in memory, three bytes per pixel.
        downscale: See ``downscale_factor``.
        min_frames: Number of frames that one window of the evaluation needs.
        min_side: Smallest side, in pixels, that must remain after shrinking.

    Raises:
        VideoError: If the clip is unreadable, too short or too small, or its frames
            differ in size.
    """
    opened = open_clip(source.path)
    frames = [frame.image for frame in islice(opened.frames(), max_frames)]
    if len(frames) < min_frames:
        raise VideoError(
            f"Clip '{source.name}' has {len(frames)} frames; the evaluation needs at "
            f"least {min_frames}. Leave the clip out or give a longer one."
        )
    truth = np.stack(frames)
    factor = downscale_factor(source, min(truth.shape[1:3]), downscale)
    truth = area_downscale(truth, factor)
    height, width = (side // SCALE * SCALE for side in truth.shape[1:3])
    if min(height, width) < min_side:
        raise VideoError(
            f"Clip '{source.name}' has frames of {truth.shape[2]}x{truth.shape[1]} "
            f"pixels after shrinking by {factor}; expected at least "
            f"{min_side}x{min_side}."
        )
    return Clip(source.name, truth[:, :height, :width])


def degrade(truth: np.ndarray, scale: int = 4) -> np.ndarray:
    """The network's input for frames of ground truth.

    Args:
        truth: uint8 (T, H, W, 3), H and W multiples of ``scale``.
        scale: Spatial factor.

    Returns:
        uint8 (T, H / scale, W / scale, 3).
    """
    return imresize(truth, 1.0 / scale)
