"""From a plan to the new model: replay the graph with resized layers, set the weights.

Every layer is made anew from its configuration, with the settings that its rule names
at their new values; raw operations are replayed, with their shape arguments adjusted by
their rules. Nothing is shared with the original. Then each variable is set to the old
value gathered along the axes that write a changed group, and gathered and multiplied by
the shares along those that read it; the products are taken in float64.
"""

import keras
import numpy as np

from keras_megan.net2net.rewriting.replay import NoChange, Rewriter
from keras_megan.net2net.rules.base import RuleError

_REBUILDERS = {}


def register_model_rebuilder(model_class):
    """Decorator: says how a rewritten model of a class becomes one of that class again.

    The function gets the `Plan` and returns a new model of the class, built, with its
    variables in the same order as the original's and in the new shapes; or None where
    no configuration of the class has these widths.

    Args:
        model_class: A `keras.Model` subclass, matched exactly.
    """

    def enter(function):
        _REBUILDERS[model_class] = function
        return function

    return enter


def apply(plan, noise=0.0, seed=0):
    """Carries a plan out; see `Plan.apply`."""
    rebuilder = _REBUILDERS.get(type(plan.model))
    model = None
    if rebuilder is not None and not plan.insertions:
        model = rebuilder(plan)
    if model is not None:
        pairs = _pairs_by_order(plan, model)
        extras = []
    else:
        rewriter = Rewriter(plan)
        model = rewriter.build()
        pairs, extras = rewriter.pairs, rewriter.extras
    random = np.random.default_rng(seed)
    for old, new in pairs:
        value = new_value(plan, old)
        if noise:
            value = _add_noise(plan, old, value, noise, random)
        if tuple(value.shape) != tuple(new.shape):
            raise RuleError(
                f"The rules say that '{old.path}' becomes {value.shape}, but the new "
                f"layer has {tuple(new.shape)}."
            )
        new.assign(value)
    for new, value in extras:
        new.assign(value)
    for layer in model._flatten_layers():
        # Layers adapted to data compute with values derived from their weights.
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    plan.pairs = pairs
    plan.student_variables = list(model.trainable_variables)
    return model


def probe(graph, tensors):
    """Returns a copy of a model that gives some of its inner tensors.

    Args:
        graph: The `ChannelGraph`.
        tensors: List of `keras_megan.net2net.tracing.graph.Tensor`.
    """
    rewriter = Rewriter(NoChange(graph))
    rewriter.build()
    for old, new in rewriter.pairs:
        new.assign(old.value)
    inputs, outputs = keras.tree.map_structure(
        rewriter.symbolic, (graph.graph.inputs, list(tensors))
    )
    return keras.Model(inputs, outputs)


def _pairs_by_order(plan, model):
    old, new = plan.model.variables, model.variables
    if len(old) != len(new):
        raise RuleError(
            f"The rebuilt {type(model).__name__} has {len(new)} variables instead of "
            f"{len(old)}."
        )
    return list(zip(old, new, strict=True))


def new_value(plan, variable, value=None):
    """Returns what a variable becomes under a plan, in the variable's data type.

    Args:
        plan: The `Plan`.
        variable: A variable of the original model.
        value: Array to use in place of the variable's value.
    """
    if value is None:
        value = keras.ops.convert_to_numpy(variable.value)
    weight = plan.weight_of(variable)
    if weight is None:
        return value
    kind = value.dtype
    for axis, role in weight.roles.items():
        if plan.is_changed(role.layout):
            index_map = plan.index_map(role.layout)
            move = index_map.weigh if role.reads else index_map.gather
            value = move(value, axis)
    if weight.scale is not None:
        value = value * weight.scale(plan.index_map)
    if weight.add is not None:
        value = value + weight.add(plan.index_map)
    return np.asarray(value).astype(kind)


def _add_noise(plan, variable, value, noise, random):
    """Noise on what all but the first copies of a unit receive."""
    weight = plan.weight_of(variable)
    if weight is None or weight.scale is not None or not variable.trainable:
        # A scale holds shares, and shares stay as they are.
        return value
    spread = float(np.std(value)) * noise
    result = value
    for axis, role in weight.roles.items():
        if role.reads or not plan.is_changed(role.layout):
            continue
        source = plan.index_map(role.layout).source
        later = np.ones(source.size, dtype=bool)
        later[np.unique(source, return_index=True)[1]] = False
        shape = [1] * value.ndim
        shape[axis] = later.size
        drawn = random.normal(0.0, spread, size=value.shape)
        result = result + drawn * later.reshape(shape)
    return result.astype(value.dtype)
