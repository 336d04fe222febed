"""What goes beside the pictures: sound, subtitles and fonts of the input.

In: a stream of the input and a `Way`, what is to become of it. Out: a track of the
output and its packets, shifted so that the first frame is at 0.

- `copy`: packet by packet, without loss.
- `encode`: sound that the container cannot hold is decoded and re-encoded.
- `attach`: fonts are put into the file as they are.

`ways_for` lists the ways worth trying for a stream, best first; which of them the
container really takes is found out by `trial`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np

from keras_megan.video.io.opening import is_cover

Timed = tuple[Fraction, int, av.Packet]  # decoding time in seconds, stream, packet
#: An `av.Packet` with a time; its type says that it might have none.
Packet = Any

# Encoders for sound, best first, by the ending of the file.
_SOUND = {
    ".mp4": ("aac",),
    ".m4v": ("aac",),
    ".mov": ("aac", "pcm_s16le"),
    ".mkv": ("flac", "libopus", "aac"),
    ".webm": ("libopus",),
}
# Channel layouts for sound that does not name one, as players guess them.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1"}
_LAYOUTS |= {7: "6.1", 8: "7.1"}
_SAMPLES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
_HOLE = Fraction(1, 10)  # seconds of silence that is a hole and not rounding
_JOINT = Fraction(1, 2)  # seconds by which a clock goes back only between joined pieces
_KEPT_FLAGS = av.stream.Disposition.default | av.stream.Disposition.forced


@dataclass(frozen=True)
class Way:
    """How one stream of the input is carried over.

    Attributes:
        index: Index of the stream in the input.
        kind: "copy", "encode" or "attach".
        encoder: FFmpeg's name of the encoder.
        layout: Channel layout to encode; empty for that of the input.
    """

    index: int
    kind: str
    encoder: str = ""
    layout: str = ""


def codec_name(stream) -> str:
    """FFmpeg's name of a stream's codec for people, or "unknown"."""
    if stream.codec_context is None:
        return "unknown"
    return av.Codec(stream.codec_context.name, "r").canonical_name


def ways_for(stream, suffix: str) -> list[Way]:
    """The ways to try for a stream of the input, best first; none if it is left out."""
    if stream.type == "attachment":
        return [Way(stream.index, "attach")] if suffix == ".mkv" else []
    if stream.type not in ("audio", "subtitle") or stream.codec_context is None:
        return []
    ways = [Way(stream.index, "copy")]
    if stream.type == "audio":
        for layout in ("", "stereo"):
            ways += [
                Way(stream.index, "encode", encoder, layout)
                for encoder in _SOUND.get(suffix, ())
            ]
    return ways


def describe_lost(stream) -> str:
    """Names a stream of the input in the line that says that it is left out."""
    if stream.type == "attachment":
        return f"the attached file '{stream.metadata.get('filename', 'font')}'"
    if stream.type == "video":
        return "the cover picture" if is_cover(stream) else "a second video stream"
    if stream.type == "audio":
        return f"{codec_name(stream)} sound"
    if stream.type == "subtitle":
        return f"{codec_name(stream)} subtitles"
    timecode = "timecode" in stream.metadata
    return "the timecode" if timecode else f"a stream of {stream.type}"


class Copy:
    """Passes packets on, shifted in time, decoding times in order."""

    def __init__(self, output, source, way: Way):
        self.stream = output.add_stream_from_template(source, opaque=True)
        keep_tags(source, self.stream)
        self._shift = Fraction(0)  # seconds, added where the source's clock went back
        self._last: Fraction | None = None  # decoding time
        self._end = Fraction(0)  # of the last packet

    def feed(self, packet: Packet, start: Fraction) -> Iterator[Timed]:
        base = packet.time_base
        dts = packet.pts if packet.dts is None else packet.dts
        ahead = packet.pts - dts
        time = dts * base - start + self._shift
        if self._last is not None and time <= self._last:
            if self._last - time > _JOINT:
                # Joined pieces: the later one continues where the earlier one ended.
                self._shift += self._end - time
                time = self._end
            else:
                time = self._last + base
        if not packet.duration and self._last is not None:
            # MP4 would end before the last packet: as long as the one before it.
            packet.duration = round((time - self._last) / base)
        self._last, self._end = time, time + max(packet.duration or 0, 1) * base
        packet.dts = round(time / base)
        packet.pts = packet.dts + ahead
        packet.stream = self.stream
        yield packet.dts * base, self.stream.index, packet

    def flush(self) -> Iterator[Timed]:
        return iter(())


class CopyText(Copy):
    """Passes subtitles on: they may overlap, so only their order is mended."""

    def feed(self, packet: Packet, start: Fraction) -> Iterator[Timed]:
        base = packet.time_base
        time = packet.pts * base - start
        time = time if self._last is None else max(time, self._last)
        self._last = time
        packet.pts = packet.dts = round(time / base)
        packet.stream = self.stream
        yield packet.dts * base, self.stream.index, packet


class Encode:
    """Decodes sound and re-encodes it; what cannot be decoded is silence."""

    def __init__(self, output, source, way: Way):
        context = source.codec_context
        rate = _nearest_rate(way.encoder, context.sample_rate)
        layout = way.layout or _named_layout(context.layout)
        self.stream = output.add_stream(way.encoder, rate=rate, layout=layout)
        keep_tags(source, self.stream)
        self._source = source
        self._resampler: Any = None  # of the frames that have come so far
        self._input: tuple = ()
        self._next: int | None = None

    def feed(self, packet: Packet, start: Fraction) -> Iterator[Timed]:
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            return
        for frame in frames:
            rate = self.stream.codec_context.sample_rate
            begin = None
            if frame.pts is not None:
                begin = round((frame.pts * frame.time_base - start) * rate)
            if self._next is None:
                self._next = begin or 0
            elif begin is not None and begin - self._next > _HOLE * rate:
                yield from self._drained()
                self._next = max(self._next, begin)
            yield from self._frames(frame)

    def _frames(self, frame) -> Iterator[Timed]:
        context = self.stream.codec_context
        if not context.is_open:
            context.open(strict=False)
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._input:  # also where the source changes on its way
            yield from self._drained()
            self._input = shape
            self._resampler = av.AudioResampler(
                format=context.format,
                layout=context.layout,
                rate=context.sample_rate,
                frame_size=context.frame_size or None,
            )
        yield from self._encoded(self._resampler.resample(_with_named_layout(frame)))

    def _drained(self) -> Iterator[Timed]:
        if self._resampler is not None:
            yield from self._encoded(self._resampler.resample(None))
        self._resampler, self._input = None, ()

    def _encoded(self, pieces) -> Iterator[Timed]:
        context = self.stream.codec_context
        for piece in pieces:
            piece.pts = self._next
            piece.time_base = Fraction(1, context.sample_rate)
            self._next += piece.samples
            yield from self._timed(self.stream.encode(piece))

    def flush(self) -> Iterator[Timed]:
        yield from self._drained()
        if self.stream.codec_context.is_open:
            yield from self._timed(self.stream.encode(None))

    def _timed(self, packets) -> Iterator[Timed]:
        for packet in packets:
            yield packet.dts * packet.time_base, self.stream.index, packet


def open_track(output, source, way: Way) -> Copy | Encode:
    """Adds a stream that goes this way to the output."""
    if way.kind == "encode":
        return Encode(output, source, way)
    return (CopyText if source.type == "subtitle" else Copy)(output, source, way)


def keep_tags(source, made) -> None:
    """Language, title, and which track players choose."""
    for key in ("language", "title"):
        if key in source.metadata:
            made.metadata[key] = source.metadata[key]
    made.disposition = source.disposition & _KEPT_FLAGS


def to_encoding(ways: list[Way], sound: set[int], suffix: str) -> list[Way]:
    """The same ways with every copied sound re-encoded instead."""
    encoder = next(iter(_SOUND.get(suffix, ())), "")
    return [
        replace(way, kind="encode", encoder=encoder)
        if way.kind == "copy" and way.index in sound
        else way
        for way in ways
    ]


def _nearest_rate(encoder: str, rate: int) -> int:
    """The sample rate to encode: the source's where the encoder has it."""
    rates = av.Codec(encoder, "w").audio_rates
    if not rates or rate in rates:
        return rate
    return min((r for r in rates if r >= rate), default=max(rates))


def _named_layout(layout: av.AudioLayout) -> str:
    names = [channel.name for channel in layout.channels]
    unnamed = layout.name.endswith("channels") or not names
    if unnamed or "none" in [name.lower() for name in names]:
        return _LAYOUTS.get(layout.nb_channels, "stereo")
    return layout.name


def samples_of(frame: av.AudioFrame) -> np.ndarray:
    """The samples of a decoded frame, shape (channels, samples), as they are stored.

    `AudioFrame.to_ndarray` reads past the end where eight channels lie in planes.
    """
    channels, kind = frame.layout.nb_channels, frame.format.packed.name
    planes: Any = frame.planes[: channels if frame.format.is_planar else 1]
    count = frame.samples * channels // len(planes)
    rows = [np.frombuffer(plane, _SAMPLES[kind], count) for plane in planes]
    if frame.format.is_planar:
        return np.stack(rows)
    return rows[0].reshape(-1, channels).T


def _with_named_layout(frame: av.AudioFrame) -> av.AudioFrame:
    name = _named_layout(frame.layout)
    if name == frame.layout.name:
        return frame
    packed = np.ascontiguousarray(samples_of(frame).T).reshape(1, -1)
    named = av.AudioFrame.from_ndarray(
        packed, format=frame.format.packed.name, layout=name
    )
    named.sample_rate = frame.sample_rate
    named.pts, named.time_base = frame.pts, frame.time_base
    return named
