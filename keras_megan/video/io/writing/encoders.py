"""The finer choices of an encoder: its preset, its pixel format, or one in hardware.

A hardware encoder is asked for by name (`--encoder nvenc`) and tried on a few frames
before the job begins. Where it does not work the software encoder is used, and a note
says so: a job never fails for want of a graphics card.
"""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np

from keras_megan.video.errors import VideoError, reason
from keras_megan.video.io.writing.codecs import Codec

SOFTWARE = "software"
_TRIED_SIZE = 256  # some refuse less
_TRIED_FRAMES = 3


@dataclass(frozen=True)
class Hardware:
    """A family of hardware encoders.

    Attributes:
        maker: For people.
        quality: What they call their quality setting.
        options: Further options.
        presets: Values of their `preset`.
    """

    maker: str
    quality: str
    options: dict[str, str] = field(default_factory=dict)
    presets: tuple[str, ...] = ()


HARDWARE = {
    "nvenc": Hardware(
        "NVIDIA", "cq", {"rc": "vbr", "b": "0"}, tuple(f"p{n}" for n in range(1, 8))
    ),
    "qsv": Hardware(
        "Intel",
        "global_quality",
        presets=("veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"),
    ),
    "amf": Hardware("AMD", "qvbr_quality_level", {"rc": "qvbr"}),
    "videotoolbox": Hardware("Apple", "q"),
}
ENCODERS = (SOFTWARE, *HARDWARE)
_FAMILY_NAMES = {"h264": "h264", "h265": "hevc", "av1": "av1", "vp9": "vp9"}
_FORMATS = ("yuv420p", "nv12")


def tune(
    codec: Codec | None,
    encoder: str | None = None,
    preset: str | None = None,
    pix_fmt: str | None = None,
) -> tuple[Codec | None, tuple[str, ...]]:
    """A codec with the encoder, preset and pixel format that were asked for.

    Args:
        codec: What `choose_codec` found; `None` for a folder of images.
        encoder: "software" or a key of `HARDWARE`.
        preset: How hard the encoder tries: a value of its own.
        pix_fmt: FFmpeg's name of the pixel format to encode.

    Returns:
        The codec, and notes for the user.

    Raises:
        VideoError: If there is no such encoder, preset or pixel format.
    """
    if codec is None:
        asked = {"--encoder": encoder, "--preset": preset, "--pix-fmt": pix_fmt}
        for option, value in asked.items():
            if value is not None:
                raise VideoError(f"A folder of PNG images takes no {option}.")
        return None, ()
    notes: tuple[str, ...] = ()
    if encoder not in (None, SOFTWARE):
        codec, notes = _in_hardware(codec, encoder)
    if preset is not None and not (notes and preset not in codec.presets):
        if preset not in codec.presets:
            known = ", ".join(codec.presets) or "none"
            raise VideoError(
                f"The encoder {codec.encoder} has no preset '{preset}'. Presets: "
                f"{known}."
            )
        options = {**codec.options, codec.preset: preset}
        codec = replace(codec, options=options)
    if pix_fmt is not None:
        formats = _formats(codec.encoder)
        if pix_fmt not in formats:
            raise VideoError(
                f"The encoder {codec.encoder} has no pixel format '{pix_fmt}'. "
                f"Formats: {', '.join(formats)}."
            )
        deep = av.VideoFormat(pix_fmt).components[0].bits > 8
        codec = replace(
            codec, pixel_format=pix_fmt, deep_format=pix_fmt if deep else ""
        )
    return codec, notes


def _in_hardware(codec: Codec, family: str | None) -> tuple[Codec, tuple[str, ...]]:
    if family not in HARDWARE:
        raise VideoError(f"Unknown encoder '{family}'. Known: {', '.join(ENCODERS)}.")
    hardware = HARDWARE[family]
    name = f"{_FAMILY_NAMES.get(codec.name, codec.name)}_{family}"
    try:
        formats = _formats(name)
    except av.codec.codec.UnknownCodecError:
        failure = f"this FFmpeg has no encoder {name}"
    else:
        tuned = replace(
            codec,
            encoder=name,
            pixel_format=next((f for f in _FORMATS if f in formats), "nv12"),
            deep_format="p010le" if "p010le" in formats else "",
            mastering="",
            options=dict(hardware.options),
            quality=hardware.quality,
            presets=hardware.presets,
        )
        failure = _try(tuned)
        if not failure:
            return tuned, ()
    return codec, (
        f"Encoding on the hardware of {hardware.maker} does not work here ({failure}): "
        f"encoded by {codec.encoder} instead.",
    )


def _formats(encoder: str) -> list[str]:
    return [f.name for f in av.Codec(encoder, "w").video_formats or ()]


def _try(codec: Codec) -> str:
    """Encodes a few frames; why that does not work, or ""."""
    try:
        context: Any = av.CodecContext.create(codec.encoder, "w")
        context.width = context.height = _TRIED_SIZE
        context.pix_fmt = codec.pixel_format
        context.time_base = Fraction(1, 25)
        context.framerate = Fraction(25)
        context.options = codec.encoder_options(None)
        size = 0
        picture = np.zeros((_TRIED_SIZE, _TRIED_SIZE, 3), np.uint8)
        for index in range(_TRIED_FRAMES):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format=codec.pixel_format)
            frame.pts = index
            size += sum(packet.size for packet in context.encode(frame))
        size += sum(packet.size for packet in context.encode(None))
    except (OSError, ValueError, av.error.FFmpegError) as error:
        return f"{codec.encoder}: {reason(error)}"
    return "" if size else f"{codec.encoder} gave no data"
