"""The same weights on one device, on two replicas, and in two processes."""

import json
import re
import signal
import socket
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.training.conftest import program, run_program
from training.errors import STOPPED
from training.runs.logs import read_csv

pytestmark = pytest.mark.slow

STEPS = 5


def checkpoint_values(folder, step):
    """Everything in a checkpoint: name -> array."""
    reader = tf.train.load_checkpoint(str(folder / f"step-{step}"))
    values = {
        name: np.asarray(reader.get_tensor(name))
        for name in reader.get_variable_to_shape_map()
        if "OBJECT_GRAPH" not in name and "save_counter" not in name
    }
    assert len(values) > 12
    return values


@pytest.fixture
def flags(recipe_file, shards, tmp_path):
    """Flags of a run of five steps into a named folder."""

    def make(name, strategy, **more):
        path = recipe_file(save_every=1, keep=50, **more)
        return [
            *("--recipe", path, "--data", shards, "--out", tmp_path / name),
            *("--strategy", strategy, "--threads", 1, "--steps", STEPS),
        ]

    return make


def test_two_replicas_give_the_weights_of_one(flags, tmp_path):
    for name, strategy, more in (
        ("one", "none", ()),
        ("two", "mirrored", ("--logical_cpus", 2)),
    ):
        status, _, error = run_program("training.train", *flags(name, strategy), *more)
        assert status == 0, error
    folders = [tmp_path / n / "stage_0_only" / "checkpoints" for n in ("one", "two")]
    one, two = (checkpoint_values(folder, STEPS) for folder in folders)
    start = checkpoint_values(folders[0], 0)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=0, atol=1e-6, err_msg=name)
    weights = [name for name in one if name.startswith("averages")]
    moved = [np.abs(one[name] - start[name]).max() for name in weights]
    assert max(moved) > 1e-4  # training did take place


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def start_workers(flags, paths):
    hosts = [f"127.0.0.1:{port}" for port in free_ports(len(paths))]
    workers = []
    for index, path in enumerate(paths):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": hosts}, "task": task})
        environment = {"TF_CONFIG": config}
        workers.append(
            program("tests.training.worker", path, *flags, environment=environment)
        )
    return workers


def finish(workers):
    for worker in workers:
        _, error = worker.communicate(timeout=300)
        assert worker.returncode == 0, error


def test_two_processes_agree_and_survive_a_kill(flags, tmp_path):
    paths = [tmp_path / "weights0.npy", tmp_path / "weights1.npy"]
    finish(start_workers(flags("whole", "multi_worker"), paths))
    whole = [np.load(path) for path in paths]
    np.testing.assert_array_equal(whole[0], whole[1])

    # One is killed on the way. The other cannot go on alone: it says so, or is stopped.
    for path in paths:
        path.unlink()
    workers = start_workers(flags("killed", "multi_worker"), paths)
    checkpoints = tmp_path / "killed" / "stage_0_only" / "checkpoints"
    deadline = time.monotonic() + 200
    while not (checkpoints / "step-2.index").exists():
        assert time.monotonic() < deadline and workers[0].poll() is None
        time.sleep(0.05)
    workers[1].send_signal(signal.SIGKILL)
    workers[1].communicate()
    try:
        _, error = workers[0].communicate(timeout=60)
        assert workers[0].returncode != 0
        assert re.search("Another worker was lost", error), error
    finally:
        workers[0].kill()
        workers[0].communicate()
    finish(start_workers(flags("killed", "multi_worker"), paths))
    for path in paths:
        np.testing.assert_array_equal(np.load(path), whole[0])


def test_sigterm_to_one_worker_stops_both_at_the_same_step_saved(
    recipe_file, shards, tmp_path
):
    # So many steps and so rarely saved that only the signal can end and save this run.
    recipe = recipe_file(save_every=10**9, validate_every=10**9, log_every=2)
    paths = [tmp_path / "weights0.npy", tmp_path / "weights1.npy"]
    workers = start_workers(
        [
            *("--recipe", recipe, "--data", shards, "--out", tmp_path / "run"),
            *("--strategy", "multi_worker", "--threads", 1, "--steps", 10**7),
        ],
        paths,
    )
    stage = tmp_path / "run" / "stage_0_only"
    try:
        deadline = time.monotonic() + 200
        while not (stage / "log.csv").exists() or len(read_csv(stage / "log.csv")) < 2:
            assert time.monotonic() < deadline
            assert [worker.poll() for worker in workers] == [None, None]
            time.sleep(0.05)
        workers[1].send_signal(signal.SIGTERM)
        ends = [worker.communicate(timeout=120) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert [worker.returncode for worker in workers] == [STOPPED, STOPPED], ends
    steps = [int(re.search(r"saved step (\d+)", out)[1]) for out, _ in ends]
    assert steps[0] == steps[1] and 4 <= steps[0] < 10**7
    weights = [np.load(path) for path in paths]
    np.testing.assert_array_equal(weights[0], weights[1])
    found = {path.stem for path in (stage / "checkpoints").glob("step-*.index")}
    assert found == {"step-0", f"step-{steps[0]}"}
    saved = checkpoint_values(stage / "checkpoints", steps[0])
    place = "optimizer/_trainable_variables"
    kept = [value for name, value in sorted(saved.items()) if name.startswith(place)]
    np.testing.assert_array_equal(np.concatenate([v.ravel() for v in kept]), weights[0])
    assert {int(v) for n, v in saved.items() if n.startswith("step/")} == {steps[0]}
