"""All clips decoded once, in one memory-mapped file.

Decoding a whole frame for a training crop of 128x128 pixels would be wasteful. So the
shards are decoded once into ``cache/clips.u8`` beside them, raw uint8, and a sample is
then a copy of 7 small rectangles out of the page cache. The file takes three bytes per
pixel (5,500 frames of 640x360: 3.8 GB).

``cache/index.npz`` knows each clip's place, size and group, and its detail: the mean
gradient plus the mean change over time in each square of 16x16 pixels, by which the
sampler prefers rewarding crops to empty sky.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.errors import TrainingError, saving

#: Side of the squares for which detail is known, in pixels.
DETAIL_CELL = 16


@dataclass(frozen=True)
class CachedClip:
    """A decoded clip.

    Attributes:
        frames: uint8 RGB (L, H, W, 3), memory-mapped.
        detail: float32 (H // 16, W // 16), higher where there is more to learn.
        group: The group by which subsets are balanced.
    """

    frames: np.ndarray
    detail: np.ndarray
    group: str


class ClipCache:
    """A folder of shards as random-access clips; decodes them on first use.

    Args:
        shards: Folder made by `training.prepare`.
        report: Called with a line when decoding takes place.

    Raises:
        TrainingError: If the shards cannot be read or the cache cannot be written.

    ``len(cache)`` is the number of clips, ``cache[i]`` a `CachedClip`.
    """

    def __init__(self, shards: str | Path, report=lambda line: None):
        from training.data.shards import read_manifest

        shards = Path(shards)
        manifest = read_manifest(shards)
        stamp = hashlib.sha256(
            json.dumps(manifest["shards"], sort_keys=True).encode()
        ).hexdigest()
        folder = shards / f"cache-{stamp[:10]}"
        if not (folder / "index.npz").exists():
            report(f"decoding {manifest['frames']} frames into '{folder}', once")
            with saving(folder):
                _decode(shards, manifest, folder)
        try:
            with np.load(folder / "index.npz", allow_pickle=False) as index:
                self._shapes = index["shapes"]
                self._offsets = index["offsets"]
                self.groups = [str(group) for group in index["groups"]]
                self._detail = index["detail"]
                self._detail_offsets = index["detail_offsets"]
            self._pixels = np.memmap(folder / "clips.u8", np.uint8, mode="r")
        except (OSError, ValueError, KeyError) as error:
            raise TrainingError(
                f"The cache '{folder}' is damaged ({error}). Delete that folder; it is "
                "made again from the shards."
            ) from error
        self.folder = folder

    def __len__(self) -> int:
        return len(self._shapes)

    def shape(self, index: int) -> tuple[int, int, int]:
        """(L, H, W) of a clip."""
        return tuple(int(n) for n in self._shapes[index])

    def __getitem__(self, index: int) -> CachedClip:
        length, height, width = self.shape(index)
        start = int(self._offsets[index])
        pixels = self._pixels[start : start + length * height * width * 3]
        cells = (height // DETAIL_CELL, width // DETAIL_CELL)
        start = int(self._detail_offsets[index])
        return CachedClip(
            pixels.reshape(length, height, width, 3),
            self._detail[start : start + cells[0] * cells[1]].reshape(cells),
            self.groups[index],
        )


def _decode(shards: Path, manifest: dict, folder: Path) -> None:
    from training.data.shards import read_shards

    aside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        aside.mkdir(parents=True)
        shapes, offsets, groups, details = [], [], [], []
        with open(aside / "clips.u8", "wb") as file:
            for clip in read_shards(shards, manifest):
                shape = (len(clip.frames), clip.height, clip.width)
                frames = np.empty((*shape, 3), np.uint8)
                clip.decode(frames)
                shapes.append(shape)
                offsets.append(file.tell())
                groups.append(clip.group)
                details.append(detail_map(frames).ravel())
                file.write(frames)
            file.flush()
            os.fsync(file.fileno())
        sizes = [len(detail) for detail in details]
        np.savez(
            aside / "index.npz",
            shapes=np.array(shapes, np.int64),
            offsets=np.array(offsets, np.int64),
            groups=np.array(groups, np.str_),
            detail=np.concatenate(details),
            detail_offsets=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int),
        )
        try:
            os.replace(aside, folder)
        except OSError:
            # Another worker on this machine was faster; its cache is the same.
            if not (folder / "index.npz").exists():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def detail_map(frames: np.ndarray) -> np.ndarray:
    """How much there is to learn where: (L, H, W, 3) -> float32 (H // 16, W // 16).

    The mean over frames and pixels of each square of |dx| + |dy| + |dt| of the green
    channel, in grey levels.
    """
    rows, columns = (n // DETAIL_CELL for n in frames.shape[1:3])
    total = np.zeros((rows, columns), np.float32)
    before = None
    for frame in frames:
        green = frame[: rows * DETAIL_CELL, : columns * DETAIL_CELL, 1].astype(np.int16)
        change = np.zeros(green.shape, np.int16)
        change[:, 1:] += np.abs(np.diff(green, axis=1))
        change[1:] += np.abs(np.diff(green, axis=0))
        if before is not None:
            change += np.abs(green - before)
        before = green
        total += change.reshape(rows, DETAIL_CELL, columns, DETAIL_CELL).mean((1, 3))
    return total / len(frames)
