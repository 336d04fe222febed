"""Join finished segments and the input's sound into the output, by copying packets.

In: the files of all segments, the input file, and which way each of its other streams
goes (`tracks`, `trial`). Out: a file (or folder of images) beside the segments, whole
and on the disk, ready to be renamed.

- Video packets get their true times here. A packet stored `delay` frames ahead of its
  turn is to be decoded when the frame `delay` places earlier is shown.
- Everything is shifted by one amount, so that the first frame is at 0 and sound keeps
  its distance to it; chapters move along.
"""

import heapq
import os
import shutil
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from keras_megan.files import sync_file, sync_folder
from keras_megan.video.io.opening import open_input, open_output
from keras_megan.video.io.reading.image_folder import TIMESTAMPS, timestamps_text
from keras_megan.video.io.writing.segments import image_name
from keras_megan.video.io.writing.tracks import Timed, Way, keep_tags, open_track
from keras_megan.video.jobs.journal import Segment, remove

Pieces = Sequence[tuple[Path, Segment]]  # the segments with their files, in order
MOV_FAMILY = (".mp4", ".m4v", ".mov")
_DROPPED_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder"}
# An output of other frames has another timecode.
_DROPPED_TAGS |= {"timecode"}


@dataclass(frozen=True)
class Beside:
    """The sound and other streams that go into the output beside the pictures.

    Attributes:
        source: The input file.
        ways: How each of its streams is carried over.
        begin, end: The part of the input that was used, in seconds on its clock; an
            open end is `None`.
        limit: How many packets of each stream to take; `None` for all.
    """

    source: Path
    ways: Sequence[Way]
    begin: Fraction
    end: Fraction | None = None
    limit: int | None = None


def assemble_images(pieces: Pieces, time_base: Fraction, end: int, path: Path) -> None:
    """Gathers the images of all segments in one folder, with `timestamps.txt`.

    Args:
        pieces: The segments.
        time_base: Seconds of a tick.
        end: Tick at which the last frame disappears.
        path: The folder to make.
    """
    remove(path)
    path.mkdir()
    ticks: list[int] = []
    for folder, segment in pieces:
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
    pieces: Pieces,
    time_base: Fraction,
    end: int,
    path: Path,
    beside: Beside | None = None,
) -> None:
    """Writes one file from the video of all segments and the sound of the input.

    Args:
        pieces: The segments.
        time_base: Seconds of a tick.
        end: Tick at which the last frame disappears; the first appears at 0.
        path: The file to write; its ending decides the format.
        beside: What goes beside the pictures, if anything.

    Raises:
        av.error.FFmpegError, ValueError: If the container refuses something.
    """
    suffix = path.suffix
    options = {"movflags": "+faststart"} if suffix in MOV_FAMILY else {}
    remove(path)
    with open_output(path, options) as output:
        with open_input(pieces[0][0]) as first:
            video = output.add_stream_from_template(first.streams.video[0], opaque=True)
        video.time_base = time_base
        packets = _video_packets(pieces, suffix, time_base, end, video)
        if beside is None:
            for _, _, packet in packets:
                output.mux(packet)
        else:
            with open_input(beside.source) as source:
                _copy_tags(source, output, beside)
                main = next(iter(source.streams.video), None)
                if main is not None:
                    keep_tags(main, video)
                extras = _extra_packets(source, output, beside)
                for _, _, packet in heapq.merge(
                    packets, extras, key=lambda timed: timed[:2]
                ):
                    output.mux(packet)
    sync_file(path)


def _copy_tags(source, output, beside: Beside) -> None:
    for key, value in source.metadata.items():
        if key.lower() not in _DROPPED_TAGS:
            output.metadata[key] = value
    chapters = []
    for chapter in source.chapters():
        base = chapter["time_base"]
        start, end = (chapter[key] * base - beside.begin for key in ("start", "end"))
        if beside.end is not None:
            end = min(end, beside.end - beside.begin)
        start = max(start, Fraction(0))
        if start < end:
            ticks = {"start": round(start / base), "end": round(end / base)}
            chapters.append({**chapter, **ticks})
    if chapters:
        output.set_chapters(chapters)


def _video_packets(
    pieces: Pieces, suffix: str, time_base: Fraction, end: int, stream
) -> Iterator[Timed]:
    ticks = array("q", (t for _, segment in pieces for t in segment.ticks))
    delay = max(segment.delay for _, segment in pieces)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else end - ticks[0]
    first_turn = ticks[0] - delay * step
    for path, segment in pieces:
        with open_input(path) as container:
            with_pts = (p.pts or 0 for p in container.demux(video=0) if p.size)
            rank = {time: index for index, time in enumerate(sorted(with_pts))}
        with open_input(path) as container:
            stored = segment.first
            for packet in container.demux(video=0):
                if not packet.size:
                    continue
                shown = segment.first + rank[packet.pts or 0]
                following = ticks[shown + 1] if shown + 1 < len(ticks) else end
                turn = stored - delay
                packet.time_base = time_base
                packet.pts = ticks[shown]
                packet.dts = ticks[turn] if turn >= 0 else ticks[0] + turn * step
                packet.duration = following - ticks[shown]
                packet.stream = stream
                stored += 1
                if stored == len(ticks) and suffix in MOV_FAMILY:
                    # These formats sum durations in stored order, from the first
                    # packet's turn, to learn when the track ends.
                    packet.duration = end + first_turn - packet.dts
                yield packet.dts * time_base, stream.index, packet


def _extra_packets(source, output, beside: Beside) -> Iterator[Timed]:
    """Adds the streams that go beside the pictures; returns their packets."""
    tracks = {}
    for way in beside.ways:
        stream = source.streams[way.index]
        if way.kind == "attach":
            name = stream.metadata.get("filename", f"attachment_{way.index}")
            kind = stream.mimetype or "application/octet-stream"
            output.add_attachment(name, kind, stream.data)
        else:
            tracks[way.index] = open_track(output, stream, way)
    return _track_packets(source, tracks, beside) if tracks else iter(())


def _track_packets(source, tracks: dict, beside: Beside) -> Iterator[Timed]:
    taken = dict.fromkeys(tracks, 0)
    for packet in source_packets(source, set(tracks), beside.limit):
        time = packet.pts * packet.time_base
        if beside.end is not None and not beside.begin <= time < beside.end:
            continue
        if beside.limit is not None and taken[packet.stream.index] >= beside.limit:
            continue
        taken[packet.stream.index] += 1
        yield from tracks[packet.stream.index].feed(packet, beside.begin)
    for track in tracks.values():
        yield from track.flush()


def _until_damage(source) -> Iterator[av.Packet]:
    """All packets; from a damaged file, if allowed, those before the damage."""
    packets = source.demux()
    while True:
        try:
            yield next(packets)
        except (StopIteration, av.error.InvalidDataError):
            return


def source_packets(source, indices: set[int], limit: int | None):
    """The packets of some streams that hold data and have a time.

    Args:
        source: An opened input.
        indices: Which streams.
        limit: Stops after so many packets of each stream, or after a long search
            without one; `None` for all.
    """
    left = None if limit is None else dict.fromkeys(indices, limit)
    patience = 0 if limit is None else 200 * limit  # packets of any stream
    for read, packet in enumerate(_until_damage(source)):
        if left is not None and (read >= patience or not any(left.values())):
            return
        index = packet.stream.index
        if index not in indices or packet.size == 0:
            continue
        if packet.pts is None:
            packet.pts = packet.dts
        if packet.pts is None:
            continue
        if left is not None:
            left[index] = max(0, left[index] - 1)
        yield packet
