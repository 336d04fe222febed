"""The stages one by one: tiles, threads, scene cuts, runners, pictures."""

import threading
import time

import numpy as np
import pytest

from keras_megan.video.compare import Box, compare, most_detailed_box
from keras_megan.video.errors import VideoError
from keras_megan.video.jobs.threads import BackgroundWriter, prefetched
from keras_megan.video.scene_cuts import SceneCutDetector
from keras_megan.video.tiles import (
    TiledRunner,
    choose_tile,
    cover,
    fit_tile,
    to_uint8,
)
from tests.video.clips import PlainRunner, picture, read_images, write_clip

# === Tiles ===


@pytest.mark.parametrize("length", [40, 52, 63, 100, 129, 512, 515, 1000])
@pytest.mark.parametrize("tile, overlap", [(52, 24), (64, 24), (128, 16), (512, 24)])
@pytest.mark.parametrize("exact", [False, True])
def test_tiles_have_one_size_cover_everything_and_weigh_one(
    length, tile, overlap, exact
):
    axis = cover(length, tile, overlap, exact)
    assert axis.size == tile if exact else axis.size <= tile
    total = np.zeros((max(axis.starts) + axis.size) * 4)
    for start, weight in zip(axis.starts, axis.weights(4), strict=True):
        total[start * 4 : start * 4 + len(weight)] += weight
    assert len(total) >= length * 4
    np.testing.assert_allclose(total, 1, atol=1e-6)
    for start, following in zip(axis.starts, axis.starts[1:], strict=False):
        assert start + axis.size - following >= overlap


class Neighbours(PlainRunner):
    """Averages over 5x5 pixels, zeros outside: wrong within 2 pixels of a border."""

    def __call__(self, frames):
        padded = np.pad(
            frames.astype(np.float32) / 255, ((0, 0), (2, 2), (2, 2), (0, 0))
        )
        height, width = frames.shape[1:3]
        total = sum(
            padded[:, dy : dy + height, dx : dx + width]
            for dy in range(5)
            for dx in range(5)
        )
        self.calls += 1
        every = np.repeat(total / 25, 2, axis=0)[: self.frames_out]
        return every.repeat(4, axis=1).repeat(4, axis=2)


@pytest.mark.parametrize("size", [(64, 200), (131, 97), (150, 150)])
def test_tiled_equals_whole_where_the_overlap_is_three_times_the_reach(size):
    generator = np.random.default_rng(3)
    frames = generator.integers(0, 256, (4, *size, 3)).astype(np.uint8)
    whole = TiledRunner(Neighbours(), *size, tile=0)(frames)
    tiled = TiledRunner(Neighbours(), *size, tile=60, overlap=8)
    assert tiled.num_tiles > 1
    result = tiled(frames)
    assert result.shape == whole.shape == (7, 4 * size[0], 4 * size[1], 3)
    difference = np.abs(np.int16(result) - whole)
    assert difference.max() <= 1 and difference.mean() < 0.01


@pytest.mark.parametrize("size", [(30, 40), (48, 64), (70, 64), (101, 133)])
def test_a_runner_of_one_size_serves_frames_of_any_size(size):
    class Fixed(PlainRunner):
        fixed_size = (48, 64)

        def __call__(self, frames):
            assert frames.shape == (4, 48, 64, 3)
            return super().__call__(frames)

    frames = np.stack([picture(i, *size) for i in range(4)])
    result = TiledRunner(Fixed(), *size, tile=0, overlap=12)(frames)
    assert np.abs(np.int16(result[::2, ::4, ::4]) - frames).max() <= 1


def test_automatic_tiles_follow_the_memory():
    runner = PlainRunner()  # 1000 bytes for each pixel
    assert choose_tile(runner, 100, 100, memory=10**7) == 0
    assert choose_tile(runner, 101, 100, memory=10**7) == 100
    assert choose_tile(runner, 2000, 2000, memory=10**5) == 64


def test_a_tile_is_halved_while_the_device_runs_out_of_memory():
    class Small(PlainRunner):
        def __call__(self, frames):
            if frames.shape[1] > 100:
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
            return super().__call__(frames)

    # 400 whole; three tiles of 152; then tiles of at most 76, which fit.
    assert fit_tile(Small(), 400, 400, 0) == 76

    class Broken(PlainRunner):
        def __call__(self, frames):
            raise RuntimeError("an error of another kind")

    with pytest.raises(RuntimeError, match="another kind"):
        fit_tile(Broken(), 400, 400, 0)


def test_too_small_a_tile_is_refused():
    with pytest.raises(ValueError, match="at least 52"):
        cover(500, 40)


def test_rounding_to_bytes_clips_and_refuses_what_is_no_number():
    values = np.float32([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 0.5, 1.0, 1.7])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 128, 255, 255]
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(VideoError, match="not numbers"):
            to_uint8(np.float32([0.5, bad]))


# === Threads ===


def test_prefetching_keeps_order_and_stays_within_its_depth():
    alive, most = [0], [0]

    def source():
        for index in range(50):
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            yield index

    seen = []
    with prefetched(source(), depth=3) as items:
        for item in items:
            time.sleep(0.001)
            alive[0] -= 1
            seen.append(item)
    assert seen == list(range(50))
    assert most[0] <= 3 + 2  # waiting, plus one on either side


def test_an_error_of_the_reader_comes_after_what_it_read():
    def source():
        yield 1
        yield 2
        raise OSError("the cable is out")

    seen = []
    with (
        pytest.raises(OSError, match="cable"),
        prefetched(source(), depth=1) as items,
    ):
        seen.extend(items)
    assert seen == [] or seen == [1, 2]


def test_leaving_early_ends_an_endless_reader():
    closed = threading.Event()

    def source():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    with prefetched(source(), depth=2) as items:
        next(items)
    assert closed.is_set() and threading.active_count() == before


def test_an_error_of_the_writer_reaches_a_producer_that_would_wait_for_it():
    def write(item):
        raise OSError("full")

    with pytest.raises(OSError, match="full"), BackgroundWriter(write, 1) as writer:
        for item in range(10_000):
            writer.put(item)


def test_an_error_on_the_very_last_item_is_not_lost():
    def write(item):
        if item == 2:
            raise OSError("full")

    with pytest.raises(OSError, match="full"), BackgroundWriter(write, 8) as writer:
        for item in range(3):
            writer.put(item)


def test_an_error_of_the_producer_does_not_wait_for_the_queue_to_be_written():
    written = []

    def write(item):
        time.sleep(0.05)
        written.append(item)

    with pytest.raises(RuntimeError, match="net"), BackgroundWriter(write, 8) as writer:
        for item in range(8):
            writer.put(item)
        raise RuntimeError("net")
    assert len(written) < 8


# === Scene cuts ===


def cuts_of(images, threshold=16.0):
    detector = SceneCutDetector(threshold)
    return [i for i, image in enumerate(images) if detector.is_cut(image)]


def textured(seed, height=90, width=160):
    """A smooth random picture, a scene of its own for each seed."""
    import cv2

    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (5, 8, 3)).astype(np.uint8)
    tint = generator.uniform(0.3, 1.0, 3)
    image = cv2.resize(coarse, (3 * width, height), interpolation=cv2.INTER_CUBIC)
    return np.uint8(image * tint)


def test_cuts_are_found_where_they_are_and_motion_is_none():
    images = []
    for scene in (0, 1, 3, 4, 5):
        wide = textured(scene)
        images += [wide[:, 6 * i : 6 * i + 160] for i in range(20)]  # a fast pan
    assert cuts_of(images) == [20, 40, 60, 80]


def test_a_slow_fade_and_a_still_are_no_cuts():
    a, b = textured(1)[:, :160], textured(2)[:, :160]
    fade = [np.uint8(a + (b - 1.0 * a) * k / 30) for k in range(31)]
    assert cuts_of([a] * 10 + fade + [b] * 10) == []


def test_two_cuts_in_a_row_are_both_found():
    a, b, c = (textured(seed)[:, :160] for seed in (1, 2, 3))
    assert cuts_of([a] * 5 + [b] + [c] * 5) == [5, 6]


def take(count, seed=7):
    """A figure of many shapes that walks and turns before a still wall."""
    import cv2

    wall = textured(seed, 144, 256)[:, :256] // 2
    generator = np.random.default_rng(seed)
    shapes = generator.uniform([-40, -50, 4], [40, 50, 16], (24, 3))
    colours = generator.integers(60, 256, (24, 3)).tolist()
    frames = []
    for index in range(count):
        image = wall.copy()
        angle, centre = index / 15, 60 + 1.5 * index
        for (x, y, radius), colour in zip(shapes, colours, strict=True):
            at = (
                round(centre + x * np.cos(angle) - y * np.sin(angle)),
                round(75 + x * np.sin(angle) + y * np.cos(angle)),
            )
            cv2.circle(image, at, round(radius), colour, -1, cv2.LINE_AA)
        frames.append(image)
    return frames


def test_a_jump_within_a_take_is_found_and_its_motion_is_none():
    frames = take(100)
    assert cuts_of(frames) == []
    for gap in (20, 40):
        assert cuts_of(frames[:30] + frames[30 + gap :]) == [30]


def test_a_camera_that_is_pushed_or_a_held_drawing_is_no_jump():
    wide = textured(4, 144, 100)[:, :300]
    steady = [wide[:, 40 + i : 240 + i] for i in range(12)]
    pushed = [wide[:, 48 + i : 248 + i] for i in range(12, 24)]
    assert cuts_of(steady + pushed) == []
    drawings = [frame for frame in take(60)[::4] for _ in range(4)]
    noise = np.random.default_rng(0)
    lossy = [
        np.clip(d.astype(int) + noise.integers(-1, 2, d.shape), 0, 255).astype(np.uint8)
        for d in drawings
    ]
    assert cuts_of(lossy[8:]) == []


def test_cuts_do_not_depend_on_the_number_of_threads():
    import cv2

    frames = take(80)
    images = frames[:25] + frames[60:]
    before = cv2.getNumThreads()
    scores = []
    try:
        for threads in (1, 2, 3):
            cv2.setNumThreads(threads)
            detector = SceneCutDetector()
            scores.append([detector.score(image) for image in images])
    finally:
        cv2.setNumThreads(before)
    assert scores[0] == scores[1] == scores[2]


def test_the_threshold_is_the_last_word():
    images = [textured(seed)[:, :160] for seed in range(4)]
    assert cuts_of(images, 100.1) == []
    assert cuts_of(images, 0) == [1, 2, 3]
    with pytest.raises(ValueError, match="Received"):
        SceneCutDetector(-1)


# === Pictures ===


def test_the_box_finds_the_detail():
    image = np.full((90, 160, 3), 100, np.uint8)
    image[40:60:2, 110:130] = 255
    box = most_detailed_box(image, share=0.3)
    part = box.of(image)
    assert part.shape == (27, 27, 3)
    assert (part == 255).sum() == (image == 255).sum()


def test_a_box_covers_the_same_place_at_any_size():
    small, large = np.zeros((20, 30, 3)), np.zeros((80, 120, 3))
    box = Box(0.5, 0.25, 0.2, 0.3)
    assert box.of(small).shape == (6, 6, 3) and box.of(large).shape == (24, 24, 3)


def test_compare_shows_both_clips_at_the_same_moments(tmp_path):
    import cv2

    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    small = [np.full((24, 32, 3), c, np.uint8) for c in colours for _ in range(2)]
    large = [np.full((96, 128, 3), c, np.uint8) for c in colours for _ in range(4)]
    a = write_clip(tmp_path / "a.mp4", small, rate=10)
    b = write_clip(tmp_path / "b.mp4", large, rate=20)
    compare(a, b, tmp_path / "strip.png", moments=3)
    image = cv2.imread(str(tmp_path / "strip.png"))[..., ::-1].astype(int)
    rows = (image.shape[0] - 44) // 3
    for row, colour in enumerate(colours):
        line = image[44 + row * rows + 100]
        shown = np.abs(line - colour).max(axis=1) < 30
        assert shown.sum() > 3 * 300  # whole frame and two crops
    assert not list(tmp_path.glob(".aside-*"))
    with pytest.raises(VideoError, match="exists"):
        compare(a, b, tmp_path / "strip.png")


def test_clip_helper_writes_what_it_says(tmp_path):
    images = [picture(i) for i in range(5)]
    made = read_images(write_clip(tmp_path / "a.mp4", images))
    errors = [np.abs(np.int16(m) - i) for m, i in zip(made, images, strict=True)]
    assert np.mean(errors) < 3
