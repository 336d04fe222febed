"""Cumulative training: a small network on a little data first, then grown onto more.

The driver runs a recipe's stages one after another, for any Keras model and any task:

    stage 0   build the network                      train on fraction f0
    stage i   the kept network of stage i-1,
              grown exactly or pruned (net2net)      train on fraction fi, f(i-1) inside

In the run's folder: ``config.json`` (the recipe and where it ran), one folder per stage
with its logs and kept networks (see `training.engine.loop`; ``start.keras`` is the
network the stage began with), ``stages.json`` with what every stage cost and scored,
and ``curve.png``, score against multiply-adds of all training so far.

A stage begins with the averaged weights of the one before. Interrupted, a run goes on
within the stage; finished stages are never done again.
"""

from pathlib import Path

import keras
import tensorflow as tf

from keras_megan import net2net
from training.curves import draw_curves
from training.engine.loop import StageRun, StopRequest, run_stage
from training.engine.networks import in_precision, load_model, save_model
from training.engine.state import Checkpoints, TrainState, make_optimizer
from training.engine.strategies import barrier, worker_place
from training.runs.folder import begin_run, sum_up
from training.stages.checks import check_recipe
from training.stages.compute import training_macs
from training.stages.recipe import Recipe
from training.stages.teaching import TaughtTask


def run_recipe(
    recipe: Recipe,
    data: str,
    out: Path,
    strategy: tf.distribute.Strategy,
    validation: str | None = None,
    console=None,
) -> keras.Model:
    """Trains all stages; goes on where a run in ``out`` stopped.

    Args:
        recipe: What to do.
        data: What the task opens.
        out: The run's folder.
        strategy: Where steps are computed.
        validation: What the task scores on, or None.
        console: The terminal.

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
    opened = recipe.task.open(data, report)
    validator = recipe.task.validator(validation) if validation and chief else None
    driver = _Driver(recipe, opened, out, strategy, validator, chief, report)
    with StopRequest() as stop:
        for number in range(len(recipe.stages)):
            driver.run(number, stop, console)
    return load_model(driver.folder(len(recipe.stages) - 1) / "last.keras")


def _silent(*_args, **_options) -> None:
    """What other workers than the chief say."""


class _Driver:
    """Runs stages; keeps the state of the one before for its optimizer."""

    def __init__(self, recipe, opened, out, strategy, validator, chief, report):
        self.recipe, self.opened, self.out = recipe, opened, out
        self.strategy, self.validator = strategy, validator
        self.chief, self.report = chief, report
        self.macs = 0.0
        self.before: TrainState | None = None

    def folder(self, number: int) -> Path:
        """Of a stage."""
        return self.out / f"stage_{number}_{self.recipe.stages[number].name}"

    def run(self, number: int, stop: StopRequest, console) -> None:
        """Trains one stage, or what is left of it."""
        recipe, stage = self.recipe, self.recipe.stages[number]
        folder = self.folder(number)
        task = recipe.task_of(stage)
        sample = task.sampler(self.opened, recipe.seed, stage.fraction)
        if self.chief and not Checkpoints.exist(folder / "checkpoints"):
            self._begin(number, sample)
        barrier(self.strategy)
        with self.strategy.scope():
            state = self._state(load_model(folder / "start.keras"), number)
            teachers = self._teachers(stage)
        kept = load_model(folder / "start.keras")
        run = StageRun(
            recipe=recipe,
            stage=stage,
            task=TaughtTask(task, stage.teaching, teachers) if teachers else task,
            folder=folder,
            sample=sample,
            validator=self.validator,
            strategy=self.strategy,
            kept=kept,
            macs_before=self.macs,
            macs_per_sample=training_macs(
                task.with_auxiliary(kept), task.sample_shape()
            ),
            teacher_macs_per_sample=sum(
                float(net2net.count_macs(teacher, task.sample_shape()))
                for teacher in teachers
            ),
        )
        run_stage(run, state, stop, console)
        self.macs, self.before = run.macs(stage.steps), state
        if self.chief:
            sum_up(recipe, self.out, number, run)
            draw_curves({recipe.name: self.out}, self.out / "curve.png")
        barrier(self.strategy)

    def _optimizer(self, number: int) -> keras.optimizers.Optimizer:
        """A stage's optimizer; its schedule begins where its counter will stand."""
        stages, steps, first = self.recipe.stages, 0, number
        while first > 0 and stages[first].carry_optimizer:
            first -= 1
            steps += stages[first].steps
        return make_optimizer(self.recipe, stages[number], steps)

    def _state(self, model: keras.Model, number: int) -> TrainState:
        if self.recipe.mixed_precision:
            model = in_precision(model, "mixed_float16")
        return TrainState(model, self._optimizer(number), self.recipe.ema_decay)

    def _teachers(self, stage) -> list[keras.Model]:
        """The kept networks of the stages that teach this one."""
        if stage.teaching is None:
            return []
        numbers = {s.name: number for number, s in enumerate(self.recipe.stages)}
        folders = (self.folder(numbers[name]) for name in stage.teaching.stages)
        return [load_model(folder / "last.keras") for folder in folders]

    def _begin(self, number: int, sample) -> None:
        """Makes the stage's first network and optimizer, as checkpoint 0."""
        recipe, stage = self.recipe, self.recipe.stages[number]
        folder, optimizer = self.folder(number), None
        if number == 0:
            keras.utils.set_random_seed(recipe.seed)
            model = recipe.model()
        else:
            model = load_model(self.folder(number - 1) / "last.keras")
        if stage.carry_optimizer and self.before is not None:
            optimizer = self._copy(self.before.optimizer, model, number)
        for change in stage.changes:
            self.report(f"stage {stage.name}: {change.describe()}")
            plan = change.plan(model, lambda: recipe.task_of(stage).inputs(sample))
            model = plan.apply(noise=change.noise, seed=recipe.seed)
            if optimizer is not None:
                grown = self._optimizer(number)
                optimizer = net2net.transfer_optimizer(optimizer, grown, plan, model)
        save_model(model, folder / "start.keras")
        state = self._state(model, number)
        if optimizer is not None:
            _copy_values(optimizer, state.optimizer)
        Checkpoints(folder / "checkpoints", state, recipe.keep).save()

    def _copy(self, optimizer, model: keras.Model, number: int):
        """The same optimizer for the kept network's variables."""
        twin = self._optimizer(number)
        twin.build(model.trainable_variables)
        _copy_values(optimizer, twin)
        return twin


def _copy_values(source, target) -> None:
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(old.numpy())
