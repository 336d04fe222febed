"""A folder of images as a clip.

In: a folder. Out: its images in natural order (frame_2 before frame_10), read one at a
time as RGB (H, W, 3), uint8 or, where they hold more than 8 bits, uint16; and the time
of each.

The time of image i is i / rate, unless the folder holds `timestamps.txt`: the plain
format of the MKVToolNix suite (first line `# timestamp format v2`, then milliseconds,
one line for each image and one for the end of the last). `megan upscale` writes it
beside the images it makes, so a variable frame rate survives the way through a folder.
"""

import hashlib
import re
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from keras_megan.video.errors import VideoError, reading
from keras_megan.video.io.reading.probe import VideoInfo

TIMESTAMPS = "timestamps.txt"
_HEADER = "# timestamp format v2"
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# Last bytes of a whole file. OpenCV shows half a picture without an error.
_ENDINGS = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}
# FFmpeg's names, by channels and bytes of a value.
_FORMATS = {
    ("rgb", 1): "rgb24",
    ("rgb", 2): "rgb48le",
    ("rgba", 1): "rgba",
    ("rgba", 2): "rgba64le",
}


def natural_key(path: Path) -> list:
    """Sort key under which numbers in names count as numbers."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [int(part) if part.isdigit() else part for part in parts]


class ImageFolder:
    """Images of a folder in order, with times.

    Args:
        path: The folder.
        rate: Frames per second, used if the folder has no `timestamps.txt`.
        deep: Whether images are given as uint16 instead of uint8.

    Raises:
        VideoError: If the folder holds no image or its `timestamps.txt` does not fit.
    """

    def __init__(
        self, path: str | Path, rate: Fraction | None = None, deep: bool = False
    ):
        self.path, self.deep = Path(path), deep
        with reading(self.path):
            self.files = image_files(self.path)
        if not self.files:
            raise VideoError(
                f"The folder '{self.path}' holds no images "
                f"({', '.join(sorted(_SUFFIXES))})."
            )
        self.times = self._read_times(Fraction(rate or 25))
        first, pixel_format = _read(self.files[0]), "rgb"
        as_stored = cv2.imread(str(self.files[0]), cv2.IMREAD_UNCHANGED)
        if as_stored is not None and as_stored.shape[2:] == (4,):
            pixel_format = "rgba"
        height, width = first.shape[:2]
        count, end = len(self.files), self.times[-1]
        self.info = VideoInfo(
            path=self.path,
            width=width,
            height=height,
            num_frames=count,
            start=self.times[0],
            end=end,
            time_base=Fraction(1, _common_denominator(self.times)),
            rate=count / (end - self.times[0]),
            codec="images",
            pixel_format=_FORMATS[pixel_format, first.dtype.itemsize],
            depth=8 * first.dtype.itemsize,
            notes=tuple(_gaps(self.path, self.files)),
            content=_content(self.path, self.files),
        )

    def image(self, index: int) -> np.ndarray:
        """Image `index` as RGB of the folder's size, shape (H, W, 3)."""
        image = _read(self.files[index])
        if image.shape[:2] != (self.info.height, self.info.width):
            raise VideoError(
                f"'{self.files[index]}' is {image.shape[1]}x{image.shape[0]}, but the "
                f"first image of the folder is {self.info.width}x{self.info.height}. "
                "All images of a clip must have one size."
            )
        deep = image.dtype == np.uint16
        if deep == self.deep:
            return image
        # 257 = 65535 / 255: white stays white.
        if self.deep:
            return image * np.uint16(257)
        return ((image + 128.0) / 257).astype(np.uint8)

    def _read_times(self, rate: Fraction) -> list[Fraction]:
        count = len(self.files)
        listing = self.path / TIMESTAMPS
        if not listing.exists():
            return [index / rate for index in range(count + 1)]
        with reading(listing):
            lines = listing.read_text(encoding="utf-8").split("\n")
        try:
            times = [Fraction(line) / 1000 for line in lines[1:] if line.strip()]
        except ValueError as error:
            raise VideoError(
                f"'{listing}' holds something that is not a time."
            ) from error
        increasing = all(a < b for a, b in zip(times, times[1:], strict=False))
        if len(times) != count + 1 or not increasing or not lines[0].startswith("#"):
            raise VideoError(
                f"'{listing}' must hold '{_HEADER}' and {count + 1} increasing times "
                f"(one for each image, one for the end). Received: {len(times)} times. "
                "Correct or delete it."
            )
        return times


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order, without hidden files.

    Raises:
        OSError: If the folder cannot be read.
    """
    found = (p for p in folder.iterdir() if not p.name.startswith("."))
    return sorted((p for p in found if p.suffix.lower() in _SUFFIXES), key=natural_key)


def _gaps(folder: Path, files: list[Path]) -> list[str]:
    """A line if numbers are missing between names that differ by a number alone."""
    numbers = []
    stems = set()
    for file in files:
        parts = re.split(r"(\d+)(?=\D*$)", file.stem)
        if len(parts) != 3:
            return []
        stems.add((parts[0], parts[2]))
        numbers.append(int(parts[1]))
    steps = {b - a for a, b in zip(numbers, numbers[1:], strict=False)}
    if len(stems) != 1 or len(steps) < 2:
        return []
    usual = min(steps)
    after = next(i for i in range(len(files)) if numbers[i + 1] - numbers[i] > usual)
    return [
        f"The numbering in '{folder}' has gaps (after '{files[after].name}' comes "
        f"'{files[after + 1].name}'): the images are shown one after another all the "
        "same."
    ]


def _content(folder: Path, files: list[Path]) -> str:
    """A checksum of names, sizes and dates that changes when an image does."""
    digest = hashlib.sha256()
    listing = folder / TIMESTAMPS
    with reading(folder):
        for file in [*files, *([listing] if listing.exists() else [])]:
            facts = file.stat()
            digest.update(f"{file.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read(file: Path) -> np.ndarray:
    with reading(file):
        data = file.read_bytes()
    ending = _ENDINGS.get(file.suffix.lower(), b"")
    image = None
    if data and ending in data[-4096:]:  # some cameras append a few bytes
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise VideoError(f"Cannot read '{file}': the image is damaged or cut short.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def timestamps_text(times: list[Fraction]) -> str:
    """The contents of `timestamps.txt` for these times, in seconds, end included."""
    lines = [f"{float(time * 1000):.6f}".rstrip("0").rstrip(".") for time in times]
    return "\n".join([_HEADER, *lines, ""])


def _common_denominator(times: list[Fraction]) -> int:
    denominator = 1
    for time in times:
        denominator = int(np.lcm(denominator, time.denominator))
        if denominator > 90_000:  # beyond what clips are counted in
            return 90_000
    return denominator
