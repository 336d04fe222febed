"""How a stage begins: with the previous network, changed, and an optimizer to match.

    stage 0   the recipe's own network
    stage i   the kept network of stage i-1, grown exactly or pruned (net2net)

Where the stage asks for it, the optimizer's state follows the network through every
change, so that training continues without a jump.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_megan import net2net
from training.engine.state import make_optimizer
from training.stages.recipe import Recipe


class Start(NamedTuple):
    """What a stage begins with.

    Attributes:
        model: The network.
        optimizer: A built optimizer whose state is to be used, or None for a new one.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer | None


def first_start(recipe: Recipe) -> Start:
    """Builds the network of a recipe's first stage from the recipe's seed."""
    keras.utils.set_random_seed(recipe.seed)
    return Start(recipe.model(), None)


def next_start(
    recipe: Recipe,
    number: int,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer | None,
    inputs: Callable[[], Any],
    report: Callable[[str], None],
) -> Start:
    """Carries out a stage's changes.

    Args:
        recipe: The recipe.
        number: Number of the stage.
        model: The network that the stage takes over.
        optimizer: The optimizer of the stage before, or None.
        inputs: Returns a batch of network inputs, for pruning that looks at data.
        report: Takes a line about every change.

    Raises:
        TrainingError: If the network cannot be changed like this.
    """
    stage, carried = recipe.stages[number], None
    if stage.carry_optimizer and optimizer is not None:
        carried = stage_optimizer(recipe, number)
        carried.build(model.trainable_variables)
        copy_values(optimizer, carried)
    for change in stage.changes:
        report(f"stage {stage.name}: {change.describe()}")
        model, plan = change.apply(model, inputs, recipe.seed)
        if carried is not None and plan is not None:
            grown = stage_optimizer(recipe, number)
            carried = net2net.transfer_optimizer(carried, grown, plan, model)
    return Start(model, carried)


def stage_optimizer(recipe: Recipe, number: int) -> keras.optimizers.Optimizer:
    """Makes a stage's optimizer; its schedule begins where its counter will stand."""
    stages, steps, first = recipe.stages, 0, number
    while first > 0 and stages[first].carry_optimizer:
        first -= 1
        steps += stages[first].steps
    return make_optimizer(recipe, stages[number], steps)


def copy_values(
    source: keras.optimizers.Optimizer, target: keras.optimizers.Optimizer
) -> None:
    """Gives one optimizer the state of another for a network of the same shapes."""
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(old.numpy())
