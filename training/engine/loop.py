"""The training loop: the same for one device, several devices and several machines.

A stage of a recipe goes in with its network; the network with averaged weights comes
out, and in the stage's folder

    checkpoints/     what it takes to continue exactly
    log.csv, validation.csv, tensorboard/
    best.keras       the averaged weights with the best score; in a sparse stage, of
                     those that are as sparse as they will be
    last.keras       the averaged weights after the last step

Starting a stage again continues from its newest whole checkpoint. A stage stopped by
SIGTERM or Ctrl-C is saved first. Losses that are not finite stop the run before they
can reach a checkpoint. Losses are read one step late, so that the device never waits
for Python.
"""

import signal
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from training.data.pipeline import BatchShape, make_dataset
from training.engine.networks import save_model
from training.engine.precision import bfloat16_convolutions
from training.engine.state import Checkpoints, TrainState
from training.engine.step import make_step
from training.engine.strategies import worker_place
from training.errors import TrainingError
from training.runs.logs import RunLogs, read_csv
from training.stages.recipe import Recipe, Stage
from training.tasks.task import Lesson, Sampler, Validator


class Stopped(Exception):  # noqa: N818  not an error
    """Training was asked to stop and has saved its state."""


class StopRequest:
    """Remembers SIGTERM and Ctrl-C until the step is done; a context manager."""

    signals = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.requested = False

    def __enter__(self):
        self._before = {s: signal.signal(s, self._remember) for s in self.signals}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, *_):
        self.requested = True


@dataclass(frozen=True)
class StageRun:
    """What a stage runs with.

    Attributes:
        recipe, stage: What to do.
        task: Computes the losses: the stage's task, or that with its teachers.
        folder: Folder of the stage.
        sample: Sample number -> sample.
        validator: Scores a network, or None.
        strategy: Where steps are computed.
        kept: A float32 network of the same shape, for the averaged weights.
        macs_before: Multiply-adds of the training before this stage.
        macs_per_sample: Multiply-adds of training on one sample: forward and backward.
        teacher_macs_per_sample: Multiply-adds of its teachers' forward passes.
    """

    recipe: Recipe
    stage: Stage
    task: Lesson
    folder: Path
    sample: Sampler
    validator: Validator | None
    strategy: tf.distribute.Strategy
    kept: keras.Model
    macs_before: float
    macs_per_sample: float
    teacher_macs_per_sample: float = 0.0

    def macs(self, step: int) -> float:
        """Multiply-adds of all training up to this stage's step."""
        each = self.macs_per_sample + self.teacher_macs_per_sample
        return self.macs_before + step * self.recipe.batch_size * each


def run_stage(
    run: StageRun, state: TrainState, stop: StopRequest, console: Console | None
) -> None:
    """Trains ``state`` to the end of the stage.

    Args:
        run: What to do and where.
        state: Network and optimizer as the stage begins; changed in place.
        stop: Checked after every step.
        console: The terminal of the chief, None elsewhere.

    Raises:
        Stopped: After a signal; the state is saved.
        TrainingError: If a loss is not finite, a file cannot be written, a checkpoint
            does not fit, or another worker is lost.
    """
    worker, workers = worker_place(run.strategy)
    replicas = run.strategy.num_replicas_in_sync
    recipe, last = run.recipe, run.stage.steps
    if recipe.batch_size % replicas:
        raise TrainingError(
            f"The batch of {recipe.batch_size} cannot be divided among {replicas} "
            "replicas; use a multiple."
        )
    with run.strategy.scope():
        state.sparsify(run.stage)
    checkpoints = Checkpoints(
        run.folder / "checkpoints", state, recipe.keep, chief=worker == 0
    )
    report = console.print if console is not None else (lambda text: None)
    first = checkpoints.restore(report)
    logs = RunLogs(run.folder, run.stage.name, first, last, recipe.batch_size, console)
    try:
        shape = BatchShape(recipe.batch_size, replicas, workers)
        batches = iter(
            run.strategy.distribute_datasets_from_function(
                lambda _: make_dataset(run.sample, shape, first, last, worker)
            )
        )
        step_function = make_step(run.strategy, state, run.task, recipe, run.stage)
        keeper = _BestKeeper(run, state, logs, first) if worker == 0 else None
        losses = _Losses(logs, state, recipe.log_every)
        if first == 0 and keeper is not None and run.validator is not None:
            keeper.validate(0)  # what growing or pruning the network did
        for step in range(first + 1, last + 1):
            flag = tf.constant(float(stop.requested))
            number = tf.constant(step - 1, tf.int64)
            with bfloat16_convolutions(recipe.cpu_bfloat16):
                results = step_function(next(batches), number, flag)
            state.step.assign(step)
            losses.add(step, results)
            stopping = workers == 1 and stop.requested
            if step % recipe.log_every == 0 or step == last:
                stopping = losses.settle() or stopping
            validating = step % recipe.validate_every == 0 or step == last
            if step % recipe.save_every == 0 or validating or stopping:
                stopping = losses.settle() or stopping
                # Scored before it is saved: killed in between, the run scores again.
                if validating and keeper is not None:
                    keeper.validate(step)
                checkpoints.save()
            logs.advance(step)
            if stopping and step < last:
                raise Stopped(f"saved step {step} of '{run.stage.name}'")
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        raise TrainingError(
            "Another worker was lost. Start the same command again on all workers; "
            f"training goes on from the last checkpoint. ({error.message[:120]})"
        ) from error
    finally:
        logs.close()


class _Losses:
    """Collects the steps' results, checks them, and logs their means."""

    def __init__(self, logs: RunLogs, state: TrainState, log_every: int):
        self.logs, self.state, self.log_every = logs, state, log_every
        self.waiting: list[tuple[int, dict]] = []
        self.seen: list[dict[str, float]] = []
        self.stop = False

    def add(self, step: int, results: dict) -> None:
        """Takes the results of a step that may still be running; reads older ones."""
        self.waiting.append((step, results))
        while len(self.waiting) > 1:
            self._read(*self.waiting.pop(0))

    def settle(self) -> bool:
        """Reads what is left; whether any worker asked to stop."""
        while self.waiting:
            self._read(*self.waiting.pop(0))
        return self.stop

    def _read(self, step: int, results: dict) -> None:
        values = {name: float(value) for name, value in results.items()}
        self.stop = values.pop("stop") > 0 or self.stop
        if not np.isfinite(values["loss"]):
            raise TrainingError(
                f"The loss is {values['loss']} in step {step}; stopped before it could "
                "be saved. Use a lower learning rate, a longer warm-up or a smaller "
                "clip_norm, and start again: the last checkpoint is intact."
            )
        self.seen.append(values)
        if step % self.log_every == 0:
            means = {k: float(np.mean([v[k] for v in self.seen])) for k in values}
            rate = float(self.state.optimizer.learning_rate)
            self.logs.training(step, {**means, "learning_rate": rate})
            self.seen = []


class _BestKeeper:
    """Scores the averaged weights and keeps the best."""

    def __init__(self, run: StageRun, state: TrainState, logs: RunLogs, step: int):
        self.run, self.state, self.logs = run, state, logs
        self.model = run.kept
        name = run.recipe.task.score_name
        # While weights are still being driven to zero, better means less sparse.
        sparsity = run.stage.sparsity
        self.first = sparsity.turns(run.stage.steps)[1] if sparsity else 0
        scores = read_csv(run.folder / "validation.csv")
        counting = [row for row in scores if int(row["step"]) >= self.first]
        self.best = max((float(row[name]) for row in counting), default=-np.inf)

    def validate(self, step: int) -> None:
        run = self.run
        self.state.copy_averages(self.model)
        if run.validator is not None:
            scores = run.validator(self.model)
            self.logs.validation(step, scores, run.macs(step))
            self.logs.strips(step, run.validator.strips(self.model))
            score = scores[run.recipe.task.score_name]
        else:
            score = float(step)  # nothing to go by: the latest
        first = not (run.folder / "best.keras").exists()
        if step >= self.first and (score > self.best or first):
            self.best = max(self.best, score)
            save_model(self.model, run.folder / "best.keras")
        if step == run.stage.steps:
            save_model(self.model, run.folder / "last.keras")
