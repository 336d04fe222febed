"""Everything that training changes, and how it is saved.

`TrainState` holds the network, the optimizer, the averaged weights (EMA) and the number
of steps done. Nothing else is needed to continue exactly: samples depend on the step
alone.

Checkpoints are ``step-0000100.index`` and ``.data-...``, made by
`tf.train.CheckpointManager`. Loading tries them from the newest to the oldest: one that
was cut off half-way, by a full disk or a lost machine, is skipped with a line, and
training continues from the one before.
"""

import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_megan.files import sync_file, sync_folder
from training.engine.muon import Muon
from training.errors import TrainingError, saving
from training.stages.recipe import Recipe, Stage
from training.stages.sparsity import Masks

_PREFIX = "step"
OPTIMIZERS = {"adam": keras.optimizers.Adam, "muon": Muon}


def make_optimizer(
    recipe: Recipe, stage: Stage, steps_before: int = 0
) -> keras.optimizers.Optimizer:
    """The recipe's optimizer with a linear warm-up and a cosine decay over the stage.

    Args:
        recipe: Gives the constants.
        stage: Gives the learning rates.
        steps_before: Steps that the optimizer has done in the stages before, where it
            carries over.
    """
    schedule = StageSchedule(
        stage.learning_rate,
        stage.steps,
        min(stage.warmup_steps, stage.steps // 2),
        stage.final_learning_rate,
        steps_before,
    )
    if recipe.optimizer not in OPTIMIZERS:
        raise TrainingError(
            f"The recipe's optimizer must be one of {', '.join(OPTIMIZERS)}; received "
            f"{recipe.optimizer!r}."
        )
    optimizer = OPTIMIZERS[recipe.optimizer](
        learning_rate=schedule,
        beta_2=recipe.beta_2,
        weight_decay=recipe.weight_decay or None,
    )
    if recipe.mixed_precision:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


class StageSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """From zero linearly to the peak, then by a half cosine to the end.

    Args:
        peak: Learning rate after the warm-up.
        steps: Steps of the stage, warm-up included.
        warmup: Steps of the warm-up.
        end: Final learning rate as a share of the peak.
        offset: Value of the optimizer's counter as the stage begins.
    """

    def __init__(self, peak, steps, warmup=0, end=0.0, offset=0):
        self.peak, self.steps, self.warmup = float(peak), int(steps), int(warmup)
        self.end, self.offset = float(end), int(offset)

    def __call__(self, step):
        step = ops.maximum(ops.cast(step, "float32") - self.offset, 0.0)
        rise = (step + 1.0) / (self.warmup + 1.0)
        gone = (step - self.warmup) / max(1, self.steps - self.warmup)
        cosine = 0.5 + 0.5 * ops.cos(math.pi * ops.clip(gone, 0.0, 1.0))
        fall = self.end + (1.0 - self.end) * cosine
        return self.peak * ops.minimum(ops.minimum(rise, 1.0), fall)

    def get_config(self):
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup": self.warmup,
            "end": self.end,
            "offset": self.offset,
        }


class TrainState:
    """Network, optimizer, averaged weights, steps done.

    Make it inside ``strategy.scope()``.

    Args:
        model: The network, built.
        optimizer: Not built yet, or built for the network's variables.
        ema_decay: Decay of the averaged weights; in step n at most (1 + n) / (10 + n),
            so that the average forgets the initial weights.

    Attributes:
        averages: The averaged weights, one variable per trainable one.
        step: int64 variable, steps done.
        masks: The stage's `training.stages.sparsity.Masks`, or None.
    """

    masks: Masks | None = None

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        ema_decay: float,
    ):
        self.model, self.optimizer, self.ema_decay = model, optimizer, ema_decay
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        self.averages = [
            tf.Variable(
                variable.numpy(),
                trainable=False,
                dtype=variable.dtype,
                # The replicas' averages are equal: any of them will do.
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for variable in model.trainable_variables
        ]
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)

    def sparsify(self, stage: Stage) -> None:
        """Gives the state the masks a stage asks for, all ones; inside the scope."""
        if stage.sparsity is not None:
            self.masks = Masks(stage.sparsity, self.model, self.averages, stage.steps)

    def update_averages(self, step) -> None:
        """Moves the averages towards the weights; inside the training step."""
        count = tf.cast(step, tf.float32)
        decay = tf.minimum(self.ema_decay, (1.0 + count) / (10.0 + count))
        for average, variable in zip(
            self.averages, self.model.trainable_variables, strict=True
        ):
            value = tf.convert_to_tensor(variable.value)
            average.assign(average * decay + value * (1.0 - decay))

    def copy_averages(self, model: keras.Model) -> None:
        """Copies the averaged weights, and all others, into a network of the kind."""
        for target, source in zip(model.variables, self.model.variables, strict=True):
            target.assign(source.numpy())
        for target, average in zip(
            model.trainable_variables, self.averages, strict=True
        ):
            target.assign(average.numpy())


class Checkpoints:
    """The checkpoints of a folder.

    Args:
        folder: Made if it does not exist.
        state: What is saved.
        keep: How many are kept.
        chief: Whether this process writes; all processes read.
    """

    def __init__(self, folder: Path, state: TrainState, keep: int, chief: bool = True):
        self.folder, self.state, self.chief = Path(folder), state, chief
        parts = {
            "model": state.model,
            "optimizer": state.optimizer,
            "averages": state.averages,
            "step": state.step,
        }
        # A stage's checkpoint 0 is its network before anything was masked.
        self.first = tf.train.Checkpoint(**parts)
        if state.masks is not None:
            parts["masks"] = state.masks.variables
        self.checkpoint = tf.train.Checkpoint(**parts)
        with saving(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.keep = keep
        self.manager: tf.train.CheckpointManager | None = None

    @staticmethod
    def exist(folder: Path) -> bool:
        """Whether a folder holds any checkpoint."""
        return any(Path(folder).glob(f"{_PREFIX}-*.index"))

    def save(self) -> None:
        """Saves the state unless this step is saved already.

        Raises:
            TrainingError: If it cannot be written; earlier checkpoints are intact.
        """
        step = int(self.state.step.numpy())
        if not self.chief or step in self._steps():
            return
        with saving(self.folder):
            if self.manager is None:
                self.manager = tf.train.CheckpointManager(
                    self.checkpoint,
                    str(self.folder),
                    max_to_keep=self.keep,
                    checkpoint_name=_PREFIX,
                )
            try:
                path = self.manager.save(checkpoint_number=step)
            except Exception:
                # Half a checkpoint takes the room the next attempt needs.
                for file in self.folder.glob(f"{_PREFIX}-{step}.*"):
                    file.unlink(missing_ok=True)
                raise
            for file in self.folder.glob(f"{Path(path).name}.*"):
                sync_file(file)
            sync_folder(self.folder)

    def restore(self, report: Callable[[str], None]) -> int:
        """Loads the newest whole checkpoint; returns its step, 0 if there is none.

        Raises:
            TrainingError: If checkpoints exist, but none can be read, or they are of
                another architecture.
        """
        steps = sorted(self._steps(), reverse=True)
        for step in steps:
            path = self.folder / f"{_PREFIX}-{step}"
            problem = _damage(path)
            if problem:
                report(f"checkpoint '{path}' is damaged ({problem}); trying an older")
                continue
            self._load(path, self.checkpoint if step else self.first)
            return step
        if steps:
            raise TrainingError(
                f"None of the {len(steps)} checkpoints in '{self.folder}' can be read. "
                "Delete that folder to start over."
            )
        return 0

    def _load(self, path: Path, checkpoint: tf.train.Checkpoint) -> None:
        try:
            status = checkpoint.restore(str(path))
            status.assert_existing_objects_matched()
            status.assert_consumed()
        except (ValueError, AssertionError, tf.errors.OpError) as error:
            text = " ".join(str(error).split())[:160]
            raise TrainingError(
                f"The checkpoint '{path}' is of another network or optimizer: {text} "
                "Use the recipe it was made with or another --out."
            ) from error

    def _steps(self) -> set[int]:
        found = (file.stem for file in self.folder.glob(f"{_PREFIX}-*.index"))
        numbers = (stem.removeprefix(f"{_PREFIX}-") for stem in found)
        return {int(number) for number in numbers if number.isdigit()}


def _damage(path: Path) -> str:
    """What is wrong with a checkpoint's files, or "". Reads all, checksums included."""
    try:
        reader = tf.train.load_checkpoint(str(path))
        for name in reader.get_variable_to_shape_map():
            np.asarray(reader.get_tensor(name))
    except (tf.errors.OpError, ValueError, RuntimeError, LookupError, OSError) as error:
        return " ".join(str(error).split())[:120]
    return ""
