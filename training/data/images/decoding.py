"""Turns image files' bytes into one array, or says in one line which ones fail.

    bytes of each file -> uint8 (N, H, W, 3) RGB

Images larger than asked for are shrunk by averaging and cropped to a centred square;
smaller ones are refused, because enlarging them would invent detail. All files are
checked first, so that the line can say how many are at fault.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from training.errors import TrainingError


@dataclass(frozen=True)
class LabelledImages:
    """One split.

    Attributes:
        images: uint8 (N, H, W, 3) RGB.
        labels: int64 (N,), indices into the classes.
        class_names: In order of the labels; empty where the source names none.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] = ()


def decode_all(
    coded: Iterable[np.ndarray | bytes],
    names: Callable[[int], str],
    size: int | None,
    where: str,
) -> np.ndarray:
    """Image files' bytes to one array.

    Args:
        coded: The bytes of each file.
        names: Number of an image -> what to call it in an error.
        size: Side in pixels, or None.
        where: What to call them all.

    Returns:
        uint8 (N, H, W, 3) RGB.

    Raises:
        TrainingError: Naming the first image at fault and how many there are.
    """
    images: list[np.ndarray] = []
    broken: list[int] = []
    for number, data in enumerate(coded):
        data = np.frombuffer(data, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if image is None:
            broken.append(number)
        elif not broken:
            images.append(fit_size(image[..., ::-1], size, names(number), where))
    if broken:
        raise TrainingError(
            f"{len(broken)} image(s) of {where} do not decode, the first is "
            f"{names(broken[0])}. Remove or replace them."
        )
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        odd = next(i for i, im in enumerate(images) if im.shape != images[0].shape)
        raise TrainingError(
            f"The images of {where} differ in size: {names(odd)} is "
            f"{images[odd].shape[:2]}, {names(0)} {images[0].shape[:2]}. Give a size."
        )
    return np.stack(images) if images else np.zeros((0, size or 1, size or 1, 3), "u1")


def fit_size(image: np.ndarray, size: int | None, name: str, where: str) -> np.ndarray:
    """One image (H, W, 3) as (size, size, 3); as it is if size is None.

    Raises:
        TrainingError: If it is smaller.
    """
    if size is None or image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    height, width = image.shape[:2]
    if min(height, width) < size:
        raise TrainingError(
            f"Image {name} of {where} is {width}x{height}; expected at least "
            f"{size}x{size}. Use a smaller size."
        )
    scale = size / min(height, width)
    shape = (max(size, round(width * scale)), max(size, round(height * scale)))
    image = cv2.resize(np.ascontiguousarray(image), shape, interpolation=cv2.INTER_AREA)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return np.ascontiguousarray(image[top : top + size, left : left + size])
