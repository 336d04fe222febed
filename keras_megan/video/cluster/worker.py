"""A worker: loads the network once, then makes one closed segment after another.

    card(size)              what the network is, so that the driver need not load it
    choose_tile(size, ...)  the tile for a job
    make(order, number)     a segment: reads the source itself, computes, encodes

A worker reads the source from the beginning, so that scene cuts, windows and the number
of each frame come out as in one process, but it computes only what its segments need.
No frame is computed twice for consecutive segments: the next one continues where the
last one stopped. For an earlier segment the source is read from the beginning again.

Nothing in here knows what carries the calls (`ray_cluster` does), so it is tested in
one process.
"""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_megan.files import sync_file, sync_folder
from keras_megan.version import __version__
from keras_megan.video.errors import VideoError, writing
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.io.writing.codecs import Codec
from keras_megan.video.jobs.job import UpscaleOptions
from keras_megan.video.jobs.journal import SEGMENT_FRAMES, remove
from keras_megan.video.jobs.production import Predictions, Production, predict
from keras_megan.video.jobs.schedule import Shot, Task
from keras_megan.video.jobs.threads import BackgroundWriter, prefetched
from keras_megan.video.models.engines import ModelChoice, Needs
from keras_megan.video.models.loaded import Models
from keras_megan.video.models.runner import takes_times
from keras_megan.video.request.rate import choose_rate
from keras_megan.video.tiles import TiledRunner, settle_tile


class SourceMissing(VideoError):  # noqa: N818  named as it is read
    """The worker does not see the source under its path: send its bytes."""


@dataclass(frozen=True)
class Card:
    """The facts of a worker's network: the attributes of a `Runner` without `run`."""

    name: str
    fingerprint: str
    frames_in: int
    frames_out: int
    scale: int
    fixed_size: tuple[int, int] | None
    takes_times: bool
    notes: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class Order:
    """Everything a worker needs to know about a job.

    Attributes:
        source: The input, as the driver sees it.
        content: The `VideoInfo.content` that the worker must find.
        options: How to upscale.
        deep: Whether frames have 16 bits.
        codec: How to encode; `None` for images.
        suffix: Ending of segments.
        width, height: Size of the result.
        outputs: How many frames the whole result has.
        tile: Largest tile.
        needs: What the job asks of the network.
        fingerprint: Fingerprint of the network that must compute.
    """

    source: Path
    content: str
    options: UpscaleOptions
    deep: bool
    codec: Codec | None
    suffix: str
    width: int
    height: int
    outputs: int
    tile: int
    needs: Needs
    fingerprint: str

    def frames(self, number: int) -> range:
        """The output frames of segment `number`."""
        first = number * SEGMENT_FRAMES
        return range(first, min(first + SEGMENT_FRAMES, self.outputs))


@dataclass(frozen=True)
class Made:
    """A finished segment.

    Attributes:
        number: Its number.
        ticks, delay: See `Segment`.
        files: Its file under the name "", or the images of its folder.
        seconds: Time spent in the network.
    """

    number: int
    ticks: tuple[int, ...]
    delay: int
    files: dict[str, bytes]
    seconds: float

    def write(self, path: Path) -> None:
        """Writes the file or the folder, and waits until it is on the disk."""
        remove(path)
        if "" in self.files:
            path.write_bytes(self.files[""])
            sync_file(path)
            return
        path.mkdir()
        for name, data in self.files.items():
            (path / name).write_bytes(data)
            sync_file(path / name)
        sync_folder(path)


class Worker:
    """See the module.

    Args:
        choice: Which network.
        neighbours: How many workers share the memory of this machine.
    """

    def __init__(self, choice: ModelChoice, neighbours: int = 1):
        self._models = Models(choice.find)
        self._neighbours = neighbours
        self._stream: _Stream | None = None

    def card(self, height: int, width: int, needs: Needs) -> Card:
        """Loads the network for frames of a size and says what it is."""
        runner = self._models.runner(height, width, needs)
        names = ("name", "fingerprint", "frames_in", "frames_out", "scale")
        facts = {name: getattr(runner, name) for name in (*names, "fixed_size")}
        return Card(
            **facts,
            takes_times=takes_times(runner),
            notes=tuple(runner.notes),
            version=__version__,
        )

    def choose_tile(
        self, height: int, width: int, needs: Needs, asked: int | str
    ) -> int:
        """The tile for frames of a size, tried; see `tiles.settle_tile`.

        Raises:
            ValueError: If the tile that was asked for is too small.
        """
        runner = self._models.runner(height, width, needs)
        return settle_tile(runner, height, width, asked, self._neighbours)

    def make(self, order: Order, number: int, source: bytes | None = None) -> Made:
        """Makes a segment.

        Args:
            order: The job.
            number: Which segment.
            source: The input's bytes; `None`: read it where it is.

        Raises:
            SourceMissing: If it is not there and `source` was not given.
            VideoError: If it cannot be done.
        """
        stream = self._stream
        if stream is None or stream.order != order or stream.is_past(number):
            self.release()
            stream = self._stream = _Stream(order, self._models, source)
        try:
            return stream.make(number)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Closes the job it worked on last."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class _Stream:
    """The tasks of a job, read forwards; the last one taken is held."""

    def __init__(self, order: Order, models: Models, source: bytes | None):
        self.order = order
        self._closing = contextlib.ExitStack()
        folder = self._closing.enter_context(tempfile.TemporaryDirectory("-megan"))
        self._folder = Path(folder)
        try:
            self._open(models, source)
        except BaseException:
            self.close()
            raise

    def _open(self, models: Models, source: bytes | None) -> None:
        order, options = self.order, self.order.options
        path = order.source
        if source is not None:
            path = self._folder / f"source{path.suffix}"
            path.write_bytes(source)
        elif not path.exists():
            raise SourceMissing(f"A worker does not see '{path}'.")
        clip = open_clip(
            path,
            options.rate,
            allow_damaged=options.allow_damaged,
            deinterlace=options.deinterlace,
        )
        clip.deep = order.deep
        info = clip.info
        if info.content != order.content:
            if source is None:
                raise SourceMissing(f"A worker sees another file as '{path}'.")
            raise VideoError(f"'{order.source}' changed on its way to a worker.")
        rate = choose_rate(options.fps, options.factor, info.rate)
        runner = models.runner(info.height, info.width, order.needs)
        if runner.fingerprint != order.fingerprint:
            raise VideoError(
                f"The workers have different models under the name '{runner.name}'. "
                "Install the same version of keras_megan everywhere, or give a file "
                "that all of them see."
            )
        self._upscaler = TiledRunner(runner, info.height, info.width, order.tile)
        size = (order.width, order.height)
        self._production = Production(
            clip, options, rate, order.codec, runner.frames_in, size
        )
        tasks = prefetched(self._production.plan.tasks(), depth=2)
        self._tasks: Iterator[Task] = self._closing.enter_context(tasks)
        self._held: Task | None = None
        self._predictions: Predictions | None = None

    def close(self) -> None:
        self._closing.close()

    def is_past(self, number: int) -> bool:
        """Whether frames of this segment were already read and dropped."""
        held = self._held
        return held is not None and held.first_output > self.order.frames(number)[0]

    def make(self, number: int) -> Made:
        """See `Worker.make`."""
        order, wanted = self.order, self.order.frames(number)
        ticks: list[int] = []
        seconds = 0.0
        path = self._folder / f"segment{order.suffix}"
        production = self._production
        encoder = production.new_encoder(path)

        def write(item: tuple[int, Shot, Predictions]) -> None:
            index, shot, predictions = item
            ticks.append(production.tick(shot))
            encoder.write(production.image(shot, predictions), index)

        try:
            with (
                writing(path),
                BackgroundWriter(write, 2 * self._upscaler.runner.frames_out) as writer,
            ):
                for task in self._reaching(wanted):
                    if self._predictions is None:
                        before = time.monotonic()
                        self._predictions = predict(task, self._upscaler)
                        seconds += time.monotonic() - before
                    for index, shot in enumerate(task.shots, task.first_output):
                        if index in wanted:
                            writer.put((index, shot, self._predictions))
            with writing(path):
                delay = encoder.close()
        except BaseException:
            encoder.abandon()
            raise
        if path.is_dir():
            files = {file.name: file.read_bytes() for file in path.iterdir()}
        else:
            files = {"": path.read_bytes()}
        return Made(number, tuple(ticks), delay, files, seconds)

    def _reaching(self, wanted: range) -> Iterator[Task]:
        """The tasks that make these frames; keeps the last one for the next segment."""
        while True:
            held = self._held
            end = 0 if held is None else held.first_output + len(held.shots)
            if held is not None and end > wanted.start:
                yield held
            if end >= wanted.stop:
                return
            self._held, self._predictions = next(self._tasks, None), None
            if self._held is None:
                raise VideoError(
                    f"'{self.order.source}' has fewer frames for a worker than for the "
                    "driver; it changed while it was being read. Run the command again."
                )
