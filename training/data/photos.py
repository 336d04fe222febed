"""Photographs to train on, in one file that is mapped into memory.

    write_photos(folder, shards)   every image below the folder, at full size, two
                                   thirds and one half of it -> photos.u8, photos.json
    Photos(shards)                 the same as arrays, uint8 (H, W, 3)

Smaller copies of a sharp photograph are sharp too, and show larger things at a small
scale. They are averaged over areas, which causes little aliasing and no ringing.
"""

import json
import os
from pathlib import Path

import cv2
import numpy as np

from keras_megan.files import appearing, write_json
from training.errors import TrainingError, saving

PIXELS, INDEX = "photos.u8", "photos.json"
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
SIZES = ((1, 1), (2, 3), (1, 2))
#: Smaller copies must hold a training crop.
SMALLEST_SIDE = 224


def write_photos(folder: str | Path, shards: str | Path) -> dict:
    """Writes all photographs of a folder beside the shards; returns the index.

    Args:
        folder: Folder of images, at any depth.
        shards: Folder of `training.prepare`.

    Raises:
        TrainingError: If there is no readable image, or the disk cannot be written.
    """
    root, out = Path(folder), Path(shards)
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
    shapes, names, unreadable = [], [], []
    with saving(out):
        out.mkdir(parents=True, exist_ok=True)
        with appearing(out / PIXELS) as aside, open(aside, "wb") as file:
            for path in paths:
                image = cv2.imread(str(path), cv2.IMREAD_COLOR)
                if image is None:
                    unreadable.append(str(path.relative_to(root)))
                    continue
                image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                names.append(str(path.relative_to(root)))
                for sized in _copies(image):
                    shapes.append(sized.shape[:2])
                    file.write(np.ascontiguousarray(sized))
            file.flush()
            os.fsync(file.fileno())
        if not names:
            raise TrainingError(
                f"Expected photographs ({', '.join(SUFFIXES)}) in '{folder}'; found "
                f"none that can be read."
            )
        index = {"shapes": shapes, "names": names, "unreadable": unreadable}
        write_json(out / INDEX, index)
    return index


def _copies(image: np.ndarray) -> list[np.ndarray]:
    height, width = image.shape[:2]
    copies = []
    for up, down in SIZES:
        size = width * up // down, height * up // down
        if (up, down) != (1, 1) and min(size) < SMALLEST_SIDE:
            continue
        same = size == (width, height)
        copies.append(
            image if same else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        )
    return copies


class Photos:
    """The photographs beside some shards; a sequence of uint8 arrays (H, W, 3).

    Args:
        shards: Folder of `training.prepare`.

    Raises:
        TrainingError: If there are none or the file is damaged.
    """

    def __init__(self, shards: str | Path):
        folder = Path(shards)
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            self.shapes = [(int(h), int(w)) for h, w in index["shapes"]]
            pixels = np.memmap(folder / PIXELS, np.uint8, mode="r")
        except FileNotFoundError as error:
            raise TrainingError(
                f"'{shards}' holds no photographs. Add them first: python -m "
                f"training.prepare --photos FOLDER --videos VIDEOS --out {shards}"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"The photographs in '{shards}' cannot be read ({error}). Prepare them "
                "again."
            ) from error
        sizes = [height * width * 3 for height, width in self.shapes]
        if sum(sizes) != len(pixels):
            raise TrainingError(
                f"'{folder / PIXELS}' should hold {sum(sizes)} bytes and holds "
                f"{len(pixels)}. Prepare the photographs again."
            )
        self._pixels = pixels
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        flat = self._pixels[self._starts[index] : self._starts[index + 1]]
        return flat.reshape(*self.shapes[index], 3)
