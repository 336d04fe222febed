"""Carrying a plan out, and finding out whether the new model is right."""

import keras
import numpy as np

from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.rewriting import rewrite
from keras_megan.net2net.rewriting.verify import Check


def apply(plan, noise=0.0, seed=0, verify=True):
    """Carries a plan out; see `Plan.apply`."""
    silent = all(_is_silent(index_map) for index_map in plan.maps.values())
    check = Check(plan) if verify else None
    for made in rewrite.ways(plan):

        def fill(strength, made=made):
            drawn = rewrite.Noise(strength, seed) if strength else None
            return made.fill(lambda old: rewrite.new_value(plan, old, noise=drawn))

        # Noise on copies that count changes the function: what is compared has none.
        model = fill(noise if silent else 0.0)
        difference = check(model) if check is not None else None
        if difference is None:
            return model if silent or not noise else fill(noise)
        if made.certain:
            break
    raise VerificationError(check.explain(difference))


def _is_silent(index_map):
    """Whether all copies but the first of each unit have a share of zero."""
    later = np.ones(index_map.new_size, dtype=bool)
    later[np.unique(index_map.source, return_index=True)[1]] = False
    return not np.any(index_map.share[later])


class VerificationError(Net2NetError):
    """The new model does not compute what it should."""


def pairs_of(plan, student):
    """Returns (old, new) for every variable of the original and of what became of it.

    Args:
        plan: The `Plan`.
        student: A model that the plan made, also after it was saved and loaded again.

    Raises:
        Net2NetError: If the plan does not make such a model.
    """
    wanted = [tuple(v.shape) for v in student.variables]
    for made in rewrite.ways(plan):
        if type(made.model) is not type(student):
            continue
        if [tuple(v.shape) for v in made.model.variables] != wanted:
            continue
        place = {id(v): index for index, v in enumerate(made.model.variables)}
        return [(old, student.variables[place[id(new)]]) for old, new in made.pairs]
    raise Net2NetError(
        f"'{student.name}' is not a model that this plan makes of '{plan.model.name}': "
        "its variables have other shapes, or come in another order."
    )


def copy_of(graph):
    """Returns a copy of a model, and the pairs of (old, new) variables."""
    made = next(rewrite.ways(rewrite.NoChange(graph)))
    made.fill(lambda old: keras.ops.convert_to_numpy(old.value))
    return made.model, made.pairs
