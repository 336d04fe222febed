"""Frames of a clip, one at a time, with exact times.

In: a video file or a folder of images. Out: an iterator of `Frame`s: RGB arrays
(H, W, 3) as a viewer would see them (rotated upright, converted with the file's own
colour matrix and range, fields made one picture; uint8, or uint16 where the file holds
more than 8 bits) and the exact moments at which they appear and disappear, as
`Fraction`s of seconds.

One frame is held back, because a frame's duration is known only when the next arrives.
A file that stops before its declared end, or in which pictures cannot be decoded, is an
error and never a shorter clip, unless the caller allows damage.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation

from keras_megan.video.errors import VideoError, reading
from keras_megan.video.io.opening import main_video_stream, open_input
from keras_megan.video.io.reading.deinterlace import deinterlaced
from keras_megan.video.io.reading.evidence import ADVICE
from keras_megan.video.io.reading.image_folder import ImageFolder
from keras_megan.video.io.reading.probe import VideoInfo, probe_video

# Chroma interpolated at full resolution, the same on every processor.
CONVERSION = (
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)
_KNOWN_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # H.273 -> swscale

# Their packets need not give a picture each: reference frames that are never shown, two
# frames in one packet.
_WITH_HIDDEN_FRAMES = {"vp8", "mpeg4"}


@dataclass(frozen=True)
class Frame:
    """One picture of a clip.

    Attributes:
        image: uint8 or uint16 RGB, shape (height, width, 3).
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
    """A video file as a source of frames. See `open_clip`.

    Attributes:
        info: The facts of the file.
        remarks: What the user should know after reading this far.
        doubts: The same, where it is not certain that all frames were read.
    """

    def __init__(
        self,
        path: str | Path,
        allow_damaged: bool = False,
        deinterlace: str = "auto",
        deep: bool = False,
    ):
        self.path = Path(path)
        self.info = probe_video(self.path, allow_damaged)
        self.remarks: list[str] = []
        self.doubts: list[str] = []
        self._allow_damaged, self._deinterlace = allow_damaged, deinterlace
        self.deep = deep

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
        for time, picture in self._whole_pictures():
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

    @property
    def deinterlaces(self) -> bool:
        """Whether fields are merged into whole pictures."""
        return {"auto": self.info.interlaced, "on": True, "off": False}[
            self._deinterlace
        ]

    def _whole_pictures(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        pictures = self._pictures()
        if self.deinterlaces:
            pictures = deinterlaced(pictures, every=self._deinterlace == "on")
        with reading(self.path):
            yield from pictures

    def _pictures(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """Decoded pictures with strictly increasing times; checks that none is lost."""
        info, count, time, damaged = self.info, 0, None, 0
        with reading(self.path), open_input(self.path) as container:
            stream = main_video_stream(container, self.path)
            stream.thread_type = "AUTO"
            for picture in self._decoded(container, stream):
                if picture is None or picture.is_corrupt:
                    damaged += 1
                    if not self._allow_damaged:
                        raise VideoError(
                            f"'{self.path}' is damaged: frame {count} cannot be "
                            f"decoded. {ADVICE}"
                        )
                if picture is None:
                    continue
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
        self._check_end(count, info.end - shown_to)
        silent = info.num_frames - count
        in_pairs = abs(info.num_frames - 2 * count) <= 2  # a packet for each field
        if silent > 0 and not in_pairs and info.codec not in _WITH_HIDDEN_FRAMES:
            self.doubts.append(
                f"'{self.path}': {silent} of {info.num_frames} packets gave no "
                "picture; a clip that begins in the middle of a take is like that."
            )
        if damaged:
            self.remarks.append(
                f"'{self.path}': {damaged} frames were damaged; they were repaired as "
                "far as the decoder can, or left out."
            )

    def _decoded(self, container, stream) -> Iterator[av.VideoFrame | None]:
        """All pictures; `None` for a packet without one, if damage is allowed."""
        if not self._allow_damaged:
            yield from container.decode(stream)
            return
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                yield None  # the file breaks off here
                packet = None
            try:
                decoded = stream.codec_context.decode(packet)
            except av.error.FFmpegError:
                decoded = [None]
            yield from decoded
            if packet is None:
                return

    def _check_end(self, count: int, missing: Fraction) -> None:
        """Raises `VideoError` if the end of the clip is missing."""
        info = self.info
        if self._allow_damaged and count:
            return
        if count == 0 or missing > max(2 / info.rate, info.duration / info.num_frames):
            if count < info.num_frames:
                raise VideoError(
                    f"'{self.path}' is damaged: only {count} of {info.num_frames} "
                    f"frames can be decoded, the last {float(missing):.2f} seconds are "
                    f"lost. {ADVICE}"
                )

    def _rgb(self, picture: av.VideoFrame) -> np.ndarray:
        converted = picture.reformat(
            format="rgb48le" if self.deep else "rgb24",
            src_colorspace=yuv_matrix(self.info),
            interpolation=CONVERSION,
        )
        image: np.ndarray = converted.to_ndarray()
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


def open_clip(
    path: str | Path,
    rate: Fraction | None = None,
    *,
    allow_damaged: bool = False,
    deinterlace: str = "auto",
    deep: bool = False,
) -> "VideoFile | Folder":
    """Opens a video file or a folder of images.

    Args:
        path: Video file, or folder whose images, in natural order of their names, are
            the frames.
        rate: Frames per second of a folder of images (25 if not given and the folder
            has no `timestamps.txt`).
        allow_damaged: Whether to take what can be read of a damaged file.
        deinterlace: "auto" where the stream says that it is interlaced, "on", "off".
        deep: Whether frames are uint16 instead of uint8.

    Returns:
        An object with `info`, a `VideoInfo`, and `frames(start=None, end=None)`, an
        iterator of `Frame`s that can be started as often as needed.

    Raises:
        VideoError: If there is nothing readable at `path`, or a rate is given for a
            video file.

    Example:

    >>> clip = open_clip("clip.mp4")
    >>> for frame in clip.frames():
    ...     print(frame.time, frame.image.shape)
    """
    path = Path(path)
    with reading(path):
        folder = path.is_dir()
    if folder:
        return Folder(path, rate, deep)
    if rate is not None:
        raise VideoError(
            f"--rate is for folders of images; '{path}' knows its own times. Leave it "
            "out."
        )
    return VideoFile(path, allow_damaged, deinterlace, deep)


class Folder(ImageFolder):
    """A folder of images as a source of `Frame`s. See `open_clip`."""

    deinterlaces = False
    remarks: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def frames(
        self, start: Fraction | None = None, end: Fraction | None = None
    ) -> Iterator[Frame]:
        """Yields the images that appear in [start, end), in seconds."""
        for index, time in enumerate(self.times[:-1]):
            if time < (start or 0) or (end is not None and time >= end):
                continue
            yield Frame(self.image(index), time, self.times[index + 1] - time)
