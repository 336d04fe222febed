"""Cumulative training: a small network on a little data first, then grown onto more.

The stages of a recipe run one after another, for any Keras model and any task:

    stage 0   build the network                      train on fraction f0
    stage i   the kept network of stage i-1,
              grown exactly or pruned (`growing`)    train on fraction fi, f(i-1) inside

In the run's folder: ``config.json`` (the recipe and where it ran), one folder per stage
with its logs and kept networks (see `training.engine.loop`; ``start.keras`` is the
network the stage began with), ``stages.json`` with what every stage cost and scored,
and ``curve.png``, score against multiply-adds of all training so far.

A stage begins with the averaged weights of the one before. An interrupted run continues
within the stage; finished stages are never repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from rich.console import Console

from keras_megan import net2net
from training.curves import draw_curves
from training.engine.loop import StageRun, StopRequest, run_stage
from training.engine.networks import in_precision, load_model, save_model
from training.engine.state import Checkpoints, TrainState
from training.engine.strategies import barrier, worker_place
from training.runs.folder import begin_run, sum_up
from training.stages.checks import check_recipe
from training.stages.compute import training_macs
from training.stages.growing import (
    copy_values,
    first_start,
    next_start,
    stage_optimizer,
)
from training.stages.recipe import Recipe, Stage
from training.stages.teaching import TaughtTask
from training.tasks.task import Sampler, Validator


def run_recipe(
    recipe: Recipe,
    data: str,
    out: Path,
    strategy: tf.distribute.Strategy,
    validation: str | None = None,
    console: Console | None = None,
) -> keras.Model:
    """Trains all stages; continues where a run in ``out`` stopped.

    Args:
        recipe: What to do.
        data: What the task opens.
        out: The run's folder.
        strategy: Where steps are computed.
        validation: What the task scores on, or None.
        console: The terminal, or None.

    Returns:
        The last stage's network with averaged weights.

    Raises:
        Stopped: After SIGTERM or Ctrl-C, saved.
        TrainingError: One line that says what is wrong.
    """
    check_recipe(recipe)
    chief = worker_place(strategy)[0] == 0
    console = console if chief else None
    report = console.print if console is not None else _silent
    if chief:
        begin_run(recipe, out)
    run = Run(
        recipe=recipe,
        data=recipe.task.open(data, report),
        out=out,
        strategy=strategy,
        validator=recipe.task.validator(validation) if validation and chief else None,
        chief=chief,
        console=console,
        report=report,
    )
    before = Trained(macs=0.0, optimizer=None)
    with StopRequest() as stop:
        for number in range(len(recipe.stages)):
            before = _train_stage(run, number, before, stop)
    return load_model(run.folder(len(recipe.stages) - 1) / "last.keras")


def _silent(*_args, **_options) -> None:
    """What workers other than the chief print: nothing."""


@dataclass(frozen=True)
class Run:
    """What all stages of a run share.

    Attributes:
        recipe: What to do.
        data: The training data, as the task opened it.
        out: The run's folder.
        strategy: Where steps are computed.
        validator: Scores networks; None: they are not scored.
        chief: Whether this worker writes files.
        console: The chief's terminal, or None.
        report: Prints a line on it.
    """

    recipe: Recipe
    data: Any
    out: Path
    strategy: tf.distribute.Strategy
    validator: Validator | None
    chief: bool
    console: Console | None
    report: Callable[..., None]

    def folder(self, number: int) -> Path:
        """Returns a stage's folder."""
        return self.out / f"stage_{number}_{self.recipe.stages[number].name}"

    def teachers(self, stage: Stage) -> list[keras.Model]:
        """Loads the kept networks of the stages that teach this one."""
        if stage.teaching is None:
            return []
        numbers = {s.name: number for number, s in enumerate(self.recipe.stages)}
        folders = (self.folder(numbers[name]) for name in stage.teaching.stages)
        return [load_model(folder / "last.keras") for folder in folders]

    def new_state(self, number: int, model: keras.Model) -> TrainState:
        """Makes a stage's state around a network, with a fresh optimizer."""
        if self.recipe.mixed_precision:
            model = in_precision(model, "mixed_float16")
        optimizer = stage_optimizer(self.recipe, number)
        return TrainState(model, optimizer, self.recipe.ema_decay)


class Trained(NamedTuple):
    """What a finished stage hands to the next one.

    Attributes:
        macs: Multiply-adds of all training so far.
        optimizer: The stage's optimizer, or None before the first stage.
    """

    macs: float
    optimizer: keras.optimizers.Optimizer | None


def _train_stage(run: Run, number: int, before: Trained, stop: StopRequest) -> Trained:
    """Trains one stage, or what is left of it."""
    recipe, stage, folder = run.recipe, run.recipe.stages[number], run.folder(number)
    task = recipe.task_of(stage)
    sample = task.sampler(run.data, recipe.seed, stage.fraction)
    if run.chief and not Checkpoints.exist(folder / "checkpoints"):
        _begin_stage(run, number, before.optimizer, sample)
    barrier(run.strategy)
    with run.strategy.scope():
        state = run.new_state(number, load_model(folder / "start.keras"))
        teachers = run.teachers(stage)
    kept = load_model(folder / "start.keras")
    shape = task.sample_shape()
    stage_run = StageRun(
        recipe=recipe,
        stage=stage,
        task=TaughtTask(task, stage.teaching, teachers) if stage.teaching else task,
        folder=folder,
        sample=sample,
        validator=run.validator,
        strategy=run.strategy,
        kept=kept,
        macs_before=before.macs,
        macs_per_sample=training_macs(task.with_auxiliary(kept), shape),
        teacher_macs_per_sample=sum(
            float(net2net.count_macs(teacher, shape)) for teacher in teachers
        ),
    )
    run_stage(stage_run, state, stop, run.console)
    if run.chief:
        sum_up(recipe, run.out, number, stage_run)
        draw_curves({recipe.name: run.out}, run.out / "curve.png")
    barrier(run.strategy)
    return Trained(stage_run.macs(stage.steps), state.optimizer)


def _begin_stage(
    run: Run,
    number: int,
    optimizer: keras.optimizers.Optimizer | None,
    sample: Sampler,
) -> None:
    """Writes the network a stage begins with, and checkpoint 0."""
    recipe, folder = run.recipe, run.folder(number)
    task = recipe.task_of(recipe.stages[number])
    if number == 0:
        model, optimizer = first_start(recipe)
    else:
        model = load_model(run.folder(number - 1) / "last.keras")
    model, optimizer = next_start(
        recipe, number, model, optimizer, lambda: task.inputs(sample), run.report
    )
    save_model(model, folder / "start.keras")
    state = run.new_state(number, model)
    if optimizer is not None:
        copy_values(optimizer, state.optimizer)
    Checkpoints(folder / "checkpoints", state, recipe.keep).save()
