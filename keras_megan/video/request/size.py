"""How large the result is: a factor, a size, a number of lines, or what fits.

    --scale 1.5              1.5 times the input's width and height
    --size 1920x1080         exactly this; the input must have this shape
    --size 1920x1080 --fit   the largest of the input's shape that fits into it
    --size 1080p             1080 lines (columns where the picture is upright)

The network enlarges by its own factor, 4, whatever is asked for; what is asked for is
made from its result, reduced with antialiasing. So the work stays that of x4, and a
smaller result is sharper than the input's pixels could be.

Sides are rounded to even numbers, which nearly all codecs need. The shape of pixels
(width over height) is kept, so pictures with oblong pixels stay as they are.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation

from keras_megan.video.errors import VideoError

SMALLEST_SCALE = Fraction(1)
_LEAST_PIXELS = 16
# Widths and heights of one shape that were rounded differ by less than this share.
_SAME_SHAPE = Fraction(1, 100)
# swscale widens the bicubic kernel where it shrinks, so nothing aliases.
_KERNEL = (
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)


@dataclass(frozen=True)
class Size:
    """The value of `--size`.

    Attributes:
        width, height: Pixels; `width` is `None` for a number of lines ("1080p").
    """

    width: int | None
    height: int

    def __str__(self) -> str:
        lines = f"{self.height}p"
        return lines if self.width is None else f"{self.width}x{self.height}"


def parse_size(text: str) -> Size:
    """Reads "1920x1080" or "1080p".

    Raises:
        ValueError: If the text is neither.
    """
    both = re.fullmatch(r"([1-9]\d{1,4})[xX]([1-9]\d{1,4})", text)
    lines = re.fullmatch(r"([1-9]\d{1,4})[pP]", text)
    if both is not None:
        size = Size(int(both[1]), int(both[2]))
    elif lines is not None:
        size = Size(None, int(lines[1]))
    else:
        raise ValueError(f"expected a size such as 1920x1080 or 1080p: '{text}'")
    if min(size.width or size.height, size.height) < _LEAST_PIXELS:
        raise ValueError(f"expected at least {_LEAST_PIXELS} pixels each way: '{text}'")
    return size


def output_size(
    width: int,
    height: int,
    largest: int,
    scale: Fraction | None = None,
    size: Size | None = None,
    fit: bool = False,
) -> tuple[int, int]:
    """The size of the result.

    Args:
        width, height: The input's, as shown.
        largest: How many times the network enlarges.
        scale: Factor, 1 to `largest`; or
        size: The value of `--size`. Without either, `largest` times.
        fit: Whether `size` is a box that the result has to fit into.

    Returns:
        Width and height, even unless they are `largest` times the input's.

    Raises:
        VideoError: If it is larger than the network can make, would distort the
            picture, or the settings do not go together.
    """
    if fit and (size is None or size.width is None):
        raise VideoError("--fit needs a box to fit into: --size WIDTHxHEIGHT.")
    if scale is not None and size is not None:
        raise VideoError("--scale and --size exclude each other: give one of them.")
    most = (width * largest, height * largest)
    if scale is not None:
        if not SMALLEST_SCALE <= scale <= largest:
            raise VideoError(
                f"--scale must be from 1 to {largest}. Received: {float(scale):g}"
            )
        return (
            most if scale == largest else (_even(width * scale), _even(height * scale))
        )
    if size is None:
        return most
    if size.width is None:
        factor = Fraction(size.height, min(width, height))
    else:
        across, down = Fraction(size.width, width), Fraction(size.height, height)
        factor = min(across, down)
        distorted = abs(across / down - 1) > _SAME_SHAPE
        if not fit and not distorted:
            return _within((_even(size.width), _even(size.height)), most, size, largest)
        if not fit:
            near = f"{_even(width * factor)}x{_even(height * factor)}"
            raise VideoError(
                f"{width}x{height} cannot become {size} without distortion. Add --fit "
                f"for {near}, or choose a size of the same shape."
            )
    found = (_even(width * factor), _even(height * factor))
    return _within(found, most, size, largest)


def _within(
    found: tuple[int, int], most: tuple[int, int], size: Size, largest: int
) -> tuple[int, int]:
    if found[0] > most[0] or found[1] > most[1]:
        raise VideoError(
            f"--size {size} is more than {largest} times the input, which gives "
            f"{most[0]}x{most[1]} at most. Choose a smaller size, or upscale the "
            "result again."
        )
    return found


def _even(length: Fraction | int) -> int:
    return max(2, 2 * round(Fraction(length) / 2))


def resizer(width: int, height: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that resizes RGB images (H, W, 3), uint8 or uint16, with antialiasing.

    Images that already have that size are returned unchanged.
    """

    def resize(image: np.ndarray) -> np.ndarray:
        if image.shape[:2] == (height, width):
            return image
        format_ = "rgb24" if image.dtype == np.uint8 else "rgb48le"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=format_)
        frame = frame.reformat(
            width=width, height=height, format=format_, interpolation=_KERNEL
        )
        return frame.to_ndarray()

    return resize
