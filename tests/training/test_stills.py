"""Tasks of the large base: samples of stills and of frames between; their losses."""

import json

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_megan import MEGAN
from keras_megan.imaging.resize import imresize
from training.data.photos import Photos, write_photos
from training.data.teacher import neighbour_flow
from training.engine.muon import Muon, orthogonal
from training.errors import TrainingError
from training.stages.compute import training_macs
from training.tasks.between import BetweenTask
from training.tasks.stills import StillTask
from training.tasks.video import VideoTask


def _network():
    return MEGAN(
        filters=8,
        num_frames=2,
        extraction_blocks=1,
        alignment="window",
        alignment_options={"levels": 2, "reach": 2, "motion_filters": 8},
        memory=None,
        non_local_blocks=0,
        fusion_blocks=0,
        still_blocks=1,
        correction_filters=8,
    )


@pytest.fixture
def photographs(tmp_path, rng):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name, side in (("small", 64), ("large", 480)):
        image = rng.integers(0, 255, (side, side + 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{name}.png"), image)
    (folder / "broken.jpg").write_bytes(b"not an image")
    return folder


def test_photographs_are_kept_with_smaller_copies(photographs, tmp_path):
    index = write_photos(photographs, tmp_path / "shards")
    assert index["names"] == ["large.png", "small.png"]
    assert index["unreadable"] == ["broken.jpg"]
    photos = Photos(tmp_path / "shards")
    assert photos.shapes == [(480, 488), (320, 325), (240, 244), (64, 72)]
    first = cv2.imread(str(photographs / "large.png"))[..., ::-1]
    np.testing.assert_array_equal(photos[0], first)
    small = cv2.imread(str(photographs / "small.png"))[..., ::-1]
    np.testing.assert_array_equal(photos[3], small)


def test_missing_and_damaged_photographs_are_said(photographs, tmp_path):
    with pytest.raises(TrainingError, match="holds no photographs"):
        Photos(tmp_path)
    with pytest.raises(TrainingError, match="found none that can be read"):
        write_photos(tmp_path / "nothing", tmp_path / "out")
    write_photos(photographs, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "photos.json").read_text())
    index["shapes"].pop()
    (tmp_path / "out" / "photos.json").write_text(json.dumps(index))
    with pytest.raises(TrainingError, match="should hold .* bytes and holds"):
        Photos(tmp_path / "out")


def test_still_samples_repeat_and_are_reduced_as_published(rng):
    images = [rng.integers(0, 255, (90, 120, 3), np.uint8) for _ in range(3)]
    sample = StillTask(crop=64).sampler(images, seed=3, fraction=1.0)
    low, high = sample(5)
    assert low.shape == (16, 16, 3) and high.shape == (64, 64, 3)
    np.testing.assert_array_equal(low, imresize(high, 0.25))
    again = StillTask(crop=64).sampler(images, seed=3, fraction=1.0)(5)
    np.testing.assert_array_equal(again[1], high)
    assert np.abs(sample(6)[1].astype(int) - high).max() > 0


def test_the_still_task_learns_from_stills_alone(rng):
    model, task = _network(), StillTask(crop=32, squared_from=0.5)
    network = task.with_auxiliary(model)
    high = rng.integers(0, 255, (2, 32, 32, 3), np.uint8)
    batch = np.stack([imresize(image, 0.25) for image in high]), high
    early = task.losses(network, batch, tf.constant(0.0))
    np.testing.assert_allclose(early["loss"], early["pixels"])
    late = task.losses(network, batch, tf.constant(0.6))
    output = np.asarray(network(batch[0].astype("float32") / 255))
    squared = 20 * np.square(output - high / 255.0).mean((1, 2, 3))
    np.testing.assert_allclose(late["loss"], squared, rtol=1e-4)
    mine = {id(v) for v in model.get_layer("still").trainable_variables}
    assert {id(v) for v in network.trainable_variables} == mine


class _Clips:
    """Two groups of clips in memory, as `ClipCache` gives them."""

    groups = ("a", "b")

    def __init__(self, rng):
        noise = rng.integers(0, 255, (2, 20, 70, 80, 3), np.uint8)
        self.frames = noise
        # Every frame is told by its first pixel.
        self.frames[..., :, :, 0] = np.arange(20)[None, :, None, None]

    def __len__(self):
        return 2

    def shape(self, index):
        return self.frames[index].shape[:3]

    def __getitem__(self, index):
        return type("Clip", (), {"frames": self.frames[index], "group": "a"})()


def test_triples_hold_a_frame_between_and_its_time(rng):
    task = BetweenTask(crop=64)
    sample = task.sampler(_Clips(rng), seed=1, fraction=1.0)
    seen = set()
    for number in range(60):
        low, middle, time = sample(number)
        assert low.shape == (3, 16, 16, 3) and middle.shape == (64, 64, 3)
        first, last, at = (int(np.rint(frame[..., 0].mean())) for frame in low)
        assert at == middle[0, 0, 0]
        np.testing.assert_allclose(time, (at - first) / (last - first), atol=1e-6)
        seen.add((abs(last - first), round(float(time[0]), 3)))
    assert {gap for gap, _ in seen} == {2, 4, 6}
    assert (2, 0.5) in seen and (4, 0.25) in seen and (4, 0.75) in seen


def test_the_network_of_pairs_is_the_network_at_its_times(rng):
    model = _network()
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.1))
    frames = rng.uniform(size=(3, 2, 8, 12, 3)).astype("float32")
    times = np.array([[0.5], [0.25], [0.9]], "float32")
    expected = np.asarray(model.at_times([frames, times]))[:, 1]
    network = BetweenTask().with_auxiliary(model)
    received = network([frames[:, 0], frames[:, 1], times])["output"]
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_motion_between_given_frames_is_taught_by_optical_flow(rng):
    scene = cv2.GaussianBlur(rng.uniform(0, 255, (96, 160, 3)), (0, 0), 3)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype("uint8")
    left, right = scene[8:72, 12:140], scene[16:80, 8:136]  # moves by (-8, 4) pixels
    flow = neighbour_flow(left, right)
    assert flow.shape == (16, 32, 4)
    inside = flow[4:-4, 4:-4].reshape(-1, 4).mean(0)
    np.testing.assert_allclose(inside, [-2, 1, 2, -1], atol=0.1)

    task = BetweenTask(crop=64, pixel_weight=0, motion_weight=1.0, flow_weight=0.02)
    sample = task.sampler(_Clips(rng), seed=1, fraction=1.0)
    batch = [ops.stack(part) for part in zip(sample(0), sample(1), strict=True)]
    assert batch[3].shape == (2, 16, 16, 4)
    model = _network()
    network = task.with_auxiliary(model)
    losses = {k: np.asarray(v) for k, v in task.losses(network, batch, 0.0).items()}
    # A new network sees no motion, so its distance is the flow's own length.
    expected = np.sqrt(np.square(np.asarray(batch[3])) + 1e-2).mean((1, 2, 3))
    np.testing.assert_allclose(losses["flow"], expected, rtol=1e-4)
    total = losses["motion"] + 0.02 * losses["flow"]
    np.testing.assert_allclose(losses["loss"], total, rtol=1e-5)
    with tf.GradientTape() as tape:
        loss = ops.sum(task.losses(network, batch, 0.0)["loss"])
    still = model.get_layer("still").trainable_variables
    assert all(g is None for g in tape.gradient(loss, [v.value for v in still]))


def test_the_video_task_finds_the_motion_of_the_large_base(rng):
    model = _network()
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.1))
    task = VideoTask(motion_weight=0.5, flow_weight=0.1)
    outputs = task.with_auxiliary(model)(
        rng.uniform(size=(1, 2, 8, 12, 3)).astype("float32")
    )
    assert outputs["flow"].shape == (1, 8, 12, 4)
    assert outputs["moved"].shape == (1, 8, 12, 3)
    assert outputs["output"].shape == (1, 3, 32, 48, 3)


def test_tasks_of_the_large_base_say_what_network_they_need():
    plain = keras.Sequential([keras.Input((2, 8, 8, 3)), keras.layers.Dense(3)])
    for task in (StillTask(), BetweenTask()):
        with pytest.raises(TrainingError, match="needs a MEGAN with still_blocks"):
            task.with_auxiliary(plain)


# === Muon =============================================================================
@pytest.mark.parametrize("shape", [(36, 8), (8, 36)])
def test_updates_are_about_orthogonal_and_keep_their_directions(shape, rng):
    matrix = rng.normal(size=shape).astype("float32")
    values = np.linalg.svd(np.asarray(orthogonal(matrix)), compute_uv=False)
    assert 0.6 < values.min() and values.max() < 1.3
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    cosine = (
        np.sum(np.asarray(orthogonal(matrix)) * (left @ right))
        / shape[int(shape[0] > shape[1])]
    )
    assert cosine > 0.85


def test_muon_is_adam_where_there_is_no_hidden_kernel(rng):
    start = rng.normal(size=(5,)).astype("float32")
    mine, theirs = keras.Variable(start), keras.Variable(start)
    muon = Muon(1e-2, epsilon=1e-7)
    adam = keras.optimizers.Adam(1e-2, beta_2=0.99, epsilon=1e-7)
    for _ in range(3):
        gradient = tf.constant(rng.normal(size=(5,)).astype("float32"))
        muon.apply([gradient], [mine])
        adam.apply([gradient], [theirs])
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_muon_steps_are_equally_long_in_every_direction(rng):
    start = rng.normal(size=(3, 3, 32, 32)).astype("float32")
    kernel = keras.Variable(start)
    Muon(1e-2, scale=1.0).apply([tf.constant(1e-6 * start)], [kernel])
    step = np.reshape(start - np.asarray(kernel), (-1, 32))
    values = np.linalg.svd(step, compute_uv=False)
    assert 0.6e-2 < values.min() and values.max() < 1.3e-2


@pytest.mark.slow
@pytest.mark.parametrize("task", [StillTask(crop=32), BetweenTask(crop=32)])
def test_the_cost_of_a_sample_is_counted(task):
    network = task.with_auxiliary(_network())
    assert training_macs(network, task.sample_shape()) > 1e5
