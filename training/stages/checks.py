"""Checks of a recipe before any training starts.

A stage that cannot begin should not be discovered after hours of earlier stages:

- fractions of the data must not shrink: subsets are nested, and training is cumulative;
- a step that says widen must not make anything narrower. Widths are compared with those
  of the network that will exist, by making all changes once to an untrained one;
- a stage whose weights are refreshed begins with a new optimizer: the moments of old
  weights mean nothing for new ones;
- teachers are networks of earlier stages;
- the layers that a stage trains must exist. What follows pruning by data cannot be
  known in advance and is checked when the stage begins.
"""

from keras_megan.net2net import Importance
from training.engine.step import learning_variables
from training.errors import TrainingError
from training.stages.recipe import Recipe


def check_recipe(recipe: Recipe) -> None:
    """Raises a `TrainingError`, one line, if a later stage could not begin."""
    check_fractions(recipe)
    check_growth(recipe)
    check_optimizers(recipe)
    check_teachers(recipe)
    check_networks(recipe)


def check_fractions(recipe: Recipe) -> None:
    """Fractions of the data grow from stage to stage, or stay."""
    pairs = zip(recipe.stages, recipe.stages[1:], strict=False)
    for before, stage in pairs:
        if stage.fraction < before.fraction:
            raise TrainingError(
                f"Stage '{stage.name}' of recipe '{recipe.name}' takes a fraction of "
                f"{stage.fraction:g} of the data after '{before.name}' with "
                f"{before.fraction:g}; cumulative training never takes data away. Give "
                "fractions that grow."
            )


def check_growth(recipe: Recipe) -> None:
    """Factors of steps that widen are above 1."""
    for stage in recipe.stages:
        for change in stage.changes:
            factor = change.options.get("factor")
            if change.policy == "widen" and factor is not None and not factor > 1:
                how = f"by a factor of {factor:g}, which is not above 1"
                raise _shrinks(stage, how)


def check_optimizers(recipe: Recipe) -> None:
    """No stage carries the optimizer's moments into refreshed weights."""
    for stage in recipe.stages:
        refreshed = any(change.policy == "refresh" for change in stage.changes)
        if refreshed and stage.carry_optimizer:
            raise TrainingError(
                f"Stage '{stage.name}' of recipe '{recipe.name}' refreshes the weights "
                "and carries the optimizer, whose moments are of the old ones. Give "
                "carry_optimizer=False."
            )


def check_teachers(recipe: Recipe) -> None:
    """The teachers of a stage are trained before it."""
    trained: list[str] = []
    for stage in recipe.stages:
        for name in stage.teaching.stages if stage.teaching else ():
            if name not in trained:
                raise TrainingError(
                    f"Stage '{stage.name}' of recipe '{recipe.name}' is taught by "
                    f"'{name}'; expected a stage before it: "
                    f"{', '.join(trained) or 'the first stage has none'}."
                )
        trained.append(stage.name)


def check_networks(recipe: Recipe) -> None:
    """Every stage's network can be made, and has the layers that are to learn."""
    changes = [change for stage in recipe.stages for change in stage.changes]
    widths = any(c.options.get("widths") for c in changes if c.policy == "widen")
    if not (widths or any(stage.layers for stage in recipe.stages)):
        return
    model = recipe.model()
    for stage in recipe.stages:
        for change in stage.changes:
            if change.importance is not None or isinstance(
                change.options.get("importance"), Importance
            ):
                return
            try:
                model = change.apply(model, _no_data).model
            except TrainingError as error:
                raise TrainingError(
                    f"Stage '{stage.name}' of recipe '{recipe.name}' cannot begin: "
                    f"{error}"
                ) from error
        learning_variables(model, stage)


def _shrinks(stage, how: str) -> TrainingError:
    return TrainingError(
        f"Stage '{stage.name}' says widen, but {how}. Use prune to make a network "
        "narrower."
    )


def _no_data():
    raise TrainingError("This change looks at data, which is not loaded yet.")
