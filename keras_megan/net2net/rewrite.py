"""From a plan to the new model: replay the graph with resized layers, set the weights.

Every layer is made anew from its configuration, with the settings that its rule names
at their new values; raw operations are replayed, with their shape arguments adjusted by
their rules. Nothing is shared with the original. Then each variable is set to the old
value gathered along the axes that write a changed group, and gathered and multiplied by
the shares along those that read it; the products are taken in float64.
"""

import contextlib
import copy
import dataclasses

import keras
import numpy as np

from keras_megan.net2net import graph as graph_lib
from keras_megan.net2net.index_map import IndexMap
from keras_megan.net2net.layers import ChannelWeights
from keras_megan.net2net.layout import Layout
from keras_megan.net2net.rules import RuleError

_REBUILDERS = {}


@dataclasses.dataclass(eq=False)
class Insertion:
    """Layers to be put behind a call, applied one after the other.

    Attributes:
        after: Name of the call.
        layers: List of serialised layers (`keras.saving.serialize_keras_object`).
        values: One list per layer with one entry per weight, in the layer's order:
            ``"identity"``, ``"zeros"``, a list of numbers, or None to keep what the
            layer was initialised with.
        residual: Whether the input is added to what the last layer gives.
    """

    after: str
    layers: list
    values: list
    residual: bool = False

    @property
    def name(self):
        return ", ".join(layer["config"]["name"] for layer in self.layers)

    def __str__(self):
        kinds = ", ".join(layer["class_name"] for layer in self.layers)
        form = "residual " if self.residual else ""
        return f"inserted after {self.after}: {form}{kinds}"

    def to_dict(self):
        """Returns plain data."""
        return {
            "after": self.after,
            "layers": self.layers,
            "values": self.values,
            "residual": self.residual,
        }

    @classmethod
    def from_dict(cls, values):
        """Makes an insertion from what `to_dict` gives."""
        return cls(**values)


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
        rewriter = _Rewriter(plan)
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
        tensors: List of `keras_megan.net2net.graph.Tensor`.
    """
    rewriter = _Rewriter(_NoChange(graph))
    rewriter.build()
    for old, new in rewriter.pairs:
        new.assign(old.value)
    inputs, outputs = keras.tree.map_structure(
        rewriter.symbolic, (graph.graph.inputs, list(tensors))
    )
    return keras.Model(inputs, outputs)


def filled(layer, weight, value):
    """Returns the value of an inserted layer's weight; see `Insertion`."""
    shape = tuple(weight.shape)
    if value == "identity":
        return identity_kernel(layer, shape)
    if value == "zeros":
        return np.zeros(shape)
    return np.asarray(value, dtype="float64").reshape(shape)


def identity_kernel(layer, shape):
    """Returns the kernel with which a layer gives its input back.

    A convolution's has a one at (size - 1) // 2 of every spatial axis, which is where
    'same' padding of Keras centres kernels of odd and even size.
    """
    kernel = np.zeros(shape)
    depthwise = isinstance(
        layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D
    )
    centre = tuple((size - 1) // 2 for size in shape[:-2])
    if depthwise:
        kernel[centre] = 1.0
        return kernel
    outputs = np.arange(shape[-1])
    kernel[(*centre, outputs % shape[-2], outputs)] = 1.0
    return kernel


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


def _identity_map(layout):
    return IndexMap.identity(layout.size)


def _add_noise(plan, variable, value, noise, random):
    """Noise on what all but the first copies of a unit receive."""
    weight = plan.weight_of(variable)
    if weight is None or not variable.trainable:
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


class Replay:
    """One call, about to be made again in the new model.

    Attributes:
        operation: The new operation, with its settings at their new values.
        args, kwargs: The arguments, with the new symbolic tensors in place.
        call: The original `keras_megan.net2net.graph.Call`.
    """

    def __init__(self, rewriter, call, args, kwargs):
        self._rewriter = rewriter
        self.call = call
        self.args = args
        self.kwargs = kwargs

    @property
    def operation(self):
        return self._rewriter.operation_for(self.call)

    @property
    def inputs(self):
        """The new symbolic tensors among the arguments, in flat order."""
        leaves = keras.tree.flatten((self.args, self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, keras.KerasTensor)]

    def index_map(self, layout):
        """Returns the `IndexMap` of an axis of the original call."""
        return self._rewriter.plan.index_map(layout)

    def size(self, layout):
        """Returns the new size of an axis."""
        return self._rewriter.plan.size(layout)

    def is_changed(self, layout):
        """Returns whether an axis changes."""
        return self._rewriter.plan.is_changed(layout)

    def run(self, *args, **kwargs):
        """Makes the call with other arguments."""
        return self.operation(*args, **kwargs)

    def run_unchanged(self):
        """Makes the call with the arguments as they are."""
        return self.operation(*self.args, **self.kwargs)

    def with_config(self, **changes):
        """Returns a raw operation with other constructor arguments."""
        return self._rewriter.raw_operation(self.call, changes)

    def substitute(self, layer, pairs, extras=()):
        """Puts a new layer in this call's place.

        Args:
            layer: The new layer, not built yet.
            pairs: Function from the built layer to (old, new) variables.
            extras: Function from the built layer to (new variable, value) pairs.

        Returns:
            The outputs.
        """
        return self._rewriter.substitute(self, layer, pairs, extras)

    def multiply(self, tensor, axis, values):
        """Returns a tensor whose `axis` is multiplied by constant values."""
        return keras.ops.multiply(tensor, self.constant(tensor, axis, values))

    def add(self, tensor, axis, values):
        """Returns a tensor whose `axis` has constant values added."""
        return keras.ops.add(tensor, self.constant(tensor, axis, values))

    def constant(self, tensor, axis, values):
        """Returns constant values along `axis`, broadcastable to `tensor`."""
        shape = [1] * len(tensor.shape)
        shape[axis] = len(values)
        return self._rewriter.constant(
            np.reshape(values, shape), tensor, f"{self.call.name}_balance"
        )


@dataclasses.dataclass(eq=False)
class _NoChange:
    """A plan under which everything stays."""

    graph: object
    insertions: tuple = ()

    @property
    def model(self):
        return self.graph.model

    def index_map(self, layout):
        return _identity_map(layout)

    def size(self, layout):
        return layout.size

    def is_changed(self, layout):
        return False


class _Rewriter:
    """Replays the calls of a graph under a plan."""

    def __init__(self, plan):
        self.plan = plan
        self.pairs = []
        self.extras = []
        self._operations = {}
        self._tensors = {}
        self._names = set()
        self._anchor = None

    def build(self):
        graph = self.plan.graph.graph
        flat = keras.tree.flatten(graph.inputs)
        for tensor, name in zip(flat, graph.input_names, strict=True):
            self._tensors[id(tensor)] = keras.Input(
                batch_shape=tensor.shape, dtype=tensor.dtype, name=self._unique(name)
            )
        self._anchor = self._tensors[id(flat[0])]
        for call in graph.calls:
            outputs = keras.tree.flatten(self._replay(call))
            outputs = self._insert_after(call, outputs)
            for tensor, symbolic in zip(call.outputs, outputs, strict=True):
                self._tensors[id(tensor)] = symbolic
        inputs, outputs = keras.tree.map_structure(
            self.symbolic, (graph.inputs, graph.outputs)
        )
        return keras.Model(inputs, outputs, name=self.plan.model.name)

    def symbolic(self, leaf):
        """The new symbolic tensor in place of a `Tensor`."""
        return self._tensors[id(leaf)] if isinstance(leaf, graph_lib.Tensor) else leaf

    def _replay(self, call):
        if isinstance(call.operation, graph_lib.Source):
            return self._replay_source(call)
        args, kwargs = keras.tree.map_structure(self.symbolic, (call.args, call.kwargs))
        replay = Replay(self, call, args, kwargs)
        player = self.plan.graph.players.get(call.name)
        with self._cheap_build(call):
            return player(replay) if player is not None else replay.run_unchanged()

    # === Operations ===================================================================
    def operation_for(self, call):
        """The new operation: one per layer, one per call of a raw operation."""
        if not isinstance(call.operation, keras.Layer):
            return self.raw_operation(call, {})
        key = id(call.operation)
        if key not in self._operations:
            self._operations[key] = self._new_layer(call)
        return self._operations[key]

    def settings(self, call):
        """Dict from a path in the configuration to its new value, changed ones only."""
        follow = self.plan.graph.follows[id(call.operation)]
        changed = {}
        for path, value in follow.settings.items():
            if callable(value):
                new, old = value(self.plan.index_map), value(_identity_map)
            else:
                new = _resolve(value, self.plan.size)
                old = _resolve(value, lambda layout: layout.size)
            if new != old:
                changed[path] = new
        return changed

    def _new_layer(self, call):
        layer = call.operation
        config = _without_build(copy.deepcopy(layer.get_config()))
        for path, value in self.settings(call).items():
            place = config
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        config["name"] = self._unique(layer.name, call.name)
        with keras.saving.custom_object_scope(_functions_of(layer)):
            return type(layer).from_config(config)

    def raw_operation(self, call, changes):
        """A new raw operation with changed constructor arguments."""
        changes = {**{p[0]: v for p, v in self.settings(call).items()}, **changes}
        name = self._unique(call.operation.name, call.name)
        operation = copy.copy(call.operation)
        if changes:
            config = {**call.operation.get_config(), **changes}
            config.pop("name", None)
            operation = type(operation)(**config)
        operation.name = name
        operation._inbound_nodes = []
        operation._outbound_nodes = []
        return operation

    def _unique(self, name, path=None):
        for candidate in (name, (path or name).replace("/", "_").replace(":", "_")):
            if candidate not in self._names:
                self._names.add(candidate)
                return candidate
        number = 1
        while f"{name}_{number}" in self._names:
            number += 1
        self._names.add(f"{name}_{number}")
        return f"{name}_{number}"

    @contextlib.contextmanager
    def _cheap_build(self, call):
        """Builds layers with zeros: every weight is set afterwards anyway."""
        if not isinstance(call.operation, keras.Layer):
            yield
            return
        known = id(call.operation) in self._operations
        layer = self.operation_for(call)
        kept = [] if layer.built else _replace_initializers(layer)
        try:
            yield
        finally:
            for owner, attribute, initializer in kept:
                setattr(owner, attribute, initializer)
        if not known and self._operations[id(call.operation)] is layer and layer.built:
            old, new = call.operation.variables, layer.variables
            if len(old) != len(new):
                raise RuleError(
                    f"Layer '{call.name}' has {len(old)} variables, but made anew from "
                    f"its configuration it has {len(new)}."
                )
            self.pairs += zip(old, new, strict=True)

    def substitute(self, replay, layer, pairs, extras):
        key = id(replay.call.operation)
        first = not getattr(self._operations[key], "_is_substitute", False)
        if first:
            layer._is_substitute = True
            self._operations[key] = layer
        layer = self._operations[key]
        outputs = layer(*replay.args, **replay.kwargs)
        if first:
            self.pairs += pairs(layer)
            self.extras += extras(layer) if extras else []
        return outputs

    # === Variables and constants used by raw operations ===============================
    def _replay_source(self, call):
        source = call.operation
        layouts = self.plan.graph.layouts[id(call.outputs[0])]
        if source.variable is not None:
            shape = [self.plan.size(layout) for layout in layouts]
            layer = ChannelWeights(
                shape,
                trainable=source.variable.trainable,
                dtype=source.owner.dtype_policy if source.owner else None,
                name=self._unique(source.name),
            )
            tensor = layer(self._anchor)
            self.pairs.append((source.variable, layer.value))
            return tensor
        value = source.value
        for axis, layout in enumerate(layouts):
            if self.plan.is_changed(layout):
                index_map = self.plan.index_map(layout)
                role = self.plan.graph.constant_roles.get((call.name, axis))
                move = index_map.weigh if role == "reads" else index_map.gather
                value = move(value, axis)
        return np.asarray(value, dtype=source.value.dtype)

    def constant(self, values, like, name):
        """A constant tensor in the new model."""
        name = self._unique(name.replace("/", "_").replace(":", "_"))
        layer = ChannelWeights(
            values.shape, trainable=False, dtype=like.dtype, name=name
        )
        tensor = layer(self._anchor)
        self.extras.append((layer.value, values))
        return tensor

    # === Inserted layers ==============================================================
    def _insert_after(self, call, outputs):
        for insertion in self.plan.insertions:
            if insertion.after != call.name:
                continue
            inserted = outputs[0]
            for serialized, values in zip(
                insertion.layers, insertion.values, strict=True
            ):
                layer = keras.saving.deserialize_keras_object(serialized)
                layer.name = self._unique(layer.name)
                inserted = layer(inserted)
                for weight, value in zip(layer.weights, values, strict=True):
                    if value is None:
                        continue
                    self.extras.append((weight, filled(layer, weight, value)))
            if insertion.residual:
                inserted = keras.layers.Add(name=self._unique(f"{layer.name}_add"))(
                    [outputs[0], inserted]
                )
            outputs = [inserted, *outputs[1:]]
        return outputs


def _resolve(value, size_of):
    """Replaces every `Layout` in a structure by its size."""
    if isinstance(value, Layout):
        return size_of(value)
    if isinstance(value, list | tuple):
        return type(value)(_resolve(item, size_of) for item in value)
    return value


def _without_build(config):
    """A configuration in which no layer inside is built for the old shapes."""
    if isinstance(config, dict):
        return {k: _without_build(v) for k, v in config.items() if k != "build_config"}
    if isinstance(config, list | tuple):
        return type(config)(_without_build(item) for item in config)
    return config


def _functions_of(layer):
    """The plain functions a layer holds, so that its configuration can name them."""
    return {
        value.__name__: value
        for value in vars(layer).values()
        if callable(value) and hasattr(value, "__name__") and "<" not in value.__name__
    }


def _replace_initializers(layer):
    kept = []
    for part in layer._flatten_layers(include_self=True, recursive=True):
        for attribute, value in list(vars(part).items()):
            if isinstance(value, keras.initializers.Initializer):
                kept.append((part, attribute, value))
                setattr(part, attribute, keras.initializers.Zeros())
    return kept
