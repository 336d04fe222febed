"""Is a file whole? The evidence for and against, weighed before any work is done.

FFmpeg decodes half of a file without complaint when the other half is missing. So three
witnesses are heard:

- the container's outermost structure (`wholeness`): exact where it says anything;
- its claims, the declared durations and number of frames, against the packets;
- the packets themselves, which are marked where the demuxer met damage.

Where the structure is whole and only a claim disagrees, everything is decoded and
counted: a stale claim is noted, a hole ends the job. Where nothing tells where the file
ends, that is a doubt, which the job reports and by which it ends with exit code 2.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from keras_megan.video.errors import VideoError
from keras_megan.video.io.opening import main_video_stream, open_input
from keras_megan.video.io.reading.wholeness import Structure, structure

# Formats whose header declares the duration; elsewhere FFmpeg can only estimate it.
_DECLARING_FORMATS = {"mov", "mp4", "matroska", "webm", "avi", "flv", "asf"}
# Formats whose header declares the number of frames.
_COUNTING_FORMATS = {"mov", "mp4", "avi"}
_SLACK = Fraction(1, 20)  # seconds by which honest headers are rounded
_NEARLY = Fraction(3, 5)  # of a frame: less is missing than one
ADVICE = (
    "Fetch it again or repair it first, or take what is there with --allow-damaged."
)


@dataclass
class Span:
    """Running totals over one stream's packets, in units of its time base.

    Attributes:
        stored: Packets, including those that are not shown.
        shown: Packets that are shown.
        damaged: Packets that the demuxer marked.
        first, last, end: Earliest and latest time, latest end.
        times: All times, in the order of the packets.
    """

    stored: int = 0
    shown: int = 0
    damaged: int = 0
    first: int | None = None
    last: int | None = None
    end: int | None = None
    times: array = field(default_factory=lambda: array("q"))

    def add(self, packet: av.Packet) -> None:
        self.stored += 1
        self.damaged += packet.is_corrupt
        if packet.is_discard:
            return
        self.shown += 1
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return
        end = time + (packet.duration or 0)
        self.first = time if self.first is None else min(self.first, time)
        self.last = time if self.last is None else max(self.last, time)
        self.end = end if self.end is None else max(self.end, end)
        self.times.append(time)


def weigh(
    path: Path,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    spans: dict[int, Span],
    rate: Fraction,
    tagged: Fraction | None,
    allow_damaged: bool,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Weighs all evidence on whether a file is whole, after its packets were read.

    Args:
        path: The file.
        container, stream: The opened file and its main video stream.
        spans: Totals by stream index.
        rate: Frames per second.
        tagged: The stream's duration in seconds according to its tags.
        allow_damaged: Note what is missing instead of refusing the file.

    Returns:
        (notes, doubts): lines for the user; the second make the result uncertain.

    Raises:
        VideoError: If something is missing, unless `allow_damaged`.
    """
    formats = set(container.format.name.split(","))
    form = structure(path, container.format.name)
    span = spans[stream.index]
    claims = []
    if formats & _DECLARING_FORMATS:
        claims = list(_durations(container, stream, spans, rate, tagged))
    unmet = _unmet(stream, span, claims, 2 / rate + _SLACK)
    counted = bool(formats & _COUNTING_FORMATS) and _has_all(stream, span) and not unmet
    notes, losses = [], []
    if span.damaged:
        losses.append(f"{span.damaged} of its packets are damaged")
    if form in (Structure.CUT, Structure.BROKEN) and not counted:
        losses.append(form.value)
    if unmet and form is Structure.WHOLE and not losses and _all_decodes(path, span):
        notes.append(f"'{path}': {unmet[0]}, but what there is, is not damaged.")
    elif unmet:
        losses.append(unmet[0])
    if losses and not allow_damaged:
        raise VideoError(
            f"'{path}' is damaged or cut short: {'; '.join(losses)}. {ADVICE}"
        )
    notes += [f"'{path}' is damaged: {loss}." for loss in losses]
    if span.stored > span.shown:
        notes.append(
            f"'{path}' tells players not to show {span.stored - span.shown} of its "
            "frames: they are left out."
        )
    doubts = []
    if not (counted or form is Structure.WHOLE):
        # What sound may have decided is not a claim about the pictures.
        own = claims if len(spans) == 1 else claims[:-1]
        nearly = [] if losses else _unmet(stream, span, own, _NEARLY / rate)
        doubts = list(_doubts(container.format.name, bool(claims), nearly, span))
        doubts = [f"'{path}' {doubt}" for doubt in doubts]
    if allow_damaged:
        return (*notes, *doubts), ()
    return tuple(notes), tuple(doubts)


def _has_all(stream, span: Span) -> bool:
    return 0 < stream.frames <= span.stored and not span.damaged


def _doubts(name: str, claims: bool, nearly: list[str], span: Span) -> Iterator[str]:
    """Why it is not certain that all is there, as clauses that follow a name."""
    if not claims:
        yield (
            f"does not say where it ends ({name}): if its end is missing, nothing can "
            "tell."
        )
    if nearly:
        yield f"may lack its last frames: {nearly[0]}."
    gaps = _gaps(span.times)
    if gaps:
        yield f"has {gaps} gaps in time: frames may have been lost there."


def _durations(
    container, stream, spans, rate, tagged
) -> Iterator[tuple[Fraction, ...]]:
    """Yields (start, end of the data, declared duration) in seconds."""
    base, span = stream.time_base, spans[stream.index]
    if span.end is None:
        return
    begin = (stream.start_time or 0) * base
    ends = {
        index: each.end * container.streams[index].time_base
        for index, each in spans.items()
        if each.end is not None
    }
    if span.end == span.last:  # its packets do not say how long they are shown
        ends[stream.index] += 1 / rate
    if stream.duration:
        yield begin, ends[stream.index], stream.duration * base
    if tagged is not None:
        yield begin, ends[stream.index], tagged
    if container.duration and container.duration > 0:
        begin = Fraction(container.start_time or 0, av.time_base)
        yield begin, max(ends.values()), Fraction(container.duration, av.time_base)


def _unmet(stream, span: Span, claims, slack: Fraction) -> list[str]:
    """The claims that the packets miss by more than `slack` seconds, as clauses."""
    found = []
    if span.stored < stream.frames:
        found.append(
            f"its header declares {stream.frames} frames, its data hold {span.stored}"
        )
    for begin, end, declared in claims:
        # Pieces cut out of a longer clip count from its start or from their own.
        reached = max(end, end - begin)
        if reached + slack < declared:
            found.append(
                f"its header declares {float(declared):.2f} seconds, its data end "
                f"after {float(end - begin):.2f}"
            )
    return found


def _all_decodes(path: Path, span: Span) -> bool:
    """Decodes everything; whether each packet that is shown gave a whole picture."""
    count = 0
    with open_input(path) as container:
        stream = main_video_stream(container, path)
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    return False
                count += 1
        except av.error.FFmpegError:
            return False
    return count >= span.shown


def _gaps(times: array) -> int:
    """How many frames of a steady clip come later than one frame after the last."""
    ordered = sorted(times)
    steps = [b - a for a, b in zip(ordered, ordered[1:], strict=False) if b > a]
    if len(steps) < 4:
        return 0
    usual = sorted(steps)[len(steps) // 2]
    unusual = sum(step > 1.6 * usual for step in steps)
    # Where times are uneven throughout, gaps say nothing.
    return unusual if unusual <= max(2, len(steps) // 10) else 0
