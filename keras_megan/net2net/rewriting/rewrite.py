"""From a plan to the new model: make it, set its weights, compare.

Where the model's class has a configuration with the new widths, the new model is of
that class; otherwise it is a functional model in which the calls are replayed
(`keras_megan.net2net.rewriting.rewriter`). Nothing is shared with the original. Then
each variable is set to the old value gathered along the axes that write a changed
group, and gathered and multiplied by the shares along those that read it; the products
are taken in float64.
"""

from collections.abc import Callable

import keras
import numpy as np

from keras_megan.net2net.rewriting.remake import Fitting, RemakeError
from keras_megan.net2net.rewriting.replay import NoChange
from keras_megan.net2net.rewriting.rewriter import Rewriter
from keras_megan.net2net.rewriting.special import is_special
from keras_megan.net2net.rules.base import RuleError
from keras_megan.net2net.tracing.graph import has_own_class
from keras_megan.net2net.tracing.nodes import layers_of

_REBUILDERS: dict[type, Callable] = {}
#: How many configurations of a model's class are tried.
_TRIES = 24


def register_model_rebuilder(model_class: type) -> Callable[[Callable], Callable]:
    """Decorator: says how a rewritten model of a class becomes one of that class again.

    It is only needed where the class's configuration does not show its widths as plain
    numbers. The function gets the `Plan` and returns a new model of the class, built,
    with its variables in the same order as the original's and in the new shapes; or
    None where no configuration of the class has these widths.

    Args:
        model_class: A `keras.Model` subclass, matched exactly.
    """

    def enter(function):
        _REBUILDERS[model_class] = function
        return function

    return enter


class Made:
    """A new model of a plan, before its weights are set.

    Attributes:
        model: The model.
        pairs: List of (old, new) variables.
        extras: List of (new variable, value).
        certain: Whether nothing in it was found by trying configurations.
    """

    def __init__(self, model, pairs, extras=(), certain=True):
        self.model = model
        self.pairs = pairs
        self.extras = extras
        self.certain = certain

    def fill(self, value_of):
        """Sets all weights; `value_of` maps an old variable to its new value."""
        for old, new in self.pairs:
            value = value_of(old)
            if tuple(value.shape) != tuple(new.shape):
                raise RuleError(
                    f"The rules say that '{old.path}' becomes {value.shape}, but the "
                    f"new layer has {tuple(new.shape)}."
                )
            new.assign(value)
        for new, value in self.extras:
            new.assign(value)
        for layer in self.model._flatten_layers():
            # Layers adapted to data compute with values derived from their weights.
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()
        return self.model


def ways(plan):
    """Yields the models that a plan can become, the most wanted first, as `Made`.

    Raises:
        Net2NetError: If there is none; after the last that was yielded.
    """
    rebuilder = _REBUILDERS.get(type(plan.model))
    if not plan.insertions:
        model = rebuilder(plan) if rebuilder is not None else _of_own_class(plan)
        if model is not None:
            certain = rebuilder is not None
            yield Made(model, _pairs_by_order(plan, model), certain=certain)
    root = [r for r in plan.graph.graph.regions if not r.path and r.whole is not None]
    if root:
        raise RemakeError(
            f"Model '{plan.model.name}' ({type(plan.model).__name__}) must stay whole "
            f"({root[0].whole}), and no configuration of its class has the widths that "
            "the plan wants."
        )
    for classes in (True, False):
        made = replayed(plan, classes)
        yield made
        if made.certain:
            return


def replayed(plan, classes=False):
    """Returns the functional model that a plan becomes, as `Made`.

    Args:
        plan: The `Plan`.
        classes: Whether composite layers come back as the layers they are.
    """
    rewriter = Rewriter(plan, classes=classes)
    model = rewriter.build()
    pairs = _once(rewriter.pairs)
    _keep_trainability(plan.model, model, pairs)
    return Made(model, pairs, rewriter.extras, certain=not rewriter.remade)


def _once(pairs):
    return list({id(new): (old, new) for old, new in pairs}.values())


def _of_own_class(plan):
    """A model of the original's class, from its configuration; None if none fits."""
    model = plan.model
    graph = plan.graph
    whole = next((r for r in graph.graph.regions if not r.path), None)
    if whole is None or not has_own_class(model):
        return None
    if is_special(graph, whole, plan):
        return None
    new = Fitting(graph, whole, plan).find(_TRIES, model.name)
    if new is not None:
        _keep_trainability(model, new, _pairs_by_order(plan, new))
    return new


def _keep_trainability(old_model, new_model, pairs):
    """Freezes what was frozen: layers rebuilt begin with all of them trainable."""
    own = {id(variable) for variable in old_model.variables}
    for old, new in pairs:
        if id(old) in own and old.trainable != new.trainable:
            new.trainable = old.trainable
    frozen = {
        id(v)
        for layer in layers_of(old_model)
        if not layer.trainable
        for v in layer.variables
    }
    old_of = {id(new): old for old, new in pairs}
    for layer in layers_of(new_model):
        olds = [old_of.get(id(v)) for v in layer.variables]
        if olds and all(old is not None and id(old) in frozen for old in olds):
            layer._trainable = False


def probe(graph, tensors):
    """Returns a copy of a model that gives some of its inner tensors.

    Args:
        graph: The `ChannelGraph`.
        tensors: List of `keras_megan.net2net.tracing.calls.Tensor`.
    """
    rewriter = Rewriter(NoChange(graph), look_inside=True)
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


def new_value(plan, variable, value=None, noise=None):
    """Returns what a variable becomes under a plan, in the variable's data type.

    Args:
        plan: The `Plan`.
        variable: A variable of the original model.
        value: Array to use in place of the variable's value.
        noise: None, or a function that adds noise to the new value.
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
    value = np.asarray(value).astype(kind)
    return value if noise is None else noise(plan, variable, weight, value)


class Noise:
    """Noise on what all but the first copies of a unit receive.

    Args:
        strength: Standard deviation relative to that of the weight.
        seed: Seed.
    """

    def __init__(self, strength, seed):
        self._strength = strength
        self._random = np.random.default_rng(seed)

    def __call__(self, plan, variable, weight, value):
        if weight.scale is not None or not variable.trainable:
            # A scale holds shares, and shares stay as they are.
            return value
        spread = float(np.std(value)) * self._strength
        alike = {group for layout in plan.graph.alike for group in layout.groups}
        result = value
        for axis, role in weight.roles.items():
            if role.reads or not plan.is_changed(role.layout):
                continue
            if alike & set(role.layout.groups):
                continue
            source = plan.index_map(role.layout).source
            later = source >= 0
            later[np.unique(source, return_index=True)[1]] = False
            shape = [1] * value.ndim
            shape[axis] = later.size
            drawn = self._random.normal(0.0, spread, size=value.shape)
            result = result + drawn * later.reshape(shape)
        return result.astype(value.dtype)
