"""A picture of two clips side by side, made to be looked at.

In: two clips (files, folders or single images) of any size and rate. Out: a PNG. Each
row is one moment: the whole frame of the second clip with a box, and the contents of
the box in both clips, enlarged to one size. The box sits where the second clip has most
detail; it stays in place for all rows so that motion can be followed.

Clips are matched by time, not by index: each shows the frame a viewer would see at that
moment. Both crops are enlarged by Lanczos interpolation, the sharpest that a player or
an editor would use: beside square pixels any result would look good.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keras_megan.files import write_whole
from keras_megan.video.errors import VideoError, writing
from keras_megan.video.io.reading.read import open_clip

_BACKGROUND = (24, 26, 30)
_TEXT = (236, 238, 240)
_FAINT = (150, 156, 164)
_ACCENT = (255, 176, 32)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_ROW_HEIGHT = 360  # pixels
_MARGIN = 16
_HEADER = 44
_BOX_SHARE = 0.24  # of the smaller side of the picture


@dataclass(frozen=True)
class Box:
    """A part of a picture, in fractions of its width and height."""

    left: float
    top: float
    width: float
    height: float

    def of(self, image: np.ndarray) -> np.ndarray:
        """The part of an image (H, W, 3)."""
        height, width = image.shape[:2]
        top, left = round(self.top * height), round(self.left * width)
        bottom = max(top + 1, round((self.top + self.height) * height))
        right = max(left + 1, round((self.left + self.width) * width))
        return image[top:bottom, left:right]


def compare(
    first: str | Path,
    second: str | Path,
    output: str | Path,
    labels: Sequence[str] | None = None,
    moments: int = 3,
    force: bool = False,
) -> None:
    """Writes a PNG that shows two clips at the same moments.

    Args:
        first, second: Video files, folders of images or single images.
        output: The `.png` file to make.
        labels: Two names to show; the file names if not given.
        moments: Number of rows, evenly spread over the shorter clip.
        force: Replace an existing output.

    Raises:
        VideoError: If a clip cannot be read or the picture not be written.
    """
    output = Path(output)
    if output.suffix.lower() != ".png":
        raise VideoError(f"The picture must be a .png file. Received: '{output}'")
    if output.exists() and not force:
        raise VideoError(f"'{output}' exists. Use --force to replace it.")
    if moments < 1:
        raise VideoError(f"--moments must be at least 1. Received: {moments}")
    labels = tuple(labels or (Path(first).name, Path(second).name))
    clips = [open_clip(first), open_clip(second)]
    length = min(clip.info.duration for clip in clips)
    times = [length * (2 * k + 1) / (2 * moments) for k in range(moments)]
    rows = list(zip(*(_frames_at(clip, times) for clip in clips), times, strict=True))
    box = most_detailed_box(rows[0][1])
    write_png(output, strip(rows, box, labels))


def _frames_at(clip, times: Sequence[Fraction]) -> list[np.ndarray]:
    """The images that are visible at these increasing times, from the clip's start."""
    found: list[np.ndarray] = []
    start = clip.info.start
    image: Any = None
    for frame in clip.frames():
        image = frame.image
        end = frame.time - start + frame.duration
        while len(found) < len(times) and times[len(found)] < end:
            found.append(image)
        if len(found) == len(times):
            return found
    return found + [image] * (len(times) - len(found))


def most_detailed_box(image: np.ndarray, share: float = _BOX_SHARE) -> Box:
    """The square of an image (H, W, 3) in which brightness changes most.

    Args:
        image: uint8 RGB.
        share: Side of the square as a share of the smaller side of the image.
    """
    height, width = image.shape[:2]
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    detail = np.abs(cv2.Laplacian(gray, cv2.CV_32F))
    side = max(1, round(share * min(height, width)))
    sums = cv2.boxFilter(
        detail, -1, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT
    )
    inside = sums[: height - side + 1, : width - side + 1]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return Box(left / width, top / height, side / width, side / height)


def strip(rows: Sequence[tuple], box: Box, labels: Sequence[str]) -> np.ndarray:
    """Lays the picture out.

    Args:
        rows: (first image, second image, seconds) for each row; images uint8 RGB.
        box: What to enlarge.
        labels: Names of the two clips.

    Returns:
        uint8 RGB.
    """
    lines = []
    for first, second, seconds in rows:
        whole = _fit(second, _ROW_HEIGHT)
        _frame_box(whole, box)
        caption = f"{float(seconds):.2f} s"
        whole[:30, :84] //= 4  # so that it can be read
        _write(whole, caption, (10, 21), _TEXT, 0.55)
        crops = [enlarge(box.of(image), _ROW_HEIGHT) for image in (first, second)]
        gap = np.full((_ROW_HEIGHT, _MARGIN, 3), _BACKGROUND, np.uint8)
        lines.append(np.hstack([gap, whole, gap, crops[0], gap, crops[1], gap]))
    width = lines[0].shape[1]
    space = np.full((_MARGIN, width, 3), _BACKGROUND, np.uint8)
    header = np.full((_HEADER, width, 3), _BACKGROUND, np.uint8)
    crops_at = width - 2 * (_ROW_HEIGHT + _MARGIN)
    sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in rows[0][:2]]
    for index, (label, size) in enumerate(zip(labels, sizes, strict=True)):
        at = crops_at + index * (_ROW_HEIGHT + _MARGIN)
        _label(header, label, size, at)
    _write(header, "whole frame", (_MARGIN, 29), _FAINT, 0.6)
    parts = [header]
    for line in lines:
        parts += [line, space]
    return np.vstack(parts)


def enlarge(image: np.ndarray, side: int) -> np.ndarray:
    """Resizes a crop to a square: by Lanczos, or by averaging where it shrinks."""
    shrinks = min(image.shape[:2]) > side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4
    return cv2.resize(image, (side, side), interpolation=method)


def _fit(image: np.ndarray, height: int) -> np.ndarray:
    """Resizes to a height, averaging when it shrinks."""
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    shrinks = image.shape[0] > height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def _frame_box(image: np.ndarray, box: Box) -> None:
    height, width = image.shape[:2]
    corner = (round(box.left * width), round(box.top * height))
    other = (
        round((box.left + box.width) * width) - 1,
        round((box.top + box.height) * height) - 1,
    )
    cv2.rectangle(image, corner, other, (0, 0, 0), 4, cv2.LINE_AA)
    cv2.rectangle(image, corner, other, _ACCENT, 2, cv2.LINE_AA)


def _label(image: np.ndarray, label: str, size: str, left: int) -> None:
    """A label, shortened to its column, and the picture size behind it."""
    (size_width, _), _ = cv2.getTextSize(size, _FONT, 0.45, 1)
    room = _ROW_HEIGHT - size_width - 12
    text = label
    while len(text) > 4 and cv2.getTextSize(text, _FONT, 0.6, 1)[0][0] > room:
        text = text[:-4] + "..."
    _write(image, text, (left, 29), _TEXT, 0.6)
    _write(image, size, (left + _ROW_HEIGHT - size_width, 29), _FAINT, 0.45)


def _write(image: np.ndarray, text: str, at: tuple, colour: tuple, size: float) -> None:
    text = text.encode("ascii", "replace").decode()  # all the font can draw
    cv2.putText(image, text, at, _FONT, size, colour, 1, cv2.LINE_AA)


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes uint8 RGB as PNG: aside, to the disk, then renamed."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise VideoError(f"'{path}' cannot be encoded as PNG.")
    with writing(path):
        write_whole(path, data.tobytes())
