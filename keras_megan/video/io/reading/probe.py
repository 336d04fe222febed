"""What a video file is, learned by walking through all its packets once.

In: the path of a video file. Out: a `VideoInfo`: shown size, number of frames, exact
times, depth, colour, sound, and what speaks for or against the file being whole
(`evidence`). Packets are read but not decoded, at about the speed of the disk, so that
hours of upscaling do not start on a file that will turn out to be cut short.

Times are `Fraction`s in seconds on the file's own clock, never index / rate: clips with
a variable frame rate keep their sound in sync only this way.
"""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from keras_megan.video.errors import VideoError, reading
from keras_megan.video.io.hdr import Mastering, read_mastering
from keras_megan.video.io.opening import (
    check_file,
    main_video_stream,
    open_input,
)
from keras_megan.video.io.reading.evidence import Span, weigh

_FIRST_FRAMES = 6  # are looked at to learn whether the clip is interlaced


@dataclass(frozen=True)
class Colour:
    """Colour tags with the numbers of ITU-T H.273 (2 or 0: unspecified)."""

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    range: int = 0


@dataclass(frozen=True)
class VideoInfo:
    """A clip's facts.

    Attributes:
        path: The file or folder.
        width, height: Size as shown, in pixels (after rotation).
        rotation: Degrees, a multiple of 90, counter-clockwise, that frames are turned.
        num_frames: Frames that are shown.
        start, end: Seconds on the file's clock, of the first frame's appearance and
            of the last one's disappearance.
        time_base: The unit in which the file counts time, in seconds.
        rate: Frames per second on average.
        codec, pixel_format: FFmpeg's names.
        depth: Bits of a colour value.
        pixel_aspect: Width of a pixel over its height, as shown.
        colour: Colour tags.
        mastering: For which screen HDR material was made, if the file says.
        interlaced: Whether the stream says that its frames are woven of two fields.
        audio, subtitles: One description for each such stream.
        notes: Lines the user should see.
        doubts: Why it is not certain that the file is whole; empty if it is.
        bits_per_pixel: Size of the pictures' packets; 0 for images.
        content: Changes when any picture or its time does; not with the file's name.
    """

    path: Path
    width: int
    height: int
    num_frames: int
    start: Fraction
    end: Fraction
    time_base: Fraction
    rate: Fraction
    codec: str
    pixel_format: str
    depth: int = 8
    rotation: int = 0
    pixel_aspect: Fraction = Fraction(1)
    colour: Colour = Colour()
    mastering: Mastering | None = None
    interlaced: bool = False
    audio: tuple[str, ...] = ()
    subtitles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    bits_per_pixel: float = 0.0
    content: str = ""

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame's appearance to the last one's end."""
        return self.end - self.start


def probe_video(path: str | Path, allow_damaged: bool = False) -> VideoInfo:
    """Walks through a video file and describes it.

    Args:
        path: A video file in any format FFmpeg reads.
        allow_damaged: Whether to describe what can be read of a damaged file.

    Returns:
        A `VideoInfo`.

    Raises:
        VideoError: If the file is missing, unreadable, has no video stream or no
            frame, or, unless `allow_damaged`, if something of it is missing.
    """
    path = Path(path)
    check_file(path)
    with reading(path), open_input(path) as container:
        stream = main_video_stream(container, path)
        spans = {s.index: Span() for s in container.streams}
        digest, size = hashlib.sha256(), 0
        for packet in _packets(container, allow_damaged):
            spans[packet.stream.index].add(packet)
            if packet.stream.index == stream.index:
                digest.update(f"{packet.pts} ".encode())
                digest.update(packet)
                size += packet.size
        span = spans[stream.index]
        if span.shown == 0:
            raise VideoError(f"'{path}' has a video stream without a single frame.")
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        start = (span.first or 0) * stream.time_base
        end = _end_time(stream, span, rate, start)
        first_frames = _first_frames(path, allow_damaged)
        notes, doubts = weigh(
            path, container, stream, spans, rate, _tagged(stream), allow_damaged
        )
        return _describe(
            path,
            container,
            stream,
            first_frames,
            num_frames=span.shown,
            start=start,
            end=end,
            rate=rate,
            notes=notes,
            doubts=doubts,
            size=size,
            content=digest.hexdigest(),
        )


def _packets(container, allow_damaged: bool):
    """All packets that hold data; from a damaged file, those before the damage."""
    packets = container.demux()
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.InvalidDataError:
            if not allow_damaged:
                raise
            return
        if packet.size:
            yield packet


def _end_time(stream, span: Span, rate: Fraction, start: Fraction) -> Fraction:
    """When the last frame disappears."""
    base = stream.time_base
    if (
        span.last is None or span.end is None
    ):  # a format without timestamps: raw H.264 and the like
        return start + span.shown / rate
    declared = 0
    if stream.duration:
        declared = (stream.start_time or 0) + stream.duration
    if declared and span.last < declared <= span.end + 3 / rate / base:
        return declared * base
    if span.end > span.last:
        return span.end * base
    return span.last * base + 1 / rate


def _first_frames(path: Path, allow_damaged: bool) -> list[av.VideoFrame]:
    """The first decoded frames, whose format may differ from what the header says."""
    frames: list[av.VideoFrame] = []
    # Opened again: not every format can be wound back.
    with open_input(path) as container:
        stream = main_video_stream(container, path)
        for packet in container.demux(stream):
            try:
                frames += packet.decode()
            except av.error.InvalidDataError:
                if not allow_damaged:
                    raise
            if len(frames) >= _FIRST_FRAMES:
                break
    if not frames:
        raise VideoError(
            f"'{path}': not one frame can be decoded; the file is damaged."
        )
    return frames


def parse_clock(text: str) -> Fraction:
    """Seconds from 'h:mm:ss.fff', 'm:ss' or plain seconds, exactly.

    Raises:
        ValueError: If the text is none of these.
    """
    seconds = Fraction(0)
    for part in text.strip().split(":"):
        value = Fraction(part)
        if value < 0:
            raise ValueError(f"Expected a time that is not negative. Received: {text}")
        seconds = seconds * 60 + value
    return seconds


def _tagged(stream) -> Fraction | None:
    """The duration in a stream's tags, as Matroska has it."""
    tag = next((v for k, v in stream.metadata.items() if k.startswith("DURATION")), "")
    try:
        return parse_clock(tag) if tag.count(":") == 2 else None
    except (ValueError, ZeroDivisionError):
        return None  # not a time: no claim


def _describe(path, container, stream, frames, size, **facts) -> VideoInfo:
    frame = frames[0]
    rotation = int(round(frame.rotation / 90)) * 90 % 360
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    width, height = frame.width, frame.height
    if rotation % 180:
        width, height, aspect = height, width, 1 / aspect
    colour = Colour(
        matrix=int(frame.colorspace),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        range=int(frame.color_range),
    )
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        time_base=stream.time_base,
        codec=stream.codec_context.name,
        pixel_format=frame.format.name,
        depth=max(part.bits for part in frame.format.components),
        rotation=rotation,
        pixel_aspect=aspect,
        bits_per_pixel=8.0 * size / (width * height * facts["num_frames"]),
        colour=colour,
        mastering=read_mastering(frame),
        interlaced=any(f.interlaced_frame for f in frames),
        audio=tuple(
            f"{s.codec_context.name} {s.codec_context.sample_rate} Hz"
            if s.codec_context
            else "unknown"
            for s in container.streams.audio
        ),
        subtitles=tuple(
            s.codec_context.name if s.codec_context else "unknown"
            for s in container.streams.subtitles
        ),
        **facts,
    )
