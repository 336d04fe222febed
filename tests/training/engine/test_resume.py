"""Stopping and going on: kill -9, SIGTERM, damaged checkpoints, full disks, NaN."""

import random
import resource
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from tests.training.conftest import program, run_program, weights_of
from training.engine.loop import Stopped
from training.errors import STOPPED, TrainingError
from training.stages.cumulative import run_recipe
from training.stages.recipe import load_recipe

pytestmark = pytest.mark.slow

QUIET = Console(quiet=True)
STEPS = 8


def train(recipe_path, shards, out, **options):
    """Trains in this process; returns the weights."""
    strategy = tf.distribute.get_strategy()
    run_recipe(load_recipe(recipe_path), str(shards), out, strategy, **options)
    return weights_of(out / "stage_0_only" / "last.keras")


@pytest.fixture(scope="module")
def uninterrupted(shards, tmp_path_factory):
    """Weights of a run that nothing disturbed."""
    from tests.training.conftest import PLAIN_RECIPE

    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "recipe.py").write_text(PLAIN_RECIPE)
    return train(folder / "recipe.py", shards, folder / "run", console=QUIET)


def wait_for(path, process, seconds=400):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_a_run_killed_at_a_random_step_ends_with_the_same_weights(
    recipe_file, shards, tmp_path, uninterrupted
):
    flags = ("--recipe", recipe_file(), "--data", shards, "--out", tmp_path / "run")
    stage = tmp_path / "run" / "stage_0_only"
    process = program("training.train", *flags)
    step = random.choice([2, 4])
    wait_for(stage / "checkpoints" / f"step-{step}.index", process)
    time.sleep(random.random() / 4)
    process.kill()
    process.communicate()
    status, _, error = run_program("training.train", *flags)
    assert status == 0, error
    np.testing.assert_array_equal(weights_of(stage / "last.keras"), uninterrupted)
    rows = (stage / "log.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4", "6", "8"]


def test_sigterm_saves_exits_with_143_and_the_run_can_be_resumed(
    recipe_file, shards, tmp_path, uninterrupted
):
    # So rarely saved that only the signal can have made the checkpoint.
    recipe = recipe_file(save_every=1000, log_every=1)
    flags = ("--recipe", recipe, "--data", shards, "--out", tmp_path / "run")
    stage = tmp_path / "run" / "stage_0_only"
    process = program("training.train", *flags)
    deadline = time.monotonic() + 200
    while (
        not (stage / "log.csv").exists()
        or "\n1," not in (stage / "log.csv").read_text()
    ):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=100)
    assert process.returncode == STOPPED, error
    assert "The same command continues" in out
    saved = {path.stem for path in (stage / "checkpoints").glob("step-*.index")}
    assert len(saved) == 2 and "step-0" in saved and not (stage / "last.keras").exists()
    weights = train(recipe, shards, tmp_path / "run", console=QUIET)
    np.testing.assert_array_equal(weights, uninterrupted)


def test_a_kill_between_the_last_score_and_the_last_checkpoint_loses_nothing(
    recipe_file, shards, tmp_path, uninterrupted, monkeypatch
):
    from training.engine.state import Checkpoints

    save = Checkpoints.save

    def save_but_not_the_last(self):
        if int(self.state.step.numpy()) == STEPS:
            raise Stopped("by the test")
        save(self)

    recipe, out = recipe_file(), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_but_not_the_last)
        with pytest.raises(Stopped):
            train(recipe, shards, out, console=QUIET)
    assert (out / "stage_0_only" / "last.keras").exists()
    assert not (out / "stages.json").exists()
    weights = train(recipe, shards, out, console=QUIET)
    np.testing.assert_array_equal(weights, uninterrupted)
    assert (out / "stages.json").exists()


def stop_after(monkeypatch, step):
    """Makes the next run stop as by a signal once the step is reached."""
    from training.runs.logs import RunLogs

    advance = RunLogs.advance

    def advance_and_stop(self, number):
        advance(self, number)
        if number == step:
            raise Stopped("by the test")

    monkeypatch.setattr(RunLogs, "advance", advance_and_stop)


def test_a_checkpoint_cut_off_half_way_falls_back_to_the_one_before(
    recipe_file, shards, tmp_path, uninterrupted, monkeypatch, capsys
):
    recipe, out = recipe_file(), tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(Stopped):
            train(recipe, shards, out, console=QUIET)
    folder = out / "stage_0_only" / "checkpoints"
    (data,) = folder.glob("step-6.data*")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    weights = train(recipe, shards, out, console=Console(width=300))
    assert "step-6' is damaged" in capsys.readouterr().out
    np.testing.assert_array_equal(weights, uninterrupted)


def test_flipped_bits_in_a_checkpoint_are_noticed_and_all_damaged_is_an_error(
    recipe_file, shards, tmp_path, monkeypatch
):
    recipe, out = recipe_file(), tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(Stopped):
            train(recipe, shards, out, console=QUIET)
    folder = out / "stage_0_only" / "checkpoints"
    for data in folder.glob("step-*.data*"):
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 0xFF
        data.write_bytes(content)
    with pytest.raises(TrainingError, match="None of the 3 checkpoints"):
        train(recipe, shards, out, console=QUIET)


def test_a_loss_that_is_not_finite_stops_with_its_step_before_it_is_saved(
    recipe_file, shards, tmp_path, monkeypatch
):
    from training.tasks.video import VideoTask

    losses = VideoTask.losses

    def sick(self, network, batch, progress):
        found = losses(self, network, batch, progress)
        bad = tf.where(progress > 3.5 / (STEPS - 1), np.nan, 1.0)
        return {**found, "loss": found["loss"] * bad}

    monkeypatch.setattr(VideoTask, "losses", sick)
    out = tmp_path / "run"
    with pytest.raises(TrainingError, match="The loss is nan in step 5"):
        train(recipe_file(log_every=100, save_every=1), shards, out, console=QUIET)
    saved = {p.stem for p in (out / "stage_0_only" / "checkpoints").glob("*.index")}
    assert saved == {"step-2", "step-3", "step-4"}


def test_a_full_disk_is_one_line_and_earlier_checkpoints_stay_intact(
    recipe_file, shards, tmp_path, uninterrupted, monkeypatch
):
    recipe, out = recipe_file(), tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(Stopped):
            train(recipe, shards, out, console=QUIET)
    # A limit on the size of files stands for a full disk: writes fail half-way.
    flags = ("--recipe", recipe, "--data", shards, "--out", out)
    limit = 60_000

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    status, _, error = run_program("training.train", *flags, preexec_fn=limited)
    lines = [line for line in error.splitlines() if line.startswith("train: ")]
    assert status == 1 and len(lines) == 1 and "Cannot write" in lines[0], error
    assert "Traceback" not in error
    weights = train(recipe, shards, out, console=QUIET)
    np.testing.assert_array_equal(weights, uninterrupted)


def test_checkpoints_of_another_network_are_one_clear_error(
    recipe_file, shards, tmp_path, monkeypatch
):
    import shutil

    out = tmp_path / "run"
    train(recipe_file(), shards, out, console=QUIET)
    other = tmp_path / "other"
    wider = recipe_file().read_text().replace("filters=8,", "filters=12,", 1)
    (tmp_path / "wider.py").write_text(wider)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            train(tmp_path / "wider.py", shards, other, console=QUIET)
    folder = other / "stage_0_only" / "checkpoints"
    shutil.rmtree(folder)
    shutil.copytree(out / "stage_0_only" / "checkpoints", folder)
    with pytest.raises(TrainingError, match="of another network or optimizer"):
        train(tmp_path / "wider.py", shards, other, console=QUIET)
