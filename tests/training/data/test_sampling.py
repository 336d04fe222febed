"""Samples: pure functions of (seed, number), of the right pixels, fairly divided."""

import dataclasses

import cv2
import keras
import numpy as np
import pytest

from keras_megan.imaging.resize import imresize
from training.data.cache import ClipCache
from training.data.degradations import DEGRADATIONS, Degradation
from training.data.pipeline import BatchShape, make_dataset
from training.data.pydataset import ClipSequence
from training.data.sampling import Sampler, SamplingSettings, generator
from training.data.teacher import teacher_flow
from training.errors import TrainingError
from training.evaluation.clips import degrade

SMALL = SamplingSettings(crop=32, candidates=3)
PLAIN = SamplingSettings(
    crop=32, candidates=1, reverse=False, flip=False, transpose=False, strides=((1, 1),)
)


@pytest.fixture(scope="module")
def cache(shards):
    return ClipCache(shards)


def test_the_same_number_gives_the_same_pixels_in_any_order(cache):
    one, other = Sampler(cache, SMALL, seed=7), Sampler(cache, SMALL, seed=7)
    forwards = [one.sample(n) for n in range(20)]
    backwards = [other.sample(n) for n in reversed(range(20))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    different = Sampler(cache, SMALL, seed=8).sample(0)[1]
    assert not np.array_equal(forwards[0][1], different)
    assert forwards[0][0].shape == (7, 8, 8, 3) and forwards[0][1].dtype == np.uint8


def test_low_resolution_is_the_evaluations_degradation(cache):
    sampler = Sampler(cache, SMALL)
    for number in range(5):
        low, high = sampler.sample(number)
        np.testing.assert_array_equal(low, degrade(high))
        np.testing.assert_array_equal(low, imresize(high, 0.25))


def test_samples_are_unaltered_cuts_of_the_clips(cache):
    sampler = Sampler(cache, PLAIN)
    for number in range(6):
        _, high = sampler.sample(number)
        assert any(_contains(cache[i].frames, high) for i in range(len(cache)))


def _contains(frames, cut):
    span, side = len(cut), cut.shape[1]
    windows = np.lib.stride_tricks.sliding_window_view(
        frames, (span, side, side, 3)
    ).reshape(-1, *cut.shape)
    return bool((windows == cut).all(axis=(1, 2, 3, 4)).any())


def test_every_clip_comes_once_per_round(cache):
    sampler = Sampler(cache, PLAIN)
    rounds = [[sampler._order(r)[p] for p in range(3)] for r in range(12)]
    assert all(sorted(order) == [0, 1, 2] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1


def test_strides_take_every_second_frame_where_the_clip_is_long_enough(shards):
    cache = ClipCache(shards)  # clips of 12 frames: stride 1 alone fits 7
    twice = dataclasses.replace(PLAIN, num_inputs=3, strides=((2, 1.0),))
    _, high = Sampler(cache, twice).sample(0)
    assert len(high) == 5
    assert any(_contains(cache[i].frames[k::2], high) for i in range(3) for k in (0, 1))
    impossible = dataclasses.replace(PLAIN, strides=((3, 1.0),))
    _, high = Sampler(cache, impossible).sample(0)
    assert any(_contains(cache[i].frames, high) for i in range(3))


@pytest.mark.parametrize("name", ["reverse", "flip", "transpose"])
def test_each_augmentation_is_its_numpy_operation(cache, name):
    plain, turned = PLAIN, dataclasses.replace(PLAIN, **{name: True})
    operations = {
        "reverse": [lambda x: x[::-1]],
        "flip": [
            lambda x: x[:, ::-1],
            lambda x: x[:, :, ::-1],
            lambda x: x[:, ::-1, ::-1],
        ],
        "transpose": [lambda x: x.transpose(0, 2, 1, 3)],
    }[name]
    changed = 0
    for number in range(24):
        before = Sampler(cache, plain).sample(number)[1]
        after = Sampler(cache, turned).sample(number)[1]
        if not np.array_equal(before, after):
            changed += 1
            assert any(np.array_equal(op(before), after) for op in operations)
    assert 4 <= changed <= 23


def test_candidates_prefer_detail():
    class OneClip:
        groups = ["only"]

        def __len__(self):
            return 1

        def shape(self, index):
            return (7, 256, 256)

        def __getitem__(self, index):
            from training.data.cache import CachedClip, detail_map

            frames = np.zeros((7, 256, 256, 3), np.uint8)
            noise = np.random.default_rng(0).integers(0, 256, (7, 128, 128, 3))
            frames[:, :128, :128] = noise
            return CachedClip(frames, detail_map(frames), "only")

    def mean_content(candidates):
        settings = dataclasses.replace(
            PLAIN, candidates=candidates, candidate_share=1.0
        )
        sampler = Sampler(OneClip(), settings)
        return np.mean([sampler.sample(n)[1].mean() for n in range(40)])

    assert mean_content(6) > 1.8 * mean_content(1)


class Coordinates:
    """One clip whose pixels say where they are: (row, column, frame)."""

    groups = ["only"]
    height, width = 200, 100

    def __len__(self):
        return 1

    def shape(self, index):
        return (9, self.height, self.width)

    def __getitem__(self, index):
        from training.data.cache import CachedClip, detail_map

        place = np.mgrid[0:9, 0 : self.height, 0 : self.width].astype(np.uint8)
        frames = np.stack([place[1], place[2], place[0]], axis=-1)
        return CachedClip(frames, detail_map(frames), "only")


def test_panning_crops_move_evenly_by_whole_pixels_inside_the_frame():
    settings = dataclasses.replace(PLAIN, pan=12, pan_share=0.75, candidates=3)
    sampler = Sampler(Coordinates(), settings)
    speeds = []
    for number in range(200):
        high = sampler.sample(number)[1].astype(int)
        corners = high[:, 0, 0]
        steps = np.diff(corners, axis=0)
        assert (steps == steps[0]).all() and steps[0, 2] == 1
        rows, columns = np.mgrid[0:32, 0:32]
        np.testing.assert_array_equal(
            high[..., 0] - corners[:, None, None, 0], [rows] * 7
        )
        np.testing.assert_array_equal(
            high[..., 1] - corners[:, None, None, 1], [columns] * 7
        )
        speeds.append(steps[0, :2])
    speeds = np.array(speeds)
    # 12 fits down 200 rows; along 100 columns a crop of 32 can move 68 in 7 steps.
    assert speeds[:, 0].min() == -12 and speeds[:, 0].max() == 12
    assert speeds[:, 1].min() == -9 and speeds[:, 1].max() == 9
    assert 0.15 < (speeds == 0).all(axis=1).mean() < 0.4


def test_an_open_shutter_averages_the_path_of_the_crop():
    settings = dataclasses.replace(PLAIN, pan=12, pan_share=1.0, shutter=1.0)
    sampler, sharp = Sampler(Coordinates(), settings), 0
    for number in range(60):
        high = sampler.sample(number)[1].astype(int)
        steps = np.diff(high[:, 5, 7], axis=0)
        # Coordinates are linear: their average lies between two frames' and moves on
        # like a frame, rounded twice.
        assert (np.abs(steps - steps[0]) <= 1).all()
        blurred = (
            Sampler(Coordinates(), dataclasses.replace(settings, shutter=0.0))
            .sample(number)[1]
            .astype(int)
        )
        offset = high[0, 5, 7, :2] - blurred[0, 5, 7, :2]
        # Both draw the same pan; the average lies up to half a step further.
        pan = np.diff(blurred[:, 5, 7, :2], axis=0)[0]
        assert (offset * np.sign(pan) >= -1).all()
        assert (np.abs(offset) <= np.abs(pan) / 2 + 1).all()
        sharp += (offset == 0).all()
    assert sharp < 40


@pytest.mark.parametrize("speed", [(0, 0), (8, 0), (0, -8), (-4, 12)])
def test_the_teacher_finds_known_motion(speed):
    random = np.random.default_rng(1)
    scene = cv2.GaussianBlur(random.uniform(0, 255, (320, 320, 3)), (0, 0), 5)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    frames = np.stack(
        [
            scene[100 + speed[0] * k :, 100 + speed[1] * k :][:96, :128]
            for k in range(-3, 4)
        ]
    )
    flow = teacher_flow(frames)
    assert flow.shape == (3, 24, 32, 4) and flow.dtype == np.float32
    # The window moves by `speed`, so what it shows was further on in the frame before.
    down, right = (component / 4 for component in speed)
    inner = flow[:, 6:-6, 6:-6]
    np.testing.assert_allclose(
        np.median(inner, axis=(0, 1, 2)), [down, right, -down, -right], atol=0.1
    )


@pytest.mark.parametrize("wrong", [{"pan": -1}, {"pan_share": 1.5}, {"shutter": 2}])
def test_impossible_pans_are_refused(cache, wrong):
    with pytest.raises(TrainingError, match="pan must be at least 0, pan_share"):
        Sampler(cache, dataclasses.replace(PLAIN, **wrong))


def test_smaller_fractions_are_parts_of_larger_ones(cache):
    chosen = [set(Sampler(cache, SMALL, 0, f).clips) for f in (0.3, 0.7, 1.0)]
    assert chosen[0] < chosen[1] < chosen[2] and len(chosen[2]) == 3


def test_clips_per_group_are_capped(cache):
    class Two:
        groups = ["long"] * 5 + ["short"]
        shape = staticmethod(lambda index: (7, 64, 64))
        __len__ = lambda self: 6  # noqa: E731

    capped = dataclasses.replace(SMALL, most_per_group=2)
    chosen = Sampler(Two(), capped).clips
    assert len(chosen) == 3 and 5 in chosen


def test_too_short_clips_and_too_large_crops_are_clear_errors(cache):
    with pytest.raises(TrainingError, match="shorter than the window of 31 frames"):
        Sampler(cache, dataclasses.replace(SMALL, num_inputs=16))
    with pytest.raises(TrainingError, match="crop of 128x128 is larger .* 96x64"):
        Sampler(cache, dataclasses.replace(SMALL, crop=128))
    with pytest.raises(TrainingError, match="positive multiple of 4"):
        Sampler(cache, dataclasses.replace(SMALL, crop=30))
    with pytest.raises(TrainingError, match="Unknown degradation 'rain'"):
        Sampler(
            cache, dataclasses.replace(SMALL, degradations=(Degradation("rain", 1, 2),))
        )


@pytest.mark.parametrize(
    ("name", "low", "high"), [("noise", 4, 4), ("blur", 1, 1), ("compression", 30, 30)]
)
def test_degradations_touch_the_input_alone_and_repeat(cache, name, low, high):
    damage = Degradation(name, low, high, probability=1.0)
    clean = Sampler(cache, SMALL).sample(3)
    settings = dataclasses.replace(SMALL, degradations=(damage,))
    damaged, again = (Sampler(cache, settings).sample(3) for _ in range(2))
    np.testing.assert_array_equal(damaged[1], clean[1])
    np.testing.assert_array_equal(damaged[0], again[0])
    assert damaged[0].dtype == np.uint8 and damaged[0].shape == clean[0].shape
    difference = np.abs(damaged[0].astype(int) - clean[0]).mean()
    assert 0.5 < difference < 30


def test_noise_has_the_strength_that_was_asked_for():
    grey = np.full((7, 64, 64, 3), 128, np.uint8)
    noisy = DEGRADATIONS["noise"](
        grey, Degradation("noise", 5, 5, 1.0), generator(0, 0)
    )
    assert abs(noisy.astype(float).std() - 5.0) < 0.1


@pytest.mark.parametrize(
    ("replicas", "workers"), [(1, 1), (2, 1), (2, 2), (4, 2), (4, 1)]
)
def test_replicas_and_workers_share_each_step_without_gap_or_overlap(replicas, workers):
    shape = BatchShape(8, replicas, workers)
    steps = {step: [] for step in (5, 6, 7)}
    for worker in range(workers):
        batches = list(make_dataset(lambda n: (np.int64(n),), shape, 5, 8, worker))
        local = replicas // workers
        assert len(batches) == 3 * local
        for index, (numbers,) in enumerate(batches):
            assert numbers.shape == (8 // replicas,)
            steps[5 + index // local] += numbers.numpy().tolist()
    for step, numbers in steps.items():
        assert numbers == list(range(step * 8, step * 8 + 8))


def test_a_pipeline_that_starts_later_continues_the_same_sequence(cache):
    sampler = Sampler(cache, SMALL, seed=1)
    shape = BatchShape(2)
    whole = list(make_dataset(sampler.sample, shape, 0, 4))
    rest = list(make_dataset(sampler.sample, shape, 2, 4))
    for (low, high), (rest_low, rest_high) in zip(whole[2:], rest, strict=True):
        np.testing.assert_array_equal(low, rest_low)
        np.testing.assert_array_equal(high, rest_high)


def test_pydataset_gives_the_batches_of_the_training_loop(cache):
    sampler = Sampler(cache, SMALL, seed=1)
    sequence = ClipSequence(sampler, batch_size=2, batches=3)
    batches = list(make_dataset(sampler.sample, BatchShape(2), 0, 6))
    for epoch in range(2):
        for index in range(len(sequence)):
            inputs, targets = sequence[index]
            low, high = batches[epoch * 3 + index]
            np.testing.assert_array_equal(inputs, low.numpy()[:, ::2] / np.float32(255))
            np.testing.assert_array_equal(targets, high.numpy() / np.float32(255))
        sequence.on_epoch_end()


def test_pydataset_trains_a_plain_keras_model(cache):
    sequence = ClipSequence(Sampler(cache, SMALL), batch_size=2, batches=2)
    inputs = keras.Input((4, 8, 8, 3))
    flat = keras.layers.Reshape((8, 8, 12))(keras.layers.Permute((2, 3, 1, 4))(inputs))
    features = keras.layers.Conv2D(7 * 3 * 16, 3, padding="same")(flat)
    outputs = keras.layers.Reshape((7, 32, 32, 3))(features)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse")
    history = model.fit(sequence, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
