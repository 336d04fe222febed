"""Join finished segments and the input's sound into the output, by copying packets.

In: the journal with all segments, the input file. Out: a file (or folder of images)
beside the segments, complete and on the disk, ready to be renamed.

- Video packets get their true times here. A packet stored `delay` frames ahead of its
  turn is to be decoded when the frame `delay` places earlier is shown.
- Sound and subtitles are copied packet by packet. Sound that the container cannot hold
  is encoded anew in the container's usual codec, subtitles then are left out; a note
  says so.
- Everything is shifted by one amount, so that the first frame is at 0 and sound keeps
  its distance to it.
"""

import heapq
import os
import shutil
from array import array
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av

from keras_megan.files import sync_file, sync_folder
from keras_megan.video.io.image_folder import TIMESTAMPS, timestamps_text
from keras_megan.video.io.probe import VideoInfo
from keras_megan.video.io.segments import image_name
from keras_megan.video.jobs.journal import Journal, remove

Note = Callable[[str], None]
Timed = tuple[Fraction, int, av.Packet]  # decoding time in seconds, stream, packet
_MOV_FAMILY = (".mp4", ".m4v", ".mov")
_DROPPED_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder"}


def assemble_images(
    journal: Journal, time_base: Fraction, end: int, path: Path
) -> None:
    """Gathers the images of all segments in one folder, with `timestamps.txt`.

    Args:
        journal: The finished job.
        time_base: Seconds of a tick.
        end: Tick at which the last frame disappears.
        path: The folder to make.
    """
    remove(path)
    path.mkdir()
    ticks = []
    for number, segment in enumerate(journal.segments):
        folder = journal.segment_path(number, "")
        for index in range(segment.first, segment.first + len(segment.ticks)):
            # A second name for the file: the segment stays whole if we are cut off.
            try:
                os.link(folder / image_name(index), path / image_name(index))
            except OSError:
                shutil.copy2(folder / image_name(index), path / image_name(index))
        ticks += segment.ticks
    times = [tick * time_base for tick in (*ticks, end)]
    (path / TIMESTAMPS).write_text(timestamps_text(times), encoding="utf-8")
    sync_folder(path)


def assemble_video(
    journal: Journal,
    suffix: str,
    info: VideoInfo,
    time_base: Fraction,
    end: int,
    span: tuple[Fraction, Fraction | None],
    path: Path,
    note: Note,
    sound: bool = True,
) -> None:
    """Writes one file from the video of all segments and the sound of the input.

    Args:
        journal: The finished job.
        suffix: Ending of the segments.
        info: The input.
        time_base: Seconds of a tick.
        end: Tick at which the last frame disappears; the first appears at 0.
        span: The part of the input that was used, in seconds on its clock; an open
            end is `None`.
        path: The file to write.
        note: Called with each line the user should read.
        sound: Whether to take over the input's sound.
    """
    options = {"movflags": "+faststart"} if suffix in _MOV_FAMILY else {}
    with av.open(str(path), "w", options=options) as output:
        with av.open(str(journal.segment_path(0, suffix))) as first:
            video = output.add_stream_from_template(first.streams.video[0], opaque=True)
        video.time_base = time_base
        if info.path.is_dir():
            packets = _video_packets(journal, suffix, time_base, end, video)
            for _, _, packet in packets:
                output.mux(packet)
        else:
            with av.open(str(info.path)) as source:
                _copy_tags(source, output, whole=span[1] is None)
                extras = _extra_streams(source, output, suffix, span, note, sound)
                packets = _video_packets(journal, suffix, time_base, end, video)
                for _, _, packet in heapq.merge(
                    packets, extras, key=lambda timed: timed[:2]
                ):
                    output.mux(packet)
    sync_file(path)


def _copy_tags(source, output, whole: bool) -> None:
    for key, value in source.metadata.items():
        if key.lower() not in _DROPPED_TAGS:
            output.metadata[key] = value
    if whole and source.chapters():
        output.set_chapters(source.chapters())


def _video_packets(
    journal: Journal, suffix: str, time_base: Fraction, end: int, stream
) -> Iterator[Timed]:
    ticks = array("q", (t for s in journal.segments for t in s.ticks))
    delay = max(segment.delay for segment in journal.segments)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else end - ticks[0]
    first_turn = ticks[0] - delay * step
    for number, segment in enumerate(journal.segments):
        with av.open(str(journal.segment_path(number, suffix))) as container:
            with_pts = (p.pts for p in container.demux(video=0) if p.size)
            rank = {time: index for index, time in enumerate(sorted(with_pts))}
        with av.open(str(journal.segment_path(number, suffix))) as container:
            stored = segment.first
            for packet in container.demux(video=0):
                if not packet.size:
                    continue
                shown = segment.first + rank[packet.pts]
                following = ticks[shown + 1] if shown + 1 < len(ticks) else end
                turn = stored - delay
                packet.time_base = time_base
                packet.pts = ticks[shown]
                packet.dts = ticks[turn] if turn >= 0 else ticks[0] + turn * step
                packet.duration = following - ticks[shown]
                packet.stream = stream
                stored += 1
                if stored == len(ticks) and suffix in _MOV_FAMILY:
                    # These formats sum durations in stored order, from the first
                    # packet's turn, to learn when the track ends.
                    packet.duration = end + first_turn - packet.dts
                yield packet.dts * time_base, stream.index, packet


def _extra_streams(
    source, output, suffix: str, span, note: Note, sound: bool
) -> Iterator[Timed]:
    """Adds sound and subtitle streams to the output; returns their packets."""
    routes = {}
    held = output.supported_codecs
    for stream in source.streams:
        if stream.type == "audio" and not sound:
            continue
        name = stream.codec_context.name if stream.codec_context else None
        codec = av.Codec(name, "r").canonical_name if name else None
        if stream.type == "audio" and codec in held:
            routes[stream.index] = _Copy(
                output.add_stream_from_template(stream, opaque=True)
            )
        elif stream.type == "audio" and name:
            encoder = {".webm": "libopus"}.get(suffix, output.default_audio_codec)
            routes[stream.index] = _Encode(output, stream, encoder)
            note(f"{suffix} cannot hold {codec} sound: encoded anew as {encoder}.")
        elif stream.type == "subtitle" and codec in held:
            routes[stream.index] = _Copy(
                output.add_stream_from_template(stream, opaque=True)
            )
        elif stream.type == "subtitle":
            note(f"{suffix} cannot hold {codec or 'these'} subtitles: left out.")
        if stream.index in routes:
            for key in ("language", "title"):
                if key in stream.metadata:
                    routes[stream.index].stream.metadata[key] = stream.metadata[key]
    return _extra_packets(source, routes, span) if routes else iter(())


def _extra_packets(source, routes: dict, span) -> Iterator[Timed]:
    start, stop = span
    wanted = [source.streams[index] for index in routes]
    for packet in source.demux(wanted):
        if packet.size == 0 or packet.pts is None:
            continue
        time = packet.pts * packet.time_base
        if stop is not None and not start <= time < stop:
            continue
        yield from routes[packet.stream.index].feed(packet, start)
    for route in routes.values():
        yield from route.flush()


class _Copy:
    """Passes packets on, shifted in time."""

    def __init__(self, stream):
        self.stream = stream

    def feed(self, packet: av.Packet, start: Fraction) -> Iterator[Timed]:
        shift = round(start / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        packet.stream = self.stream
        yield packet.dts * packet.time_base, self.stream.index, packet

    def flush(self) -> Iterator[Timed]:
        return iter(())


class _Encode:
    """Decodes sound and encodes it anew."""

    def __init__(self, output, source, encoder: str):
        context = source.codec_context
        rate = 48_000 if encoder == "libopus" else context.sample_rate
        self.stream = output.add_stream(encoder, rate=rate, layout=context.layout.name)
        self._resampler = None
        self._next: int | None = None

    def feed(self, packet: av.Packet, start: Fraction) -> Iterator[Timed]:
        for frame in packet.decode():
            if self._next is None:
                base = frame.time_base
                begin = frame.pts * base - start if frame.pts is not None else 0
                self._next = round(begin * self.stream.codec_context.sample_rate)
            yield from self._frames(frame)

    def _frames(self, frame) -> Iterator[Timed]:
        context = self.stream.codec_context
        if self._resampler is None:
            context.open(strict=False)
            self._resampler = av.AudioResampler(
                format=context.format,
                layout=context.layout,
                rate=context.sample_rate,
                frame_size=context.frame_size or None,
            )
        for piece in self._resampler.resample(frame):
            piece.pts = self._next
            piece.time_base = Fraction(1, context.sample_rate)
            self._next += piece.samples
            yield from self._timed(self.stream.encode(piece))

    def flush(self) -> Iterator[Timed]:
        if self._resampler is not None:
            yield from self._frames(None)
            yield from self._timed(self.stream.encode(None))

    def _timed(self, packets) -> Iterator[Timed]:
        for packet in packets:
            yield packet.dts * packet.time_base, self.stream.index, packet
