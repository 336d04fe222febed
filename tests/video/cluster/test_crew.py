"""Segments made by several workers: the result of one process, whoever dies meanwhile.

Workers run in threads here, in the place of Ray: the same `Worker`s, called alike.
"""

import copy
import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

from keras_megan.video.cluster.crew import Crew, Segments
from keras_megan.video.cluster.worker import Worker
from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.image_folder import TIMESTAMPS
from keras_megan.video.jobs.journal import work_folder
from keras_megan.video.models.engines import Model
from keras_megan.video.upscale import UpscaleOptions, check_job, run_job, upscale
from tests.video.clips import PlainRunner, picture, write_clip
from tests.video.request.test_rate import BlendRunner

pytestmark = pytest.mark.slow


class LostError(Exception):
    """A worker is no longer there."""


class Choice:
    """Stands for a `ModelChoice`; each worker makes a runner of its own."""

    threads = None

    def __init__(self, make):
        self.make = make
        self.runners: list[PlainRunner] = []

    def find(self, needs=None):
        return Model("plain", "runner", self._load)

    def _load(self):
        self.runners.append(self.make())
        return self.runners[-1]


class Threads:
    """A cluster of threads.

    Args:
        size: How many workers.
        dies: Whether a worker dies of a call: (method, arguments) -> bool.
        away: Whether workers see the driver's files under no path.
    """

    lost = (LostError,)

    def __init__(self, size=2, dies=lambda method, arguments: False, away=False):
        self.size, self.dies, self.away = size, dies, away
        self.closed = False
        self.made: list[int] = []
        self.workers: list[Thread] = []

    def start(self, choice):
        self.workers.append(Thread(self, choice))
        return self.workers[-1]

    def share(self, data):
        return data

    def close(self):
        self.closed = True


class Thread:
    def __init__(self, cluster, choice):
        self._cluster, self._worker = cluster, Worker(choice)
        self._pool = ThreadPoolExecutor(1)
        self._dead = self.ended = False

    def call(self, method, *arguments) -> Future:
        # Copied, as on the way to another machine.
        return self._pool.submit(self._do, method, copy.deepcopy(arguments))

    def _do(self, method, arguments):
        cluster = self._cluster
        self._dead = self._dead or cluster.dies(method, arguments)
        if self._dead:
            raise LostError("the node is gone")
        if method == "make" and cluster.away:
            order, *rest = arguments
            path = order.source.with_name("away") / order.source.name
            arguments = (dataclasses.replace(order, source=path), *rest)
        result = getattr(self._worker, method)(*arguments)
        if method == "make":
            cluster.made.append(arguments[1])
        return copy.deepcopy(result)

    def end(self):
        self.ended = True
        self._pool.shutdown(wait=True)
        self._worker.release()


def run(cluster, clip, output, options=None, choice=None):
    """`megan upscale --ray` on a cluster."""
    job = check_job(clip, output, options or UpscaleOptions())
    with Crew(lambda: cluster, choice or Choice(PlainRunner)) as crew:
        info = job.clip.info
        runner = crew.runner(info.height, info.width, not job.rate.only_half)
        return run_job(job, runner)


def contents(path):
    """The bytes of a file, or of all files of a folder."""
    if path.is_dir():
        return {file.name: file.read_bytes() for file in path.iterdir()}
    return path.read_bytes()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """80 frames of 32x24 in three scenes and with sound."""
    images = [picture(i) for i in range(25)]
    images += [255 - picture(3 * i) for i in range(25)]
    images += [picture(i)[::-1, ::-1] // 2 for i in range(30)]
    path = tmp_path_factory.mktemp("crew") / "in.mp4"
    return write_clip(path, images, sound=3.2)


@pytest.fixture(scope="module")
def whole(clip):
    """The result of one process."""
    output = clip.with_name("whole.mp4")
    assert upscale(clip, output, PlainRunner()).frames_out == 159
    return output.read_bytes()


# === Who makes what ===


def test_two_workers_begin_apart_and_go_forwards():
    waiting = Segments(range(8), 2)
    a, b = waiting.take(None), waiting.take(None)
    assert (a, b) == (0, 4)
    order = [waiting.take(0), waiting.take(4), waiting.take(1), waiting.take(2)]
    assert order == [1, 5, 2, 3]
    assert waiting.take(3) == 7  # the second half of what the other has left
    waiting.give_back(5)
    assert [waiting.take(7), waiting.take(5), waiting.take(6)] == [6, 5, None]
    assert not waiting


@pytest.mark.parametrize("workers", [1, 2, 3, 20])
def test_every_segment_is_handed_out_once(workers):
    numbers = [0, 1, 2, 5, 6, 9, 10, 11, 12]
    waiting = Segments(numbers, workers)
    taken: list[int] = []
    last = [None] * workers
    while waiting:
        for worker in range(workers):
            last[worker] = waiting.take(last[worker])
            taken += [last[worker]] if last[worker] is not None else []
    assert sorted(taken) == numbers


# === The same result ===


@pytest.mark.parametrize("size", [1, 2, 3])
def test_workers_make_what_one_process_makes_and_compute_little_twice(
    clip, whole, tmp_path, size
):
    cluster, choice = Threads(size), Choice(PlainRunner)
    output = tmp_path / "out.mp4"
    summary = run(cluster, clip, output, choice=choice)
    assert output.read_bytes() == whole
    assert (summary.frames_in, summary.frames_out) == (80, 159)
    assert sorted(cluster.made) == [0, 1, 2, 3]
    assert not work_folder(output).exists() and cluster.closed
    assert all(worker.ended for worker in cluster.workers)
    alone = PlainRunner()
    expected = upscale(clip, tmp_path / "alone.mp4", alone)
    assert summary.cuts == expected.cuts >= 2
    # One window where a worker begins within one, and the trial of the tile.
    calls = sum(runner.calls for runner in choice.runners)
    assert alone.calls <= calls <= alone.calls + 2 * size + 2


OTHERWISE = {
    "images": ("out", {}),
    "sharpened": ("out.mp4", {"even_sharpness": True}),
    "a rate and a size": ("out.mp4", {"fps": Fraction(60), "scale": Fraction(2)}),
    "a part": ("out.mp4", {"start": Fraction(1), "end": Fraction(5, 2)}),
    "tiles": ("out.mp4", {"tile": 52}),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_other_outputs_are_the_same_as_well(clip, tmp_path, name):
    output, settings = OTHERWISE[name]
    options = UpscaleOptions(**settings)
    folders = tmp_path / "one", tmp_path / "many"
    for folder in folders:
        folder.mkdir()
    upscale(clip, folders[0] / output, BlendRunner(), options)
    run(Threads(), clip, folders[1] / output, options, Choice(BlendRunner))
    one, many = (contents(folder / output) for folder in folders)
    assert one == many
    if name == "images":
        assert len(many) == 160 and TIMESTAMPS in many


# === Losses ===


def test_a_lost_worker_is_replaced_and_its_part_made_again(clip, whole, tmp_path):
    died = []

    def dies(method, arguments):
        if method == "make" and arguments[1] == 1 and not died:
            died.append(1)
            return True
        return False

    cluster = Threads(2, dies)
    summary = run(cluster, clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert len(cluster.workers) == 3 and cluster.workers[0].ended
    (note,) = [n for n in summary.notes if "was lost" in n]
    assert "the node is gone" in note


def test_what_kills_every_worker_ends_the_job_and_the_rest_is_kept(
    clip, whole, tmp_path
):
    output = tmp_path / "out.mp4"
    deadly = Threads(1, lambda method, arguments: arguments[1:2] == (2,))
    with pytest.raises(VideoError, match="3 workers were lost over the same part"):
        run(deadly, clip, output)
    assert deadly.made == [0, 1, 3]
    healthy = Threads(2)
    summary = run(healthy, clip, output)
    assert summary.resumed_frames == 111 and healthy.made == [2]
    assert output.read_bytes() == whole


def test_one_process_goes_on_with_what_workers_began(clip, whole, tmp_path):
    output = tmp_path / "out.mp4"
    deadly = Threads(1, lambda method, arguments: arguments[1:2] == (1,))
    with pytest.raises(VideoError, match="were lost"):
        run(deadly, clip, output)
    alone = upscale(clip, output, PlainRunner())
    assert alone.resumed_frames == 111 and output.read_bytes() == whole


def test_workers_that_cannot_load_the_model_end_the_job(clip, tmp_path):
    cluster = Threads(2, lambda method, _: method == "card")
    with pytest.raises(VideoError, match="end while they load the model"):
        run(cluster, clip, tmp_path / "out.mp4")
    assert cluster.closed and all(worker.ended for worker in cluster.workers)


# === Sources, models and failures elsewhere ===


def test_an_input_that_workers_do_not_see_is_sent_to_them(clip, whole, tmp_path):
    summary = run(Threads(2, away=True), clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert sum("it is sent there" in note for note in summary.notes) == 1


def test_a_folder_that_workers_do_not_see_is_an_error(tmp_path):
    import cv2

    source = tmp_path / "frames"
    source.mkdir()
    for index in range(5):
        cv2.imwrite(str(source / f"{index}.png"), picture(index))
    with pytest.raises(VideoError, match="all workers see it under"):
        run(Threads(away=True), source, tmp_path / "out.mp4")


def test_workers_of_another_model_or_clip_are_refused(clip, tmp_path, monkeypatch):
    class Other(PlainRunner):
        count = 0

        def __init__(self):
            super().__init__()
            Other.count += 1
            self.fingerprint = f"plain-{Other.count}"

    with pytest.raises(VideoError, match="different models under the name 'plain'"):
        run(Threads(2), clip, tmp_path / "out.mp4", choice=Choice(Other))

    from keras_megan.video.cluster import worker

    shifted = worker.Made.__init__

    def init(self, number, ticks, *rest):
        shifted(self, number, tuple(tick + 1 for tick in ticks), *rest)

    monkeypatch.setattr(worker.Made, "__init__", init)
    with pytest.raises(VideoError, match="found other frames in"):
        run(Threads(1), clip, tmp_path / "out.mp4")


def test_what_goes_wrong_on_a_worker_is_said_as_it_is_here(clip, tmp_path):
    class NotNumbers(PlainRunner):
        def __call__(self, frames):
            return super().__call__(frames) * np.float32(np.nan)

    with pytest.raises(VideoError, match="not numbers"):
        run(Threads(2), clip, tmp_path / "out.mp4", choice=Choice(NotNumbers))
    with pytest.raises(VideoError, match="at least 52"):
        run(Threads(2), clip, tmp_path / "o.mp4", UpscaleOptions(tile=10))
    assert not (tmp_path / "out.mp4").exists()
