"""One step against the same arithmetic written out; losses, schedules, logs."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tests.training.conftest import TINY_RECIPE
from training.data.cache import ClipCache
from training.data.teacher import teacher_flow
from training.engine.networks import in_precision, load_model
from training.engine.state import TrainState, make_optimizer
from training.engine.step import learning_variables, make_step
from training.errors import TrainingError
from training.runs.logs import CsvTable, read_csv
from training.stages.compute import training_macs
from training.stages.cumulative import run_recipe
from training.stages.recipe import load_recipe

pytestmark = pytest.mark.slow

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.py"
    path.write_text(TINY_RECIPE)
    return load_recipe(path)


def batch_of(recipe, shards, first, count):
    sample = recipe.task.sampler(ClipCache(shards), recipe.seed, 1.0)
    pairs = [sample(first + i) for i in range(count)]
    return tuple(tf.constant(np.stack(arrays)) for arrays in zip(*pairs, strict=True))


def charbonnier(truth, prediction):
    """Mean per sample, in float64."""
    difference = np.asarray(prediction, np.float64) - np.asarray(truth, np.float64)
    values = np.sqrt(difference**2 + 1e-6)
    return values.reshape(len(values), -1).mean(1)


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_the_loss_is_charbonnier_plus_the_fading_photometric_term(
    recipe, shards, progress
):
    model = recipe.model()
    batch = batch_of(recipe, shards, 0, 2)
    network = recipe.task.with_auxiliary(model)
    losses = recipe.task.losses(network, batch, tf.constant(progress))
    low, high = (np.asarray(frames) / 255.0 for frames in batch)
    output = np.asarray(model(low[:, 0::2].astype(np.float32)))
    middle = keras.Model(model.input, model.get_layer("interpolate").output[1])
    moved = np.asarray(middle(low[:, 0::2].astype(np.float32)))
    pixels = charbonnier(high, output)
    motion = charbonnier(low[:, 1::2], moved.reshape(low[:, 1::2].shape))
    weight = 1.0 + progress * (0.1 - 1.0)
    assert motion.min() > 1e-3 and pixels.min() > 1e-3
    np.testing.assert_allclose(losses["pixels"], pixels, rtol=1e-5)
    np.testing.assert_allclose(losses["motion"], motion, rtol=1e-5)
    np.testing.assert_allclose(losses["loss"], pixels + weight * motion, rtol=1e-5)


def test_without_motion_weight_any_network_will_do_and_with_it_others_are_refused(
    recipe, shards
):
    inputs = keras.Input((4, 8, 8, 3))
    plain = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))
    with pytest.raises(TrainingError, match="motion_weight needs a network"):
        recipe.task.with_auxiliary(plain)
    without = dataclasses.replace(recipe.task, motion_weight=0.0)
    assert without.with_auxiliary(plain) is plain


def test_a_stage_of_motion_alone_changes_the_motion_field_alone(recipe, shards):
    task = dataclasses.replace(recipe.task, pixel_weight=0.0)
    stage = dataclasses.replace(recipe.stages[0], layers=("interpolate",))
    chosen = dataclasses.replace(recipe, task=task, stages=(stage,), batch_size=2)
    model = chosen.model()
    network = task.with_auxiliary(model)
    batch = batch_of(chosen, shards, 0, 2)
    losses = task.losses(network, batch, tf.constant(0.5))
    whole = recipe.task.losses(
        recipe.task.with_auxiliary(model), batch, tf.constant(0.5)
    )
    assert set(losses) == {"loss", "motion"}
    np.testing.assert_allclose(losses["motion"], whole["motion"], rtol=1e-6)
    np.testing.assert_allclose(losses["loss"], 0.55 * whole["motion"], rtol=1e-5)
    # What is not computed is not counted either.
    part = training_macs(network, task.sample_shape())
    assert 0 < part < 0.5 * training_macs(model, task.sample_shape())

    state = TrainState(model, make_optimizer(chosen, stage), 0.5)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    step = make_step(tf.distribute.get_strategy(), state, task, chosen, stage)
    for number in range(2):
        step(batch, tf.constant(number, tf.int64), tf.constant(0.0))
    changed = {
        v.path for v in model.trainable_variables if (v.numpy() != before[v.path]).any()
    }
    field = {v.path for v in model.get_layer("interpolate").trainable_variables}
    assert changed and changed <= field


def test_the_flow_term_is_the_distance_to_the_teachers_motion(recipe, shards):
    task = dataclasses.replace(recipe.task, flow_weight=0.1, motion_weight=0.0)
    task = dataclasses.replace(task, final_motion_weight=0.0)
    model = recipe.model()
    # Motion everywhere, so that left and right, down and across can be told apart.
    head = model.get_layer("interpolate").branch.motion.fine_head
    head.bias.assign([0.25, -0.5, 0.75, 1.0])
    sample = task.sampler(ClipCache(shards), 0, 1.0)
    batch = [np.stack(arrays) for arrays in zip(sample(0), sample(1), strict=True)]
    np.testing.assert_array_equal(batch[2][1], teacher_flow(batch[1][1]))
    losses = task.losses(task.with_auxiliary(model), batch, tf.constant(0.0))
    difference = batch[2].astype(np.float64) - [0.25, -0.5, 0.75, 1.0]
    wanted = np.sqrt(difference**2 + 1e-2).mean(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(losses["flow"], wanted, rtol=1e-5)
    np.testing.assert_allclose(
        losses["loss"], losses["pixels"] + 0.1 * wanted, rtol=1e-5
    )
    plain = keras.Sequential([keras.Input((4, 8, 8, 3)), keras.layers.Flatten()])
    with pytest.raises(TrainingError, match="needs a MEGAN with alignment='window'"):
        dataclasses.replace(task, pixel_weight=0.0).with_auxiliary(plain)


def test_layers_that_the_network_does_not_have_are_refused(recipe):
    stage = dataclasses.replace(recipe.stages[0], layers=("motion",))
    with pytest.raises(TrainingError, match="'only' trains the layer 'motion', which"):
        learning_variables(recipe.model(), stage)


@pytest.mark.parametrize("clip", [None, 1e-2, 1e3])
def test_two_steps_are_adam_on_clipped_gradients_and_averaged_weights(
    recipe, shards, clip
):
    chosen = dataclasses.replace(recipe, clip_norm=clip, batch_size=2, ema_decay=0.5)
    stage = chosen.stages[0]
    strategy = tf.distribute.get_strategy()
    state = TrainState(chosen.model(), make_optimizer(chosen, stage), 0.5)
    step = make_step(strategy, state, chosen.task, chosen, stage)
    twin = chosen.model()
    twin.set_weights(state.model.get_weights())
    network = chosen.task.with_auxiliary(twin)
    variables = [v.value for v in twin.trainable_variables]
    first = [np.zeros(v.shape) for v in variables]
    second = [np.zeros(v.shape) for v in variables]
    averages = [v.numpy().astype(np.float64) for v in variables]
    for number in range(2):
        batch = batch_of(chosen, shards, 2 * number, 2)
        results = step(batch, tf.constant(number, tf.int64), tf.constant(0.0))
        progress = tf.constant(number / (stage.steps - 1), tf.float32)
        with tf.GradientTape() as tape:
            losses = chosen.task.losses(network, batch, progress)
            loss = tf.reduce_mean(losses["loss"])
        gradients = [
            g.numpy().astype(np.float64) for g in tape.gradient(loss, variables)
        ]
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        assert 1e-2 < norm < 1e3  # so that both limits mean something
        if clip:
            gradients = [g * min(1.0, clip / norm) for g in gradients]
        assert float(results["loss"]) == pytest.approx(float(loss), rel=1e-5)
        # Warm-up over two steps: 1/3 and 2/3 of the peak.
        rate = stage.learning_rate * (number + 1) / 3
        decay = min(0.5, (1 + number) / (10 + number))
        for i, gradient in enumerate(gradients):
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.99 * second[i] + 0.01 * gradient**2
            # Adam as Kingma and Ba write it at the end of their section 2.
            pace = np.sqrt(1 - 0.99 ** (number + 1)) / (1 - 0.9 ** (number + 1))
            change = rate * pace * first[i] / (np.sqrt(second[i]) + 1e-7)
            variables[i].assign_sub(change.astype(np.float32))
            averages[i] = decay * averages[i] + (1 - decay) * variables[i].numpy()
    for found, wanted in zip(state.model.trainable_variables, variables, strict=True):
        # Where a gradient is nearly nothing Adam divides noise by noise.
        difference = np.abs(found.numpy() - wanted.numpy())
        assert np.quantile(difference, 0.99) < 2e-6 and difference.max() < 2e-3
    for found, wanted in zip(state.averages, averages, strict=True):
        assert np.quantile(np.abs(found.numpy() - wanted), 0.99) < 2e-6


def test_mixed_precision_trains_and_keeps_float32_networks(recipe, shards, tmp_path):
    chosen = dataclasses.replace(recipe, mixed_precision=True, batch_size=2)
    run_recipe(
        chosen.with_steps(3),
        str(shards),
        tmp_path / "run",
        tf.distribute.get_strategy(),
        console=QUIET,
    )
    stage = tmp_path / "run" / "stage_0_only"
    start, last = (load_model(stage / f"{name}.keras") for name in ("start", "last"))
    assert last.dtype_policy.name == "float32"
    assert last.get_layer("extract").dtype_policy.name == "float32"
    changes = [
        np.abs(a.numpy() - b.numpy()).max()
        for a, b in zip(
            start.trainable_variables, last.trainable_variables, strict=True
        )
    ]
    assert np.isfinite(changes).all() and max(changes) > 1e-5


def test_precision_changes_computation_but_no_weights(recipe):
    model = recipe.model()
    half = in_precision(model, "mixed_float16")
    assert half.get_layer("extract").compute_dtype == "float16"
    for a, b in zip(model.variables, half.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    inputs = keras.Input((3,))
    with pytest.raises(TrainingError, match="mixed_precision needs a network class"):
        in_precision(keras.Model(inputs, keras.layers.Dense(1)(inputs)), "float32")


def test_validation_logs_scores_by_the_protocol_and_strips_for_tensorboard(
    recipe, shards, footage, tmp_path
):
    from keras_megan.imaging.find import find_clips
    from training.evaluation.clips import load_clip
    from training.evaluation.scoring import Summary, score_clip

    out = tmp_path / "run"
    model = run_recipe(
        dataclasses.replace(recipe, batch_size=2).with_steps(2),
        str(shards),
        out,
        tf.distribute.get_strategy(),
        validation=str(footage),
        console=QUIET,
    )
    before, row = read_csv(out / "stage_0_only" / "validation.csv")
    assert (before["step"], row["step"]) == ("0", "2")

    def method(frames):
        output = model.predict_on_batch(frames[None] / np.float32(255))[0]
        return np.rint(np.clip(output, 0, 1) * 255).astype(np.uint8)

    clips = [load_clip(source, max_frames=7) for source in find_clips(footage)]
    scores = [Summary.of_frames(score_clip(c, {"m": method})["m"]) for c in clips]
    expected = Summary.of_clips(scores)
    assert float(row["psnr"]) == pytest.approx(expected.psnr["all"], abs=1e-4)
    assert float(row["psnr_new"]) == pytest.approx(expected.psnr["new"], abs=1e-4)
    assert float(row["ssim_given"]) == pytest.approx(expected.ssim["given"], abs=1e-5)

    (events,) = (out / "stage_0_only" / "tensorboard").glob("events*")
    tags = {}
    for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            tags[value.tag] = value.tensor
    assert {"train/loss", "train/learning_rate", "validation/psnr"} <= set(tags)
    strip = tags["low, output, truth/meadow"].string_val
    width, height = (int(number) for number in strip[:2])
    assert (width, height) == (3 * 96, 64)
    picture = tf.io.decode_png(strip[2]).numpy()
    np.testing.assert_array_equal(picture[:, 192:], clips[0].truth[3])


def test_csv_rows_after_the_restored_step_are_cut_off(tmp_path):
    path = tmp_path / "log.csv"
    table = CsvTable(path, 0)
    for step in (2, 4, 6):
        table.add(step, {"loss": step / 10})
    with open(path, "a") as file:
        file.write("8")  # the machine stopped while this row was written
    assert [row["step"] for row in read_csv(path)] == ["2", "4", "6"]
    again = CsvTable(path, 4)
    again.add(6, {"loss": 9.0, "psnr": 30.0})
    rows = read_csv(path)
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert rows[-1] == {"step": "6", "loss": "9", "psnr": "30"}
