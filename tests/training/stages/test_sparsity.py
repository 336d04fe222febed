"""Sparse stages: which weights are zero, on every replica, and after going on."""

import builtins
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from rich.console import Console

from keras_megan import MEGAN, net2net
from tests.training.conftest import ROOT, run_program, weights_of
from tests.training.engine.test_distributed import checkpoint_values
from training.engine.loop import Stopped
from training.engine.networks import load_model
from training.errors import TrainingError
from training.runs.logs import RunLogs, read_csv
from training.stages.cumulative import run_recipe
from training.stages.recipe import load_recipe
from training.stages.sparsity import Masks, Sparsity, find_kernels, load_core
from training.tasks.video import VideoTask

pytestmark = pytest.mark.slow


def recipe_with(recipe_file, sparsity, **more):
    """The tiny recipe whose only stage is sparse; its path."""
    stage = f"Stage(name='only', steps=8, learning_rate=1e-3, sparsity={sparsity})"
    path = recipe_file(stages=f"({stage},)", **more)
    path.write_text(
        "from training.stages.sparsity import Sparsity\n" + path.read_text()
    )
    return path


def train(path, shards, out, **more):
    strategy, quiet = tf.distribute.get_strategy(), Console(quiet=True)
    run_recipe(load_recipe(path), str(shards), out, strategy, console=quiet, **more)
    return load_model(out / "stage_0_only" / "last.keras")


def kernels_of(model):
    return [k.numpy() for k in find_kernels(model, Sparsity())]


def most_in_a_group(kernel, axis):
    """The most non-zeros among 4 consecutive weights along an axis, by a loop."""
    rows = np.moveaxis(kernel, axis, -1).reshape(-1, kernel.shape[axis])
    most = 0
    for row in rows:
        for start in range(0, len(row), 4):
            most = max(most, sum(weight != 0 for weight in row[start : start + 4]))
    return most


# === What a stage leaves behind =======================================================
def test_magnitude_leaves_exactly_the_target_share_of_zeros(
    recipe_file, shards, tmp_path
):
    sparsity = "Sparsity(target=0.6, end=0.8, every=2)"
    path = recipe_with(recipe_file, sparsity, validate_every=4)
    model = train(path, shards, tmp_path / "run")
    kernels = kernels_of(model)
    assert len(kernels) == 2
    for kernel in kernels:
        assert np.sum(kernel == 0) == kernel.size - round(0.4 * kernel.size)
    biases = [v.numpy() for v in model.variables if v.path.endswith("bias")]
    assert all(np.all(bias != 0) for bias in biases)
    # The cubic schedule from 0 in step 1 to the target in step 5.
    shares = [
        float(row["sparsity"])
        for row in read_csv(tmp_path / "run" / "stage_0_only" / "log.csv")
    ]
    middle = 0.6 * (1 - 0.5**3)
    assert shares[-1] == pytest.approx(0.6, abs=1e-4)
    assert shares[1] == pytest.approx((middle + middle) / 2, abs=1e-4)


def test_two_of_four_leaves_at_most_two_in_every_group_of_inputs(
    recipe_file, shards, tmp_path
):
    path = recipe_with(recipe_file, "Sparsity(pattern='2:4', end=0.4, every=1)")
    kernels = kernels_of(train(path, shards, tmp_path / "run"))
    assert [kernel.shape[2] for kernel in kernels] == [12, 8]
    for kernel in kernels:
        assert np.mean(kernel == 0) == 0.5
        assert most_in_a_group(kernel, axis=2) == 2
        assert most_in_a_group(kernel, axis=3) > 2  # the check can fail


def test_trained_weights_and_averages_are_zero_where_the_masks_in_the_checkpoint_are(
    recipe_file, shards, tmp_path
):
    path = recipe_with(recipe_file, "Sparsity(target=0.5, end=0.1)", save_every=4)
    train(path, shards, tmp_path / "run")
    values = checkpoint_values(tmp_path / "run" / "stage_0_only" / "checkpoints", 4)
    masks = [value for name, value in values.items() if name.startswith("masks")]
    assert len(masks) == 2
    for mask in masks:
        places = ("optimizer/_trainable_variables", "averages")
        same = [
            value
            for name, value in values.items()
            if value.shape == mask.shape and name.startswith(places)
        ]
        assert len(same) == 2 and not np.array_equal(*same)
        for value in same:
            np.testing.assert_array_equal(value != 0, mask != 0)
            assert not np.any(np.signbit(value[value == 0]))


def test_the_best_network_is_sparse(recipe_file, shards, tmp_path, monkeypatch):
    class WorseEveryTime:
        score = 0.0

        def __call__(self, model):
            self.score -= 1.0
            return {"psnr": self.score}

        def strips(self, model):
            return {}

    monkeypatch.setattr(VideoTask, "validator", lambda self, _: WorseEveryTime())
    sparsity = "Sparsity(target=0.5, end=0.5, every=1)"
    path = recipe_with(recipe_file, sparsity, validate_every=2)
    train(path, shards, tmp_path / "run", validation="any")
    stage = tmp_path / "run" / "stage_0_only"
    steps = [row["step"] for row in read_csv(stage / "validation.csv")]
    assert steps == ["0", "2", "4", "6", "8"]
    for name in ("best", "last"):
        for kernel in kernels_of(load_model(stage / f"{name}.keras")):
            assert np.mean(kernel == 0) == 0.5
    best, last = (weights_of(stage / f"{name}.keras") for name in ("best", "last"))
    assert not np.array_equal(best, last)


# === Going on, and replicas ===========================================================
@pytest.mark.parametrize("pattern", ["magnitude", "2:4"])
def test_an_interrupted_sparse_stage_ends_with_the_same_bits(
    pattern, recipe_file, shards, tmp_path, monkeypatch
):
    sparsity = f"Sparsity(pattern={pattern!r}, end=0.9, every=3)"
    path = recipe_with(recipe_file, sparsity, save_every=1)
    train(path, shards, tmp_path / "whole")
    advance = RunLogs.advance

    def advance_and_stop(self, step):
        advance(self, step)
        if step == 5:  # between two choices of masks
            raise Stopped("by the test")

    with monkeypatch.context() as patch:
        patch.setattr(RunLogs, "advance", advance_and_stop)
        with pytest.raises(Stopped):
            train(path, shards, tmp_path / "parts")
    train(path, shards, tmp_path / "parts")
    whole, parts = (
        weights_of(tmp_path / name / "stage_0_only" / "last.keras")
        for name in ("whole", "parts")
    )
    np.testing.assert_array_equal(parts, whole)
    assert np.mean(whole == 0) > 0.4


def test_two_replicas_have_the_masks_and_weights_of_one(recipe_file, shards, tmp_path):
    sparsity = "Sparsity(target=0.5, end=0.9, every=2)"
    path = recipe_with(recipe_file, sparsity, save_every=1, keep=50)
    train(path, shards, tmp_path / "one")
    status, _, error = run_program(
        "training.train",
        *("--recipe", path, "--data", shards, "--out", tmp_path / "two"),
        *("--strategy", "mirrored", "--logical_cpus", 2, "--threads", 1),
    )
    assert status == 0, error
    one, two = (
        checkpoint_values(tmp_path / name / "stage_0_only" / "checkpoints", 8)
        for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    masked = [name for name in one if name.startswith("masks")]
    assert len(masked) == 2 and all(np.mean(one[name]) == 0.5 for name in masked)
    for name in masked:
        np.testing.assert_array_equal(two[name], one[name])
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=0, atol=1e-6, err_msg=name)


# === One step at a time ===============================================================
def masked_model(sparsity, steps=10, seed=0):
    """A network with a 3-channel input, its masks, and the step that applies them."""
    keras.utils.set_random_seed(seed)
    x = entry = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, name="first")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Flatten()(x)
    model = keras.Model(entry, layers.Dense(5, name="last")(x))
    averages = [tf.Variable(v.numpy()) for v in model.trainable_variables]
    masks = Masks(sparsity, model, averages, steps)
    return model, averages, masks, tf.function(masks.apply)


def test_the_largest_magnitudes_stay_and_depthwise_kernels_are_dense():
    model, averages, masks, apply = masked_model(Sparsity(target=0.25))
    before = model.get_layer("last").kernel.numpy()
    apply(tf.constant(1, tf.int64))
    cut = np.sort(np.abs(before).ravel())[before.size - round(before.size * 0.75)]
    expected = np.where(np.abs(before) >= cut, before, 0)
    np.testing.assert_array_equal(model.get_layer("last").kernel.numpy(), expected)
    np.testing.assert_array_equal(averages[4].numpy(), expected)
    assert np.all(model.get_layer("depthwise").kernel.numpy() != 0)
    assert float(masks.share()) == pytest.approx(0.25, abs=0.01)


def test_two_of_four_of_a_dense_kernel_and_of_three_inputs():
    model, _, _, apply = masked_model(Sparsity(pattern="2:4"))
    before = model.get_layer("last").kernel.numpy()
    apply(tf.constant(1, tf.int64))
    dense, first = (model.get_layer(name).kernel.numpy() for name in ("last", "first"))
    assert most_in_a_group(dense, axis=0) == 2
    for group in range(0, len(before), 4):
        for unit in range(before.shape[1]):
            column = before[group : group + 4, unit]
            kept = np.flatnonzero(dense[group : group + 4, unit])
            assert set(kept) == set(np.argsort(np.abs(column))[2:])
    assert most_in_a_group(first, axis=2) == 2  # of a group of three
    assert np.mean(first == 0) == pytest.approx(1 / 3)


def test_masks_change_only_on_their_turns():
    model, _, masks, apply = masked_model(Sparsity(pattern="2:4", end=0.5, every=2))
    kernel, random = model.get_layer("last").kernel, np.random.default_rng(0)
    changed, mask = [], np.ones(kernel.shape)
    for step in range(1, 11):
        kernel.assign(random.normal(size=kernel.shape))
        apply(tf.constant(step, tf.int64))
        now = masks.variables[1].numpy()
        np.testing.assert_array_equal(kernel.numpy() != 0, now != 0)
        changed += [step] if np.any(now != mask) else []
        mask = now
    assert changed == [1, 3, 5]


def test_turns_end_on_the_schedules_last_step():
    assert Sparsity(begin=0.1, end=0.5, every=100).turns(1000) == (100, 500)
    assert Sparsity(begin=0.0, end=0.5, every=100).turns(1000) == (1, 401)
    assert Sparsity(begin=0.5, end=0.5).turns(1000) == (500, 500)
    assert Sparsity(begin=0.0, end=0.0).turns(10) == (1, 1)


# === What is refused, and how the package is loaded ===================================
def test_layers_are_left_out_by_path_by_last_part_and_by_composite():
    model = MEGAN(
        filters=8,
        num_frames=2,
        extraction_blocks=1,
        alignment="window",
        alignment_options={"levels": 2, "reach": 2},
        descriptor_size=4,
        fusion_blocks=1,
        reconstruction_blocks=1,
    )

    def paths(*leave):
        kernels = find_kernels(model, Sparsity(leave=leave))
        return {kernel.path.removesuffix("/kernel") for kernel in kernels}

    every = paths()
    assert {"extract", "extract_0/conv_1", "reconstruct/to_pixels"} <= every
    assert every - paths("extract", "to_pixels") == {"extract", "reconstruct/to_pixels"}
    inside = every - paths("interpolate")
    assert len(inside) > 5 and all(p.startswith("interpolate/") for p in inside)
    with pytest.raises(TrainingError, match="leave out 'extrakt'.*Near names: .*extr"):
        paths("extrakt")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"pattern": "1:3"}, "a pattern out of magnitude, 2:4; received '1:3'"),
        ({"target": 1.0}, "0 < target < 1"),
        ({"begin": 0.6, "end": 0.5}, "begin <= end"),
        ({"every": 0}, "every >= 1; received 0"),
        ({"pattern": "2:4", "target": 0.7}, "2:4 has target 0.5; received 0.7"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(TrainingError, match=message):
        Sparsity(**arguments)


def test_a_network_without_such_kernels_is_refused():
    entry = keras.Input((4, 4, 3))
    model = keras.Model(entry, layers.DepthwiseConv2D(3)(entry))
    with pytest.raises(TrainingError, match="finds no kernel.*Dense"):
        find_kernels(model, Sparsity())


def test_if_the_package_is_missing_one_line_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.startswith("tensorflow_model_optimization"):
            raise ModuleNotFoundError("No module named 'tensorflow_model_optimization'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(TrainingError, match="pip install tensorflow-model-optimizatio"):
        load_core()


def test_loading_the_package_leaves_the_process_on_keras_3():
    load_core()  # warnings are errors here
    assert "TF_USE_LEGACY_KERAS" not in os.environ
    assert tf.keras.version() == keras.version()


# === The recipes that make megan_mobile sparse, or leaner =============================
def shipped_recipe(name):
    return load_recipe(ROOT / "training" / "recipes" / f"{name}.py")


def test_mobile_sparse_spares_the_layers_next_to_the_pixels_only():
    recipe = shipped_recipe("mobile_sparse")
    mobile, sparsity = recipe.model(), recipe.stages[-1].sparsity
    sparse, every = (
        {kernel.path for kernel in find_kernels(mobile, setting)}
        for setting in (sparsity, Sparsity(pattern="2:4"))
    )
    assert sparsity.pattern == "2:4"
    assert every - sparse == {"extract/kernel", "reconstruct/to_pixels/kernel"}
    assert len(sparse) > 30


def test_lean_has_three_fifths_of_the_multiply_adds_in_multiples_of_8():
    frames = (4, 64, 112, 3)
    recipe = shipped_recipe("nano")
    mobile = lean = recipe.model()
    for change in recipe.stages[0].changes:
        lean = change.apply(lean, None).model
    macs = [net2net.count_macs(model, frames) for model in (lean, mobile)]
    assert 0.55 < macs[0] / macs[1] <= 0.6
    widths = [k.shape[-1] for k in find_kernels(lean, Sparsity())]
    # Not multiples of 8: displacements, a mask, 4 x 3 colours.
    assert sorted(width for width in widths if width % 8) == [1, 4, 4, 12]
    assert widths.count(40) > 10 and widths.count(32) > 10 and 48 not in widths
    assert lean.output_shape == mobile.output_shape
