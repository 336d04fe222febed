"""Upscale frames of any size in tiles that fit into memory, without seams.

In: T uint8 frames (T, H, W, 3). Out: 2T-1 uint8 frames (2T-1, sH, sW, 3). Clips of more
than 8 bits are uint16 at both ends and float in between. The runner sees tiles of one
single size, so it is compiled once:

    |<------ tile 0 ------>|
    |                 |<------ tile 1 ------>|        along each axis
    |_________________     ______________________
                      \\   /                           weights: they sum to 1 and fall
                       \\ /                            to 0 before a tile's own border,
    ____________________X____________________________ where the network saw an edge
                  crop  ramp  crop                    that is not there

Tiles are spread evenly and the overlap is split in three: the outer thirds are thrown
away, across the middle one the tiles fade into each other along a half sine. With an
overlap of three times the network's reach, tiled and untiled results are equal.

Rows of tiles are finished from the top: only one row is held as float, the result is
uint8. So memory is bounded by the tile and one row, not by the picture. A runner that
can be called from several threads (`parallel`) gets several tiles at the same time.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_megan.video.errors import VideoError
from keras_megan.video.memory import memory_to_use
from keras_megan.video.models.runner import Runner

OVERLAP = 24
_SMALLEST = 64
_EXHAUSTED = ("out of memory", "oom when allocating", "resource_exhausted")


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis.

    Attributes:
        starts: First pixel of each tile.
        size: Pixels in a tile; may exceed the axis's length (then there is one tile).
        length: Pixels of the axis.
    """

    starts: tuple[int, ...]
    size: int
    length: int

    def weights(self, scale: int) -> list[np.ndarray]:
        """One float32 weight for each output pixel of each tile; sums to 1 over tiles.

        Returns:
            Arrays of shape (scale * size,).
        """
        raw = []
        for index, start in enumerate(self.starts):
            weight = np.ones(self.size * scale)
            if index > 0:
                ramp = _ramp(self.starts[index - 1] + self.size - start, scale)
                weight[: len(ramp)] *= ramp
            if index + 1 < len(self.starts):
                ramp = _ramp(start + self.size - self.starts[index + 1], scale)
                weight[len(weight) - len(ramp) :] *= ramp[::-1]
            raw.append(weight)
        total = np.zeros((max(self.starts) + self.size) * scale)
        for start, weight in zip(self.starts, raw, strict=True):
            total[start * scale : start * scale + len(weight)] += weight
        return [
            (w / total[s * scale : s * scale + len(w)]).astype(np.float32)
            for s, w in zip(self.starts, raw, strict=True)
        ]


def _ramp(overlap: int, scale: int) -> np.ndarray:
    """0 on the first third of an overlap, a half sine, 1 on the last third."""
    position = (np.arange(overlap * scale) + 0.5) / (overlap * scale)
    return np.sin(np.pi / 2 * np.clip(3 * position - 1, 0, 1)) ** 2


def cover(length: int, tile: int, overlap: int = OVERLAP, exact: bool = False) -> Axis:
    """Covers an axis by the fewest tiles of one size that overlap enough.

    Args:
        length: Pixels to cover.
        tile: Largest tile; 0 for no tiles.
        overlap: Least overlap of neighbours, less than half of `tile`.
        exact: Whether tiles must have exactly the size `tile`.

    Returns:
        An `Axis`. Without `exact` the size is the smallest multiple of 4 that covers
        the axis with as many tiles, so that no tile is a mere sliver.

    Raises:
        ValueError: If `tile` is too small for the overlap.
    """
    if tile == 0 or (length <= tile and not exact):
        return Axis((0,), length, length)
    if length <= tile:
        return Axis((0,), tile, length)
    if tile < 2 * overlap + 4:
        raise ValueError(
            f"A tile must be at least {2 * overlap + 4} pixels wide, twice the overlap "
            f"of {overlap} and a little. Received: tile={tile}"
        )
    count = -(-(length - overlap) // (tile - overlap))
    size = tile
    if not exact:
        size = -(-(length + (count - 1) * overlap) // count)
        size = min(tile, -(-size // 4) * 4)
    last = length - size
    starts = tuple(round(index * last / (count - 1)) for index in range(count))
    return Axis(starts, size, length)


def to_pixels(
    images: np.ndarray, kind: type = np.uint8, name: str = "model"
) -> np.ndarray:
    """Rounds float images in [0, 1] to uint8 or uint16, clipping; passes uint8 on.

    Raises:
        VideoError: If there is a value that is not a number, or infinite.
    """
    if images.dtype == kind:
        return images
    if images.dtype == np.uint8:  # of a model that computes bytes
        return images * np.uint16(257)
    if not np.isfinite(images.sum(dtype=np.float64)):
        raise VideoError(
            f"The model '{name}' computed values that are not numbers (NaN or "
            "infinity); its weights are damaged or unfit for this clip."
        )
    full = np.iinfo(kind).max
    scaled = images * np.float32(full) + np.float32(0.5)
    return np.clip(scaled, 0, full, out=scaled).astype(kind)


def to_uint8(images: np.ndarray, name: str = "model") -> np.ndarray:
    """`to_pixels` for uint8."""
    return to_pixels(images, np.uint8, name)


class TiledRunner:
    """Upscales whole frames by a runner that sees tiles.

    Args:
        runner: The `Runner`.
        height, width: Size of the frames.
        tile: Largest tile in input pixels; 0 runs whole frames.
        overlap: Least overlap of neighbouring tiles in input pixels.

    Raises:
        ValueError: If the tile is too small for the overlap.
    """

    def __init__(
        self, runner: Runner, height: int, width: int, tile: int, overlap=OVERLAP
    ):
        self.runner = runner
        exact = runner.fixed_size is not None
        sizes = runner.fixed_size or (tile, tile)
        self.rows = cover(height, sizes[0], overlap, exact)
        self.columns = cover(width, sizes[1], overlap, exact)
        self._row_weights = self.rows.weights(runner.scale)
        self._column_weights = self.columns.weights(runner.scale)
        self._run: Any = getattr(runner, "run", runner)
        if hasattr(runner, "prepare"):
            runner.prepare(self.num_tiles)

    @property
    def num_tiles(self) -> int:
        """Calls of the runner for each window."""
        return len(self.rows.starts) * len(self.columns.starts)

    def __call__(
        self, frames: np.ndarray, times: np.ndarray | None = None
    ) -> np.ndarray:
        """(T, H, W, 3) -> (2T-1, sH, sW, 3), both uint8 or both uint16.

        For `times` see `Runner`.
        """
        runner, scale = self.runner, self.runner.scale
        kind = frames.dtype.type
        if kind is np.uint16:
            frames = frames.astype(np.float32) * np.float32(1 / 65535)
        rows, columns = self.rows, self.columns
        frames = np.pad(
            frames,
            (
                (0, 0),
                (0, max(0, rows.size - rows.length)),
                (0, max(0, columns.size - columns.length)),
                (0, 0),
            ),
            mode="edge",
        )
        height, width = frames.shape[1:3]
        if self.num_tiles == 1:
            result = to_pixels(self._call(frames, times), kind, runner.name)
            return result[:, : rows.length * scale, : columns.length * scale]
        shape = (runner.frames_out, height * scale, width * scale, 3)
        result = np.empty(shape, kind)
        open_rows = np.zeros((shape[0], 0, shape[2], 3), np.float32)
        ends = (*rows.starts[1:], height)
        tiles = self._tiles(frames, times)
        for start, end, weight in zip(
            rows.starts, ends, self._row_weights, strict=True
        ):
            strip = self._strip(tiles, width)
            strip *= weight[:, None, None]
            strip[:, : open_rows.shape[1]] += open_rows
            finished = (end - start) * scale
            rows_done = to_pixels(strip[:, :finished], kind)
            result[:, start * scale : end * scale] = rows_done
            open_rows = strip[:, finished:].copy()
        return result[:, : rows.length * scale, : columns.length * scale]

    def _call(self, frames: np.ndarray, times: np.ndarray | None) -> np.ndarray:
        if times is None:
            return np.asarray(self._run(frames))
        return np.asarray(self._run(frames, times))

    def _tiles(self, frames: np.ndarray, times) -> Iterator[np.ndarray]:
        """The runner's results on all tiles, row by row."""
        rows, columns = self.rows, self.columns
        corners = ((y, x) for y in rows.starts for x in columns.starts)

        def compute(corner: tuple[int, int]) -> np.ndarray:
            y, x = corner
            part = frames[:, y : y + rows.size, x : x + columns.size]
            return self._call(part, times)

        parallel = getattr(self.runner, "parallel", 1)
        if parallel == 1:
            yield from map(compute, corners)
            return
        with ThreadPoolExecutor(parallel, "megan-tile") as pool:
            running: deque = deque()
            for corner in corners:
                running.append(pool.submit(compute, corner))
                if len(running) > parallel:  # one more than run: none has to wait
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()

    def _strip(self, tiles: Iterator[np.ndarray], width: int) -> np.ndarray:
        """One row of tiles, blended along the row, as float in [0, 1]."""
        runner, scale = self.runner, self.runner.scale
        height, size = self.rows.size, self.columns.size
        strip = np.zeros(
            (runner.frames_out, height * scale, width * scale, 3), np.float32
        )
        for start, weight in zip(
            self.columns.starts, self._column_weights, strict=True
        ):
            tile = next(tiles)
            if tile.dtype == np.uint8:
                tile = tile.astype(np.float32) / np.float32(255)
            elif not np.isfinite(tile.sum(dtype=np.float64)):
                to_pixels(
                    tile, kind=np.uint8, name=runner.name
                )  # raises, naming the model
            columns = slice(start * scale, (start + size) * scale)
            strip[:, :, columns] += tile * weight[:, None]
        return strip


def choose_tile(
    runner: Runner, height: int, width: int, memory: int | None = None
) -> int:
    """The largest tile whose working memory fits: 0 if the whole frame does.

    Takes 40 percent of the memory that is free now, but at most 8 GiB: larger tiles
    gain nothing in speed.

    Args:
        runner: The `Runner`; its `bytes_per_pixel` is the estimate.
        height, width: Size of the frames.
        memory: Bytes to stay within, instead of the above.
    """
    if runner.fixed_size is not None:
        return 0
    if memory is None:
        memory = memory_to_use()
    pixels = memory / runner.bytes_per_pixel
    if height * width <= pixels:
        return 0
    return max(_SMALLEST, int(pixels**0.5) // 4 * 4)


def settle_tile(
    runner: Runner, height: int, width: int, asked: int | str, sharing: int = 1
) -> int:
    """Chooses a job's tile and tries it: the one asked for, or the largest that fits.

    Args:
        runner: The `Runner`.
        height, width: Size of the frames.
        asked: The tile, or "auto".
        sharing: How many processes share the memory of this machine.

    Raises:
        ValueError: If the tile that was asked for is too small.
        VideoError: If even the smallest tile does not fit.
    """
    if isinstance(asked, str):
        memory = memory_to_use() // sharing
        asked = choose_tile(runner, height, width, memory)
    return fit_tile(runner, height, width, asked)


def fit_tile(runner: Runner, height: int, width: int, tile: int) -> int:
    """Tries one tile and halves it while the device runs out of memory.

    This also compiles the network before any frame waits for it.

    Returns:
        The tile size that worked.

    Raises:
        VideoError: If even the smallest tile does not fit.
    """
    while True:
        tiled = TiledRunner(runner, height, width, tile)
        size = (tiled.rows.size, tiled.columns.size)
        try:
            run: Any = getattr(runner, "run", runner)
            run(np.zeros((runner.frames_in, *size, 3), np.uint8))
            return tile
        except Exception as error:
            exhausted = isinstance(error, MemoryError) or any(
                sign in str(error).lower() for sign in _EXHAUSTED
            )
            if not exhausted:
                raise
            smaller = max(size) // 2 // 4 * 4
            if smaller < _SMALLEST or runner.fixed_size is not None:
                raise VideoError(
                    f"The model '{runner.name}' runs out of memory even on tiles of "
                    f"{size[1]}x{size[0]} pixels. Close other programs or choose a "
                    "smaller model."
                ) from error
            tile = smaller
