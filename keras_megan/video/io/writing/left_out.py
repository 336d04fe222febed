"""What the result does not keep of the pictures themselves, as lines for the user.

In: the input's facts and the codec of the output. Out: one line for each thing that is
lost: bits, colour resolution, transparency, mastering data. Lost streams are reported
by `trial`.
"""

import av

from keras_megan.video.io.reading.probe import VideoInfo
from keras_megan.video.io.writing.codecs import CODECS, Codec

_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


def picture_losses(info: VideoInfo, codec: Codec | None, deep: bool) -> list[str]:
    """Lines that say what each picture loses.

    Args:
        info: The input.
        codec: How the output is coded; `None` for PNG images.
        deep: Whether frames are processed with more than 8 bits.
    """
    given = av.VideoFormat(info.pixel_format)
    lines = []
    if any(part.is_alpha for part in given.components):
        lines.append("The input's transparency (alpha) is left out.")
    if codec is None:
        return lines
    made = av.VideoFormat(codec.deep_format if deep else codec.pixel_format)
    bits = max(part.bits for part in made.components)
    hdr = _HDR_TRANSFERS.get(info.colour.transfer, "")
    if info.depth > bits:
        deeper = [c.name for c in CODECS.values() if c.deep_format]
        advice = f" Codecs that keep 10: {', '.join(deeper)}." if bits == 8 else ""
        kind = f" {hdr}" if hdr else ""
        lines.append(
            f"The input's {info.depth}-bit{kind} pictures are written with {bits} "
            f"bits by {codec.name}.{advice}"
        )
    if (
        _halvings(made) > _halvings(given)
        and not given.is_rgb
        and "gray" not in (given.name)
    ):
        lines.append(
            f"The input's colour resolution ({given.name}) is reduced to "
            f"{made.name} by {codec.name}."
        )
    if info.mastering is not None and not codec.mastering:
        keeping = [c.name for c in CODECS.values() if c.mastering]
        lines.append(
            f"The input's HDR mastering data are left out by {codec.name}; "
            f"{' and '.join(keeping)} keep them."
        )
    return lines


def _halvings(picture: av.VideoFormat) -> int:
    """How coarsely colour is stored: 0 for 4:4:4, 1 for 4:2:2, 2 for 4:2:0."""
    if picture.is_rgb or len(picture.components) < 3:
        return 0
    across, down = picture.chroma_width(64), picture.chroma_height(64)
    return (
        (64 // max(1, across)).bit_length() - 1 + (64 // max(1, down)).bit_length() - 1
    )
