"""What a video file is, learned by walking through all its packets once.

In: the path of a video file. Out: a `VideoInfo`: shown size, number of frames, exact
times, colour, sound. Packets are read but not decoded, at about the speed of the disk,
so that hours of upscaling do not start on a file that will turn out to be cut short:

    FFmpeg decodes half of a file without complaint when the other half is missing. The
    header still declares the full duration, so the end of the last packet is compared
    with every declaration there is (the stream's own, its DURATION tag in Matroska, and
    the container's against the longest of all streams).

Times are `Fraction`s in seconds on the file's own clock, never index / rate: clips with
a variable frame rate keep their sound in sync only this way.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from keras_megan.video.errors import VideoError, reading

# Formats whose header declares the duration; elsewhere FFmpeg can only estimate it.
_DECLARING_FORMATS = {"mov", "mp4", "matroska", "webm", "avi", "flv", "asf"}
# What FFmpeg opens besides videos: text shown as pictures, and scripts or lists that
# would make it open other files and addresses.
_NO_VIDEOS = {"tty", "bin", "adf", "idf", "xbin", "concat", "hls", "dash", "sdp"}
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
_SLACK = Fraction(1, 20)  # seconds by which honest headers are rounded


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
        pixel_aspect: Width of a pixel over its height, as shown.
        colour: Colour tags.
        audio, subtitles: One description for each such stream.
        notes: Lines the user should see (high dynamic range, ...).
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
    rotation: int = 0
    pixel_aspect: Fraction = Fraction(1)
    colour: Colour = Colour()
    audio: tuple[str, ...] = ()
    subtitles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame's appearance to the last one's end."""
        return self.end - self.start


@dataclass
class _Span:
    """Running totals over one stream's packets, in units of its time base."""

    packets: int = 0
    first: int | None = None
    last: int | None = None
    end: int | None = None

    def add(self, packet: av.Packet) -> None:
        self.packets += 1
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return
        end = time + (packet.duration or 0)
        self.first = time if self.first is None else min(self.first, time)
        self.last = time if self.last is None else max(self.last, time)
        self.end = end if self.end is None else max(self.end, end)


def check_file(path: Path) -> None:
    """Raises `VideoError` unless `path` is a file with something in it."""
    if not path.exists():
        raise VideoError(f"Cannot read '{path}': no such file or folder.")
    with reading(path):
        if path.stat().st_size == 0:
            raise VideoError(f"Cannot read '{path}': the file is empty.")


def main_video_stream(container: av.container.InputContainer, path: Path):
    """The first video stream that is not a cover picture."""
    if container.format.name in _NO_VIDEOS:
        raise VideoError(
            f"Cannot read '{path}': it is not a video (FFmpeg takes it for "
            f"{container.format.long_name})."
        )
    pictures = av.stream.Disposition.attached_pic
    videos = [s for s in container.streams.video if not s.disposition & pictures]
    if not videos:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        raise VideoError(
            f"'{path}' has no video stream (it holds: {', '.join(kinds)}). "
            "Give a video file or a folder of images."
        )
    return videos[0]


def probe_video(path: str | Path) -> VideoInfo:
    """Walks through a video file and describes it.

    Args:
        path: A video file in any format FFmpeg reads.

    Returns:
        A `VideoInfo`.

    Raises:
        VideoError: If the file is missing, unreadable, has no video stream or no
            frame, or ends before its declared duration.
    """
    path = Path(path)
    check_file(path)
    with reading(path), av.open(str(path)) as container:
        stream = main_video_stream(container, path)
        spans = {s.index: _Span() for s in container.streams}
        stored = 0  # packets of the video, those that are not shown included
        for packet in container.demux():
            stored += packet.size > 0 and packet.stream.index == stream.index
            if packet.size and not packet.is_discard:
                spans[packet.stream.index].add(packet)
        span = spans[stream.index]
        if span.packets == 0:
            raise VideoError(f"'{path}' has a video stream without a single frame.")
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        base = stream.time_base
        start = (span.first or 0) * base
        end = _end_time(stream, span, rate, start)
        if stored < stream.frames:
            raise VideoError(
                f"'{path}' is cut short: its header declares {stream.frames} frames, "
                f"its data hold {stored}. Fetch it again or repair it first."
            )
        _refuse_truncated(path, container, spans, stream, rate)
        first = _first_frame(container, stream, path)
        return _describe(path, container, stream, first, span, start, end, rate)


def _end_time(stream, span: _Span, rate: Fraction, start: Fraction) -> Fraction:
    """When the last frame disappears."""
    base = stream.time_base
    if span.last is None:  # a format without timestamps: raw H.264 and the like
        return start + span.packets / rate
    declared = None
    if stream.duration:
        declared = (stream.start_time or 0) + stream.duration
    if declared and span.last < declared <= span.end + 3 / rate / base:
        return declared * base
    if span.end > span.last:
        return span.end * base
    return span.last * base + 1 / rate


def _first_frame(container, stream, path: Path) -> av.VideoFrame:
    """The first decoded frame: the decoder corrects what the header says of it."""
    container.seek(0)
    for frame in container.decode(stream):
        return frame
    raise VideoError(f"'{path}': not one frame can be decoded; the file is damaged.")


def _refuse_truncated(path: Path, container, spans, stream, rate: Fraction) -> None:
    """Raises `VideoError` if packets end well before the declared duration."""
    base, span = stream.time_base, spans[stream.index]
    if span.end is None or not _DECLARING_FORMATS & set(
        container.format.name.split(",")
    ):
        return
    slack = 2 / rate + _SLACK
    claims = []  # (begin, end of the data, declared duration), in seconds
    begin = (stream.start_time or 0) * base
    if stream.duration:
        claims.append((begin, span.end * base, stream.duration * base))
    tag = next((v for k, v in stream.metadata.items() if k.startswith("DURATION")), "")
    if tag.count(":") == 2:
        claims.append((Fraction(0), span.end * base, parse_clock(tag)))
    if container.duration:
        ends = [
            spans[s.index].end * s.time_base
            for s in container.streams
            if spans[s.index].end is not None
        ]
        begin = Fraction(container.start_time or 0, av.time_base)
        claims.append((begin, max(ends), Fraction(container.duration, av.time_base)))
    for begin, end, declared in claims:
        if end - begin + slack < declared:
            raise VideoError(
                f"'{path}' is cut short: its header declares {float(declared):.2f} "
                f"seconds, its data end after {float(end - begin):.2f}. "
                "Fetch it again or repair it first."
            )


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


def _describe(path, container, stream, frame, span, start, end, rate) -> VideoInfo:
    codec = stream.codec_context
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
    notes = []
    if colour.transfer in _HDR_TRANSFERS:
        notes.append(
            f"'{path}' is HDR ({_HDR_TRANSFERS[colour.transfer]}): frames are worked "
            "on in 8 bits and keep their tags, so fine gradients may band."
        )
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        num_frames=span.packets,
        start=start,
        end=end,
        time_base=stream.time_base,
        rate=rate,
        codec=codec.name,
        pixel_format=frame.format.name,
        rotation=rotation,
        pixel_aspect=aspect,
        colour=colour,
        audio=tuple(
            f"{s.codec_context.name} {s.codec_context.sample_rate} Hz"
            for s in container.streams.audio
        ),
        subtitles=tuple(
            s.codec_context.name if s.codec_context else "unknown"
            for s in container.streams.subtitles
        ),
        notes=tuple(notes),
    )
