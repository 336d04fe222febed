"""What a video codec makes of frames: encoded and decoded again, in memory.

Damage by a codec is a matter of time: most frames are predicted from earlier ones, and
what a key frame lost is carried along. So a clip goes through the codec as a whole.

Nothing is random here, and encoders run in a single thread: the same frames always come
back alike with the same libraries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from keras_megan.video.io.reading.read import CONVERSION
from training.errors import TrainingError

#: A rate for encoders that ask for one; quality does not depend on it.
RATE = 25
#: Encoders store whole blocks of so many pixels.
BLOCK = 16


def _rate_factor(preset: str, more: dict[str, str] | None = None) -> Callable:
    def options(quality: int) -> dict[str, str]:
        return {"crf": str(quality), "preset": preset, **(more or {})}

    return options


# With its macroblock tree, x264 gives another stream at times for small frames.
_X264 = "mbtree=0"
# Looking ahead, x265 writes beyond its memory where frames are as small as crops.
_X265 = "log-level=none:info=0:pools=none:frame-threads=1:rc-lookahead=0:bframes=0"


def _quantiser(quality: int) -> dict[str, str]:
    # With no range to choose from, rate control leaves the quantiser alone.
    return {"qmin": str(quality), "qmax": str(quality)}


def _vp9(quality: int) -> dict[str, str]:
    return {
        "crf": str(quality),
        "b": "0",
        "cpu-used": "6",
        "deadline": "good",
        "lag-in-frames": "0",
    }


@dataclass(frozen=True)
class Codec:
    """An encoder with its decoder.

    Attributes:
        encoder, decoder: FFmpeg's names.
        options: Quality -> the encoder's options.
        best, worst: The range of qualities from hardly visible to badly damaged, in
            the encoder's own units (rate factors, quantiser scales).
    """

    encoder: str
    decoder: str
    options: Callable[[int], dict[str, str]]
    best: int
    worst: int


#: Name -> codec.
CODECS: dict[str, Codec] = {
    "h264": Codec(
        "libx264", "h264", _rate_factor("veryfast", {"x264-params": _X264}), 18, 38
    ),
    "h265": Codec(
        "libx265",
        "hevc",
        _rate_factor("superfast", {"x265-params": _X265}),
        20,
        40,
    ),
    "mpeg2": Codec("mpeg2video", "mpeg2video", _quantiser, 2, 16),
    "vp9": Codec("libvpx-vp9", "vp9", _vp9, 20, 56),
}


def through_codec(
    frames: np.ndarray, codec: str, quality: int
) -> tuple[np.ndarray, int]:
    """Frames as they come out of a codec.

    Args:
        frames: uint8 RGB (N, H, W, 3), encoded in this order, the first one as a key
            frame.
        codec: A key of `CODECS`.
        quality: In the encoder's units; a larger number is a worse picture.

    Returns:
        The decoded frames, uint8 RGB (N, H, W, 3), and the bytes that they took.

    Raises:
        TrainingError: If the codec is unknown, or the installed FFmpeg cannot encode
            with it.
    """
    import av

    chosen = _chosen(codec)
    height, width = frames.shape[1:3]
    beyond = ((0, 0), (0, -height % BLOCK), (0, -width % BLOCK), (0, 0))
    padded = np.pad(frames, beyond, mode="edge")
    try:
        packets = _encode(padded, chosen, quality)
        decoder = av.CodecContext.create(chosen.decoder, "r")
        decoder.thread_count = 1
        decoded = [frame for packet in packets for frame in decoder.decode(packet)]
        decoded += decoder.decode(None)
    except (av.error.FFmpegError, ValueError) as error:
        raise TrainingError(f"{chosen.encoder} failed: {error}.") from error
    if len(decoded) != len(frames):
        raise TrainingError(
            f"{chosen.encoder} gave back {len(decoded)} of {len(frames)} frames."
        )
    images = np.stack(
        [f.to_ndarray(format="rgb24", interpolation=CONVERSION) for f in decoded]
    )
    return images[:, :height, :width], sum(packet.size for packet in packets)


def _chosen(codec: str) -> Codec:
    if codec not in CODECS:
        raise TrainingError(
            f"Unknown codec '{codec}'; choose from {', '.join(CODECS)}."
        )
    return CODECS[codec]


def _encode(frames: np.ndarray, codec: Codec, quality: int):
    import av

    encoder = av.CodecContext.create(codec.encoder, "w")
    encoder.height, encoder.width = frames.shape[1:3]
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = RATE, Fraction(1, RATE)
    encoder.thread_count = 1
    encoder.options = codec.options(quality)
    packets = []
    for number, image in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = number
        picture = frame.reformat(format="yuv420p", interpolation=CONVERSION)
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    return packets


def parse_quality(text: str) -> tuple[str, int]:
    """ "h264:32" -> ("h264", 32).

    Raises:
        TrainingError: For another form or an unknown codec.
    """
    codec, _, quality = text.partition(":")
    _chosen(codec)
    if not quality.isdigit():
        raise TrainingError(
            f"Expected a codec and its quality, such as h264:32; received '{text}'."
        )
    return codec, int(quality)
