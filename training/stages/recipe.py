"""Recipes: what is trained, on what, in which stages. A recipe is a Python file.

    from training.stages.recipe import Recipe, Stage
    RECIPE = Recipe(name="...", task=..., model=build, stages=(Stage(...), ...))

One stage is ordinary training. Several are cumulative training: each stage may take
more of the data, make the network of the stage before wider or deeper without changing
what it computes, or prune it. The whole recipe is data (frozen dataclasses), so a run's
folder can say exactly what it holds.
"""

import dataclasses
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from training.errors import TrainingError
from training.tasks.task import Task

if TYPE_CHECKING:  # these import `Stage` or load TensorFlow
    from training.stages.changes import Change
    from training.stages.sparsity import Sparsity
    from training.stages.teaching import Teaching


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stretch of training.

    Attributes:
        name: Name in folders and figures.
        steps: Optimizer steps.
        learning_rate: Learning rate at the peak, after the warm-up.
        fraction: Share of the data; shares are nested.
        changes: What is done to the network first: steps of growth and pruning from
            `training.stages.changes`, in order.
        carry_optimizer: Whether the optimizer's moments go through those changes;
            otherwise it starts again.
        warmup_steps: Steps in which the learning rate rises linearly from zero.
        final_learning_rate: Learning rate at the end of the cosine, as a share of the
            peak.
        task: The task that draws samples and computes losses in this stage instead of
            the recipe's, for example on larger crops; data and scores stay the
            recipe's.
        sparsity: A `training.stages.sparsity.Sparsity`: weights that become zero in
            this stage and stay zero. None: the network stays dense.
        teaching: A `training.stages.teaching.Teaching`: networks of earlier stages
            whose judgement this one also learns. None: there are no teachers.
        layers: Names of the network's layers that learn in this stage while all others
            stay as they are. Empty: all layers learn.
    """

    name: str
    steps: int
    learning_rate: float
    fraction: float = 1.0
    changes: tuple["Change", ...] = ()
    carry_optimizer: bool = False
    warmup_steps: int = 100
    final_learning_rate: float = 0.01
    task: Task | None = None
    sparsity: "Sparsity | None" = None
    teaching: "Teaching | None" = None
    layers: tuple[str, ...] = ()

    def __post_init__(self):
        if self.steps < 1 or not self.learning_rate > 0 or not 0 < self.fraction <= 1:
            raise TrainingError(
                f"Stage '{self.name}' expects steps >= 1, learning_rate > 0 and 0 < "
                f"fraction <= 1; received {self.steps}, {self.learning_rate} and "
                f"{self.fraction}."
            )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run learns.

    Attributes:
        name: Name of the recipe.
        task: Data, losses and scores; a `training.tasks.task.Task`.
        model: Function without arguments that builds the first stage's network.
        stages: The stages, in order.
        batch_size: Samples of one step, on all devices together.
        seed: Seed of initial weights, samples and subsets.
        optimizer: "adam", or "muon"; see `training.engine.muon`.
        beta_2: Adam's second decay rate.
        weight_decay: Weight decay of AdamW; 0: Adam.
        ema_decay: Decay of the averaged weights, which are scored and kept.
        clip_norm: Gradients are scaled down to this global norm; None: never.
        mixed_precision: Compute in float16 with loss scaling.
        cpu_bfloat16: Convolve in bfloat16 on CPUs that can; see
        `training.engine.precision`.
        xla: "auto": on a GPU without a strategy; "on"; "off".
        log_every, validate_every, save_every: Numbers of steps.
        keep: Number of checkpoints kept.
        expected: The result this recipe is expected to reach, for its readers.
    """

    name: str
    task: Task
    model: Callable[[], keras.Model]
    stages: tuple[Stage, ...]
    batch_size: int = 8
    seed: int = 0
    optimizer: str = "adam"
    beta_2: float = 0.99
    weight_decay: float = 0.0
    ema_decay: float = 0.999
    clip_norm: float | None = 1.0
    mixed_precision: bool = False
    cpu_bfloat16: bool = False
    xla: str = "auto"
    log_every: int = 20
    validate_every: int = 500
    save_every: int = 100
    keep: int = 3
    expected: str = ""

    def __post_init__(self):
        if not self.stages:
            raise TrainingError(f"Recipe '{self.name}' has no stages.")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise TrainingError(
                f"The stages of recipe '{self.name}' need different names; received "
                f"{', '.join(names)}."
            )
        counts = ("batch_size", "log_every", "validate_every", "save_every", "keep")
        for name in counts:
            if getattr(self, name) < 1:
                raise TrainingError(
                    f"{name} must be >= 1; received {getattr(self, name)}."
                )

    def task_of(self, stage: Stage) -> Task:
        """Returns what draws a stage's samples and computes its losses."""
        return stage.task or self.task

    def document(self) -> dict:
        """Returns the recipe as JSON data, with functions by name."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=_by_name))

    def with_steps(self, steps: int) -> "Recipe":
        """Returns the same recipe with ``steps`` steps altogether.

        Stages change in proportion. Their warm-ups become shorter, but keep a tenth of
        the stage: at the full rate the first steps of Adam can ruin a network.
        """
        share = steps / sum(stage.steps for stage in self.stages)

        def changed(stage):
            count = max(1, round(stage.steps * share))
            warmup = max(round(stage.warmup_steps * share), round(0.1 * count))
            warmup = min(stage.warmup_steps, warmup)
            return dataclasses.replace(stage, steps=count, warmup_steps=warmup)

        stages = tuple(changed(stage) for stage in self.stages)
        return dataclasses.replace(self, stages=stages)


#: Settings that do not change what is learned and may differ when a run continues.
HARMLESS = ("log_every", "validate_every", "save_every", "keep", "expected", "xla")


def _by_name(value):
    return getattr(value, "__qualname__", None) or repr(value)


def load_recipe(path: str | Path) -> Recipe:
    """Runs a recipe file and returns its recipe.

    A recipe is a program: run only files you trust.

    Args:
        path: A Python file that defines ``RECIPE``; or ``FILE:NAME`` for one that
            defines ``RECIPES``, a dict of several.

    Raises:
        TrainingError: If the file cannot be run or does not define such a recipe.
    """
    file, _, name = str(path).rpartition(":") if ":" in str(path) else (path, "", "")
    if not Path(file).is_file():
        raise TrainingError(
            f"The recipe '{file}' does not exist; expected a Python file."
        )
    try:
        defined = runpy.run_path(str(file))
    except TrainingError:
        raise
    except Exception as error:
        raise TrainingError(
            f"The recipe '{file}' failed: {type(error).__name__}: {error}"
        ) from error
    several = defined.get("RECIPES")
    if name or (several and "RECIPE" not in defined):
        if not several or name not in several:
            raise TrainingError(
                f"Expected '{file}:NAME' with NAME one of "
                f"{', '.join(several or ['(it defines no RECIPES)'])}; received "
                f"'{path}'."
            )
        recipe = several[name]
    else:
        recipe = defined.get("RECIPE")
    if not isinstance(recipe, Recipe):
        raise TrainingError(
            f"The recipe '{path}' must define RECIPE, a training.stages.recipe.Recipe; "
            f"received {type(recipe).__name__}."
        )
    return recipe
