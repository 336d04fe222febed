"""Find out what the output can hold before any frame is computed.

In: the input and how the output is to be coded. Out: the `Way` each of the input's
other streams goes. A few grey pictures of the output's size are encoded by the very
encoder of the job, and joined by the very code that will join the result with the first
packets of each stream; the file is opened again and listened to. What does not come out
as it went in is re-encoded, and what cannot be is left out; a line says so. So no job
is lost at its end to something its first second could have told.
"""

import errno
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from keras_megan.video.errors import VideoError, reading, reason
from keras_megan.video.io.opening import main_video_stream, open_input
from keras_megan.video.io.writing.assemble import Beside, assemble_video, source_packets
from keras_megan.video.io.writing.segments import VideoEncoder
from keras_megan.video.io.writing.tracks import (
    Way,
    codec_name,
    describe_lost,
    samples_of,
    ways_for,
)
from keras_megan.video.jobs.journal import Segment, remove

_PICTURES = 3
_PACKETS = 24  # of each stream
# Not what is written is at fault, but where: to be said and not worked around.
NO_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS}
# Sample formats with other than floating point values: the middle, and full loudness.
_CENTRE = {"u8": 128}
_FULL = {"u8": 128, "s16": 2**15, "s32": 2**31, "s64": 2**63}
_SILENCE = 1e-3
REFUSED = (av.error.FFmpegError, ValueError, OSError)


def find_ways(
    new_encoder: Callable[[Path], VideoEncoder],
    picture: np.ndarray,
    beside: Beside | None,
    folder: Path,
    suffix: str,
    note: Callable[[str], None],
    sound: bool = True,
) -> list[Way]:
    """Tries the output with all its streams.

    Args:
        new_encoder: Makes the job's encoder, given a path.
        picture: A picture of the size and type of the job's frames.
        beside: The input and the part of it that is used; its ways are ignored.
            `None` for a folder of images, which holds nothing but pictures.
        folder: Where files may be made for a moment.
        suffix: Ending of the output.
        note: Called with each line the user should read.
        sound: Whether to keep sound.

    Returns:
        A way for each stream that is kept.

    Raises:
        VideoError: If not even the pictures can be written.
    """
    facts = [] if beside is None else _streams_beside(beside.source, suffix)
    sample, made = folder / f"trial{suffix}", folder / f"trial_joined{suffix}"
    kept: list[Way] = []
    try:
        pieces = [(sample, _encode_sample(new_encoder(sample), picture))]

        def refusal(ways: list[Way]) -> str:
            if beside is None:
                return ""
            tried = replace(beside, ways=ways, end=None, limit=_PACKETS)
            try:
                assemble_video(pieces, Fraction(1, 50), _PICTURES, made, tried)
                return _difference(made, tried)
            except REFUSED as error:
                if getattr(error, "errno", None) in NO_PLACE:
                    raise
                return reason(error)

        for kind, codec, lost, ways in facts:
            if kind == "audio" and not sound:
                continue
            chosen = next((way for way in ways if not refusal([way])), None)
            if chosen is not None and kept and refusal([*kept, chosen]):
                chosen = None
            if chosen is None:
                why = f" ({suffix} cannot hold it)" if ways else ""
                note(f"Left out: {lost} of the input{why}.")
                continue
            if chosen.kind == "encode":
                note(
                    f"{suffix} cannot hold the input's {codec} sound as it is: "
                    f"re-encoded as {chosen.encoder}."
                )
            kept.append(chosen)
    finally:
        remove(sample)
        remove(made)
    return kept


def _streams_beside(path: Path, suffix: str) -> list[tuple[str, str, str, list[Way]]]:
    """Type, codec, description and ways of each stream other than the pictures."""
    with reading(path), open_input(path) as source:
        main = main_video_stream(source, path).index
        streams = [s for s in source.streams if s.index != main]
        # The text track in which QuickTime keeps chapters: they are copied otherwise.
        chapters = bool(source.chapters())
        return [
            (s.type, codec_name(s), describe_lost(s), ways_for(s, suffix))
            for s in streams
            if not (chapters and s.type == "data" and "timecode" not in s.metadata)
        ]


def _encode_sample(encoder: VideoEncoder, picture: np.ndarray) -> Segment:
    try:
        for index in range(_PICTURES):
            encoder.write(picture, index)
        delay = encoder.close()
    except (av.error.FFmpegError, ValueError) as error:
        encoder.abandon()
        if getattr(error, "errno", None) in NO_PLACE:
            raise
        raise VideoError(
            f"The encoder {encoder.name} cannot write pictures of "
            f"{picture.shape[1]}x{picture.shape[0]} ({reason(error)}). Choose another "
            "--codec, or a folder of images."
        ) from error
    return Segment(0, tuple(range(_PICTURES)), delay)


def _difference(made: Path, beside: Beside) -> str:
    """Which of the tried streams came out changed, in words; empty if none did."""
    with open_input(made) as output, open_input(beside.source) as source:
        others = [s for s in output.streams if s.type in ("audio", "subtitle")]
        wanted = [way for way in beside.ways if way.kind != "attach"]
        if len(others) != len(wanted):
            return f"{len(others)} of {len(wanted)} streams came out"
        for stream, way in zip(others, wanted, strict=True):
            given = source.streams[way.index]
            if way.kind == "copy" and codec_name(stream) != codec_name(given):
                return f"{codec_name(given)} came out as {codec_name(stream)}"
    for number, way in enumerate(wanted):
        with open_input(made) as output, open_input(beside.source) as source:
            given = source.streams[way.index]
            if given.type != "audio":
                continue
            others = [s for s in output.streams if s.type in ("audio", "subtitle")]
            before = _loudness(source, given)
            after = _loudness(output, others[number])
            if before and not 0.5 * before <= after <= 2 * before:
                return "the sound came out as something else"
    return ""


def _loudness(container, stream) -> float:
    """Root mean square of the first packets' sound; 0 where nothing can be heard."""
    total = count = 0.0
    for packet in source_packets(container, {stream.index}, _PACKETS):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        for frame in frames:
            samples = samples_of(frame).astype(np.float64)
            kind = frame.format.packed.name
            samples = (samples - _CENTRE.get(kind, 0)) / _FULL.get(kind, 1)
            total += float(np.square(samples).sum())
            count += samples.size
    loudness = (total / count) ** 0.5 if count else 0.0
    return loudness if np.isfinite(loudness) and loudness > _SILENCE else 0.0
