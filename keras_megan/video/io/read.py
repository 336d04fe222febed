"""Frames of a clip, one at a time, with exact times.

In: a video file or a folder of images. Out: an iterator of `Frame`s: uint8 RGB arrays
(H, W, 3) as a viewer would see them (rotated upright, converted with the file's own
colour matrix and range, any bit depth and chroma layout) and the exact moments at which
they appear and disappear, as `Fraction`s of seconds.

One frame is held back, because a frame's duration is known only when the next arrives.
A file that stops before its declared end, or in which pictures cannot be decoded, is an
error and never a shorter clip.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation

from keras_megan.video.errors import VideoError, reading
from keras_megan.video.io.image_folder import ImageFolder
from keras_megan.video.io.probe import VideoInfo, main_video_stream, probe_video

# Chroma interpolated at full resolution, the same on every processor.
CONVERSION = (
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)
_KNOWN_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # H.273 -> swscale


@dataclass(frozen=True)
class Frame:
    """One picture of a clip.

    Attributes:
        image: uint8 RGB, shape (height, width, 3).
        time: Seconds on the file's clock at which it appears.
        duration: Seconds for which it is shown.
    """

    image: np.ndarray
    time: Fraction
    duration: Fraction


def yuv_matrix(info: VideoInfo) -> int:
    """The matrix between RGB and YCbCr, by swscale's number.

    Untagged files are read as players read them: BT.709 from 720 lines up, else
    BT.601.
    """
    guess = 1 if min(info.width, info.height) >= 720 else 5
    return _KNOWN_MATRICES.get(info.colour.matrix, guess)


class VideoFile:
    """A video file as a source of frames. See `open_clip`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.info = probe_video(self.path)

    def frames(
        self, start: Fraction | None = None, end: Fraction | None = None
    ) -> Iterator[Frame]:
        """Yields the frames that appear in [start, end), seconds from the first one.

        Raises:
            VideoError: If the file cannot be decoded to its declared end.
        """
        first = self.info.start
        begin = first + (start or 0)
        stop = None if end is None else first + end
        held: Frame | None = None
        for time, picture in self._pictures():
            if held is not None:
                yield replace(held, duration=time - held.time)
                held = None
            if stop is not None and time >= stop:
                return
            if time >= begin:
                held = Frame(self._rgb(picture), time, Fraction(0))
        if held is not None:
            nominal = 1 / self.info.rate
            left = self.info.end - held.time
            yield replace(held, duration=left if left > 0 else nominal)

    def _pictures(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """Decoded pictures with strictly increasing times; checks that all came."""
        info, count, time = self.info, 0, None
        with reading(self.path), av.open(str(self.path)) as container:
            stream = main_video_stream(container, self.path)
            stream.thread_type = "AUTO"
            for picture in container.decode(stream):
                if picture.is_corrupt:
                    raise VideoError(
                        f"'{self.path}' is damaged: frame {count} cannot be decoded. "
                        "Fetch it again or repair it first."
                    )
                previous = time
                if picture.pts is not None:
                    time = picture.pts * stream.time_base
                elif previous is None:
                    time = info.start
                if previous is not None and (picture.pts is None or time <= previous):
                    # No usable time stamp (raw streams, repeated stamps): go on at the
                    # nominal rate.
                    time = previous + 1 / info.rate
                count += 1
                yield time, picture
        shown_to = info.start if time is None else time + 1 / info.rate
        missing = info.end - shown_to
        if count == 0 or missing > max(2 / info.rate, info.duration / info.num_frames):
            if count < info.num_frames:
                raise VideoError(
                    f"'{self.path}' is damaged: only {count} of {info.num_frames} "
                    f"frames can be decoded, the last {float(missing):.2f} seconds are "
                    "lost. Fetch it again or repair it first."
                )

    def _rgb(self, picture: av.VideoFrame) -> np.ndarray:
        converted = picture.reformat(
            format="rgb24",
            src_colorspace=yuv_matrix(self.info),
            interpolation=CONVERSION,
        )
        image = converted.to_ndarray()
        turns = self.info.rotation // 90
        if turns:
            image = np.ascontiguousarray(np.rot90(image, turns))
        if image.shape[:2] != (self.info.height, self.info.width):
            raise VideoError(
                f"'{self.path}' changes its picture size on the way, from "
                f"{self.info.width}x{self.info.height} to "
                f"{image.shape[1]}x{image.shape[0]}. Split it there and upscale the "
                "parts."
            )
        return image


def open_clip(path: str | Path, rate: Fraction | None = None) -> "VideoFile | Folder":
    """Opens a video file or a folder of images.

    Args:
        path: Video file, or folder whose images, in natural order of their names, are
            the frames.
        rate: Frames per second of a folder of images (25 if not given and the folder
            has no `timestamps.txt`). Ignored for video files, which know their times.

    Returns:
        An object with `info`, a `VideoInfo`, and `frames(start=None, end=None)`, an
        iterator of `Frame`s that can be started as often as needed.

    Raises:
        VideoError: If there is nothing readable at `path`.

    Example:

    >>> clip = open_clip("clip.mp4")
    >>> for frame in clip.frames():
    ...     print(frame.time, frame.image.shape)
    """
    path = Path(path)
    return Folder(path, rate) if path.is_dir() else VideoFile(path)


class Folder(ImageFolder):
    """A folder of images as a source of `Frame`s. See `open_clip`."""

    def frames(
        self, start: Fraction | None = None, end: Fraction | None = None
    ) -> Iterator[Frame]:
        """Yields the images that appear in [start, end), in seconds."""
        for index, time in enumerate(self.times[:-1]):
            if time < (start or 0) or (end is not None and time >= end):
                continue
            yield Frame(self.image(index), time, self.times[index + 1] - time)
