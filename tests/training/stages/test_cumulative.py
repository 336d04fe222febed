"""The driver: stages, growth, pruning, nested data, compute, curves."""

import dataclasses
import json

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from training.classifiers.cost_account import read_account
from training.curves import draw_curves, make_table, read_curve
from training.data.images.sources import read_images
from training.engine.loop import Stopped
from training.engine.networks import load_model
from training.engine.state import StageSchedule
from training.errors import TrainingError
from training.stages import changes
from training.stages.compute import training_macs
from training.stages.cumulative import run_recipe
from training.stages.recipe import Recipe, Stage
from training.stages.teaching import Teaching
from training.tasks.images import ImageTask

pytestmark = pytest.mark.slow

QUIET = Console(quiet=True)
SIDE = 16


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """An .npz of stripes: class 0 horizontal, class 1 vertical, class 2 none."""
    random = np.random.default_rng(0)

    def picture(label):
        stripes = (np.arange(SIDE) // 2 % 2 * 120)[:, None]
        image = {0: stripes, 1: stripes.T, 2: 60}[label] + np.zeros((SIDE, SIDE))
        image = image[..., None] + random.integers(0, 100, (SIDE, SIDE, 3))
        return cv2.imencode(".jpg", image.astype(np.uint8))[1].ravel()

    arrays = {}
    for split, count in (("train", 90), ("val", 30)):
        labels = np.arange(count) % 3
        coded = [picture(label) for label in labels]
        arrays[f"{split}_jpeg"] = np.concatenate(coded)
        sizes = [len(data) for data in coded]
        arrays[f"{split}_offsets"] = np.concatenate([[0], np.cumsum(sizes)])
        arrays[f"{split}_labels"] = labels
    path = tmp_path_factory.mktemp("pictures") / "stripes.npz"
    np.savez(path, **arrays)
    return path


def classifier():
    """conv - batch normalisation - relu - pool - dense."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.8, name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.MaxPooling2D(4, name="pool")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


def recipe(*stages, **options):
    return Recipe(
        name="stripes",
        task=ImageTask(size=SIDE, shift=1),
        model=classifier,
        stages=stages,
        **{
            "batch_size": 12,
            "log_every": 5,
            "validate_every": 1000,
            "save_every": 10,
            "ema_decay": 0.9,
            **options,
        },
    )


SMALL = Stage("small", 25, 0.02, fraction=0.3, warmup_steps=2)
WIDER = Stage(
    "wider",
    15,
    0.01,
    changes=(changes.widen(widths={"conv": 8}),),
    carry_optimizer=True,
    warmup_steps=2,
)
PRUNED = Stage(
    "pruned", 10, 0.01, changes=(changes.prune(widths={"conv": 6}),), warmup_steps=2
)


def pictures_of(path):
    """The validation images as a network's inputs."""
    return read_images(str(path), "val", SIDE).images.astype(np.float32) / 255.0


def run(chosen, data, out, **options):
    strategy = tf.distribute.get_strategy()
    return run_recipe(chosen, str(data), out, strategy, validation=str(data), **options)


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    """A run of three stages."""
    out = tmp_path_factory.mktemp("cumulative") / "run"
    run(recipe(SMALL, WIDER, PRUNED), pictures, out, console=QUIET)
    return out


def test_every_stage_keeps_its_network_and_the_sizes_follow_the_changes(finished):
    widths = [
        load_model(finished / folder / "last.keras").get_layer("conv").filters
        for folder in ("stage_0_small", "stage_1_wider", "stage_2_pruned")
    ]
    assert widths == [4, 8, 6]
    for folder in finished.glob("stage_*"):
        for name in ("start.keras", "best.keras", "last.keras", "log.csv"):
            assert (folder / name).exists()


def test_a_grown_network_begins_with_the_function_of_the_kept_one(finished, rng):
    images = rng.random((4, SIDE, SIDE, 3), np.float32)
    before = load_model(finished / "stage_0_small" / "last.keras")
    after = load_model(finished / "stage_1_wider" / "start.keras")
    expected = before.predict_on_batch(images)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(after.predict_on_batch(images), expected, atol=1e-5)


def test_stripes_are_learned(finished):
    stages = json.loads((finished / "stages.json").read_text())
    assert stages[1]["best"]["accuracy"] > 0.9


def test_compute_is_counted_by_hand(finished):
    # Convolution over 16x16 with 3x3x3 inputs per channel; 4x4 pooled pixels to 3.
    def forward(channels):
        return 16 * 16 * 27 * channels + 4 * 4 * channels * 3

    assert training_macs(classifier(), (SIDE, SIDE, 3)) == 3 * forward(4)
    stages = json.loads((finished / "stages.json").read_text())
    total = 0
    for stage, channels, steps in zip(stages, (4, 8, 6), (25, 15, 10), strict=True):
        total += 3 * forward(channels) * steps * 12
        assert stage["training_macs"] == pytest.approx(total)
        assert stage["samples"] == steps * 12


def test_the_optimizer_carries_over_into_the_grown_network(finished):
    def moments(stage, step):
        path = finished / stage / "checkpoints" / f"step-{step}"
        reader = tf.train.load_checkpoint(str(path))
        names = reader.get_variable_to_shape_map()
        return [
            np.asarray(reader.get_tensor(name))
            for name, shape in sorted(names.items())
            if name.startswith("optimizer/_variables") and len(shape) > 1
        ]

    last, grown = moments("stage_0_small", 25), moments("stage_1_wider", 0)
    assert [a.shape for a in grown] != [a.shape for a in last]
    for old, new in zip(last, grown, strict=True):
        assert np.abs(old).max() > 0 and np.abs(new).max() > 0
    fresh = moments("stage_2_pruned", 0)
    assert fresh and all(np.abs(array).max() == 0 for array in fresh)


def test_the_curve_joins_the_stages_and_is_drawn(finished, tmp_path):
    points = read_curve(finished)
    # Each stage is scored as it begins and as it ends.
    names = ["small", "small", "wider", "wider", "pruned", "pruned"]
    assert [point["stage"] for point in points] == names
    assert [point["step"] for point in points] == [0, 25, 0, 15, 0, 10]
    assert points[2]["score"] == points[1]["score"]  # growth is exact
    macs = [point["training_macs"] for point in points]
    assert macs == sorted(macs) and points[0]["name"] == "accuracy"
    figure = tmp_path / "curve.png"
    draw_curves({"a": finished, "b": finished}, figure)
    assert cv2.imread(str(figure)).shape == (480, 840, 3)
    assert make_table({"a": finished}).row_count == 3
    assert (finished / "curve.png").exists()


def test_a_run_stopped_in_a_later_stage_ends_with_the_same_weights(
    pictures, finished, tmp_path, monkeypatch
):
    from training.runs.logs import RunLogs

    advance = RunLogs.advance

    def advance_and_stop(self, step):
        advance(self, step)
        if self.title == "wider" and step == 12:
            raise Stopped("by the test")

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunLogs, "advance", advance_and_stop)
        with pytest.raises(Stopped):
            run(recipe(SMALL, WIDER, PRUNED), pictures, out, console=QUIET)
    model = run(recipe(SMALL, WIDER, PRUNED), pictures, out, console=QUIET)
    expected = load_model(finished / "stage_2_pruned" / "last.keras")
    for found, wanted in zip(model.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy(), found.path)
    first, second = (
        [
            {k: v for k, v in stage.items() if k != "folder"}
            for stage in json.loads((folder / "stages.json").read_text())
        ]
        for folder in (finished, out)
    )
    assert first == second


def test_deepening_in_a_stage_adds_a_layer_and_keeps_the_function(
    pictures, tmp_path, rng
):
    deeper = Stage("deeper", 2, 0.01, changes=(changes.deepen(after="relu"),))
    short = Stage("small", 2, 0.02)
    model = run(recipe(short, deeper), pictures, tmp_path / "run", console=QUIET)
    before = load_model(tmp_path / "run" / "stage_0_small" / "last.keras")
    start = load_model(tmp_path / "run" / "stage_1_deeper" / "start.keras")
    assert len(model.variables) > len(before.variables)
    images = rng.random((4, SIDE, SIDE, 3), np.float32)
    np.testing.assert_allclose(
        start.predict_on_batch(images), before.predict_on_batch(images), atol=1e-5
    )


def test_a_pruned_network_is_taught_by_the_whole_one(pictures, tmp_path):
    taught = dataclasses.replace(
        PRUNED,
        steps=60,
        changes=(changes.prune(widths={"conv": 3}),),
        teaching=Teaching(("small",), share=1.0),
    )
    out = tmp_path / "run"
    run(recipe(SMALL, taught), pictures, out, console=QUIET)
    first, second = json.loads((out / "stages.json").read_text())
    each = 3 * second["forward_macs_per_sample"] + first["forward_macs_per_sample"]
    total = first["training_macs"] + 60 * 12 * each
    assert second["training_macs"] == pytest.approx(total)
    account = read_account(out).stages[1]
    assert account.teachers == ("small",)
    assert account.training_macs == pytest.approx(60 * 12 * each)
    # It says what its teacher says, more than when it began.
    images = pictures_of(pictures)

    def judged(path):
        return tf.nn.softmax(load_model(out / path).predict_on_batch(images) / 4)

    teacher, start, last = (
        judged(path)
        for path in (
            "stage_0_small/last.keras",
            "stage_1_pruned/start.keras",
            "stage_1_pruned/last.keras",
        )
    )
    before, after = (np.abs(student - teacher).mean() for student in (start, last))
    assert after < 0.5 * before


def test_an_impossible_change_is_one_clear_error(pictures, tmp_path):
    wrong = Stage("wrong", 2, 0.01, changes=(changes.widen(widths={"nowhere": 9}),))
    with pytest.raises(TrainingError, match="cannot be changed by 'widen"):
        run(recipe(wrong), pictures, tmp_path / "run", console=QUIET)


def test_fractions_of_images_are_nested_and_balanced(pictures):
    task = ImageTask(size=SIDE, shift=0, flip=False)
    data = task.open(str(pictures), print)

    def seen(fraction):
        sample = task.sampler(data, 1, fraction)
        count = round(fraction * 90)
        return [(sample(n)[0].tobytes(), int(sample(n)[1])) for n in range(count)]

    third, all_ = seen(1 / 3), seen(1.0)
    assert set(third) < set(all_) and len(set(all_)) == 90
    assert [sum(label == c for _, label in third) for c in range(3)] == [10, 10, 10]


def test_unreadable_images_are_one_clear_error(tmp_path):
    path = tmp_path / "junk.npz"
    path.write_bytes(b"junk")
    with pytest.raises(TrainingError, match="expected a .npz file with train_jpeg"):
        ImageTask().open(str(path), print)


def test_the_schedule_rises_linearly_and_falls_by_a_cosine():
    schedule = StageSchedule(peak=2.0, steps=110, warmup=10, end=0.1, offset=1000)
    values = [float(schedule(1000 + step)) for step in range(111)]
    np.testing.assert_allclose(values[:10], 2.0 * np.arange(1, 11) / 11, rtol=1e-5)
    assert values[10] == pytest.approx(2.0)
    assert values[60] == pytest.approx(2.0 * 0.55, rel=1e-5)
    assert values[110] == pytest.approx(0.2, rel=1e-5)
    same = StageSchedule.from_config(schedule.get_config())
    assert float(same(1042)) == pytest.approx(values[42])


def test_a_stage_may_draw_its_samples_in_another_way(pictures, tmp_path):
    larger = Stage("larger", 5, 0.01, task=ImageTask(size=SIDE, shift=3))
    plan = recipe(dataclasses.replace(SMALL, steps=5), larger)
    assert plan.task_of(plan.stages[0]) is plan.task
    assert plan.task_of(larger) is larger.task
    seen = []
    original = ImageTask.sampler

    def remember(self, *arguments):
        seen.append(self.shift)
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageTask, "sampler", remember)
        run_recipe(plan, str(pictures), tmp_path / "run", tf.distribute.get_strategy())
    assert seen == [1, 3]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"]["stages"][1]["task"]["shift"] == 3
