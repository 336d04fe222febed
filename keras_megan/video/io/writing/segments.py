"""Write output frames into closed segments.

In: frames one at a time, uint8 or uint16 RGB (H, W, 3), each with the tick at which it
appears. Out: for every `SEGMENT_FRAMES` frames a segment that is complete in itself, on
the disk and recorded in the journal.

Segments are encoded on a plain clock, one step for each frame; the true times are kept
in the journal and put on when the segments are joined (`assemble`). So times are exact
for any container, and joining is a copy of packets.

Segment boundaries depend on the frame index alone. An interrupted job and one that ran
through therefore encode the very same pieces.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np

from keras_megan.files import sync_file, sync_folder
from keras_megan.video.errors import VideoError
from keras_megan.video.io.opening import open_input, open_output
from keras_megan.video.io.reading.probe import VideoInfo
from keras_megan.video.io.reading.read import CONVERSION, yuv_matrix
from keras_megan.video.io.writing.codecs import Codec
from keras_megan.video.jobs.journal import SEGMENT_FRAMES, Journal, Segment, remove

_FASTEST_CLOCK = 240
_BT709_LIMITED = 1
LUMA_FORMATS = ("yuv", "nv", "p0", "gray")  # how names of such pixel formats begin


class Encoder(Protocol):
    """Writes one segment."""

    def write(self, image: np.ndarray, index: int) -> None:
        """Adds the frame with this index among all output frames."""

    def close(self) -> int:
        """Finishes the segment on the disk; returns its packets' delay in frames."""

    def abandon(self) -> None:
        """Closes the file without finishing it."""


def encoder_for(
    info: VideoInfo, codec: Codec | None, crf: int | None
) -> Callable[[Path], Encoder]:
    """Returns a function that makes the encoder of a segment, given its path.

    Args:
        info: The input.
        codec: How to encode; `None` for images.
        crf: Quality, `None` for the codec's usual one.
    """
    if codec is None:
        return ImageEncoder
    return partial(VideoEncoder, info=info, codec=codec, crf=crf)


class VideoEncoder:
    """One closed video file.

    Args:
        path: Where to write it.
        info: The input, for colour, pixel shape and rate.
        codec: How to encode.
        crf: Quality, or `None` for the codec's own.
    """

    def __init__(self, path: Path, info: VideoInfo, codec: Codec, crf: int | None):
        self._path, self._info, self._codec, self._crf = path, info, codec, crf
        self._container: Any = None  # opened with the first frame, whose size it takes
        self._stream: Any = None
        self._count = 0

    @property
    def name(self) -> str:
        """FFmpeg's name of the encoder."""
        return self._codec.encoder

    def _open(self, height: int, width: int, deep: bool) -> None:
        info, colour = self._info, self._info.colour
        clock = min(2 * info.rate, Fraction(_FASTEST_CLOCK)).limit_denominator(100_000)
        self._container = open_output(self._path)
        stream = self._container.add_stream(
            self._codec.encoder,
            rate=clock,
            options=self._codec.encoder_options(self._crf, info.mastering),
        )
        stream.width, stream.height = width, height
        stream.pix_fmt = self._codec.deep_format if deep else self._codec.pixel_format
        if stream.pix_fmt == "yuv420p" and (width % 2 or height % 2):
            stream.pix_fmt = "yuv444p"
        context = stream.codec_context
        context.time_base = 1 / clock
        context.sample_aspect_ratio = info.pixel_aspect
        context.color_primaries = colour.primaries
        context.color_trc = colour.transfer
        if stream.pix_fmt.startswith(LUMA_FORMATS):
            context.colorspace = yuv_matrix(info)
            context.color_range = _BT709_LIMITED
        self._stream = stream

    def write(self, image: np.ndarray, index: int) -> None:
        if self._container is None:
            height, width = image.shape[:2]
            self._open(height, width, deep=image.dtype == np.uint16)
        stream = self._stream
        kind = "rgb48le" if image.dtype == np.uint16 else "rgb24"
        frame = av.VideoFrame.from_ndarray(image, format=kind)
        if stream.pix_fmt.startswith(LUMA_FORMATS):
            frame = frame.reformat(
                format=stream.pix_fmt,
                dst_colorspace=yuv_matrix(self._info),
                dst_color_range=_BT709_LIMITED,
                interpolation=CONVERSION,
            )
            frame.color_primaries = self._info.colour.primaries
            frame.color_trc = self._info.colour.transfer
        elif stream.pix_fmt != kind:
            frame = frame.reformat(format=stream.pix_fmt)
        frame.pts, frame.time_base = self._count, stream.codec_context.time_base
        self._count += 1
        self._container.mux(stream.encode(frame))

    def close(self) -> int:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._container = None
        sync_file(self._path)
        return self._verify()

    def abandon(self) -> None:
        if self._container is not None:
            try:
                self._container.close()
            except (OSError, av.error.FFmpegError):
                pass  # the error that led here is the one to report
            self._container = None

    def _verify(self) -> int:
        """Counts the packets and measures how far they are stored out of order."""
        with open_input(self._path) as container:
            times = [p.pts or 0 for p in container.demux(video=0) if p.size]
        if len(times) != self._count or len(set(times)) != self._count:
            raise VideoError(
                f"Cannot write '{self._path}': {self._count} frames were encoded, but "
                f"{len(times)} can be read back. Is the disk full?"
            )
        rank = {time: index for index, time in enumerate(sorted(times))}
        return max(stored - rank[time] for stored, time in enumerate(times))


class ImageEncoder:
    """A folder of PNG images, named by their index among all output frames."""

    def __init__(self, path: Path):
        self._path = path
        remove(path)
        path.mkdir()

    def write(self, image: np.ndarray, index: int) -> None:
        done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not done:
            raise VideoError(f"Frame {index} cannot be encoded as PNG.")
        file = self._path / image_name(index)
        file.write_bytes(data.tobytes())
        sync_file(file)

    def close(self) -> int:
        sync_folder(self._path)
        return 0

    def abandon(self) -> None:
        """Nothing is open between two images."""


def image_name(index: int) -> str:
    """File name of an output image."""
    return f"frame_{index:06d}.png"


@dataclass
class SegmentWriter:
    """Deals output frames out to segments.

    Attributes:
        journal: Where finished segments go.
        new_encoder: Makes the `Encoder` of a segment, given its path.
        on_frame: Called after each frame is written.
    """

    journal: Journal
    new_encoder: Callable[[Path], Encoder]
    on_frame: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._encoder: Encoder | None = None  # of the segment that is being written
        self._part = self.journal.folder / f"unfinished{self.journal.suffix}"
        self._number = -1
        self._ticks: list[int] = []

    def write(self, index: int, tick: int, image: np.ndarray) -> None:
        """Adds frame `index`; frames come in order.

        Frames of finished segments are skipped. Of any other segment, all must come.
        """
        number = index // SEGMENT_FRAMES
        if self.journal.has(number):
            return
        if self._encoder is None or number != self._number:
            self.finish()
            remove(self._part)
            self._encoder = self.new_encoder(self._part)
            self._number, self._ticks = number, []
        if index != number * SEGMENT_FRAMES + len(self._ticks):
            raise ValueError(f"Frame {index} is not the next one of segment {number}.")
        self._encoder.write(image, index)
        self._ticks.append(tick)
        if len(self._ticks) == SEGMENT_FRAMES:
            self.finish()
        self.on_frame()

    def finish(self) -> None:
        """Closes the segment that is being written, if there is one."""
        if self._encoder is None:
            return
        delay = self._encoder.close()
        self._encoder = None
        segment = Segment(self._number * SEGMENT_FRAMES, tuple(self._ticks), delay)
        self.journal.finish_segment(self._part, segment)

    def abandon(self) -> None:
        """Drops the unfinished segment; finished ones stay."""
        if self._encoder is not None:
            self._encoder.abandon()
            self._encoder = None
        remove(self._part)
