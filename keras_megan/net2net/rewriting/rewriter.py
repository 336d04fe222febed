"""The new model of a plan: every call of the graph made again, with resized layers.

Every layer is rebuilt from its configuration, with the settings that its rule names
at their new values; raw operations are replayed, with their shape arguments adjusted by
their rules. A rule may make its call itself: it gets a
`keras_megan.net2net.rewriting.replay.Replay`.
"""

import contextlib
import copy

import keras
import numpy as np

from keras_megan.net2net.channels.index_map import IndexMap
from keras_megan.net2net.channels.whole import is_separable
from keras_megan.net2net.rewriting.insertion import filled
from keras_megan.net2net.rewriting.remake import Fitting, RemakeError
from keras_megan.net2net.rewriting.replay import Replay
from keras_megan.net2net.rewriting.special import is_special
from keras_megan.net2net.rewriting.weights_layers import ChannelWeights
from keras_megan.net2net.rules.base import RuleError
from keras_megan.net2net.tracing import calls as calls_lib
from keras_megan.net2net.tracing.layer_config import (
    config_of,
    functions_of,
    made_of,
    replace_initializers,
    resolve,
)


def identity_map(layout):
    return IndexMap.identity(layout.size)


def _tensors_of(structure):
    """The tensors among what a call gave; of constants alone it gives real ones."""
    leaves = keras.tree.flatten(structure)
    return [
        leaf
        for leaf in leaves
        if isinstance(leaf, keras.KerasTensor) or keras.ops.is_tensor(leaf)
    ]


def _can_be_loaded(layer_class):
    """Whether Keras finds a class by itself when it loads a model.

    A layer of another class had better come back as operations.
    """
    registered = keras.saving.get_registered_name(layer_class) != layer_class.__name__
    return registered or layer_class.__module__.split(".")[0] == "keras"


def _not_made(call, error):
    kind = type(call.operation).__name__
    text = (str(error).strip().splitlines() or [""])[0]
    return (
        f"Layer '{call.name}' ({kind}) cannot be rebuilt from its configuration: "
        f"{type(error).__name__}: {text} Give {kind} a get_config and a from_config "
        "that name all it was made with, serialisable functions included."
    )


class Rewriter:
    """Replays the calls of a graph under a plan.

    Args:
        plan: The `Plan`, or a `NoChange`.
        classes: Whether composite layers come back as the layers they are where their
            configuration allows. Those that must stay whole always do.
        look_inside: Whether all inner tensors are wanted: then even those are taken
            apart, which is right in inference only.
    """

    def __init__(self, plan, classes=True, look_inside=False):
        self.plan = plan
        self.pairs = []
        self.extras = []
        self.remade = False
        self._classes = classes
        self._look_inside = look_inside
        self._operations = {}
        self._tensors = {}
        self._names = set()
        self._anchor = None
        self._own = {id(variable) for variable in plan.model.variables}

    def build(self):
        graph = self.plan.graph.graph
        flat = keras.tree.flatten(graph.inputs)
        for tensor, name in zip(flat, graph.input_names, strict=True):
            self._tensors[id(tensor)] = keras.Input(
                batch_shape=tensor.shape, dtype=tensor.dtype, name=self._unique(name)
            )
        self._anchor = self._tensors[id(flat[0])]
        regions = {}
        for region in graph.regions:
            if region.path:
                regions.setdefault(region.start, []).append(region)
        index = 0
        while index < len(graph.calls):
            done = self._remake_one(regions.get(index, ()))
            if done is not None and done.stop > index:
                index = done.stop
                continue
            call = graph.calls[index]
            outputs = self._replay(call)
            is_source = isinstance(call.operation, calls_lib.Source)
            outputs = [outputs] if is_source else _tensors_of(outputs)
            outputs = self._insert_after(call, outputs)
            for tensor, symbolic in zip(call.outputs, outputs, strict=True):
                self._tensors[id(tensor)] = symbolic
            index += 1
        inputs, outputs = keras.tree.map_structure(
            self.symbolic, (graph.inputs, graph.outputs)
        )
        return keras.Model(inputs, outputs, name=self.plan.model.name)

    # === Composite layers =============================================================
    def _remake_one(self, regions):
        """Makes the outermost region that can be remade; returns it, or None."""
        for region in regions:
            if region.whole is not None and not self._look_inside:
                self._remake(region, tries=24)
                return region
            if not self._classes or self._look_inside:
                continue
            if self._may_stay_whole(region):
                try:
                    self._remake(region, tries=3)
                except RemakeError:
                    continue
                return region
        return None

    def _may_stay_whole(self, region):
        names = {
            c.name for c in self.plan.graph.graph.calls[region.start : region.stop]
        }
        return (
            region.stop > region.start
            and _can_be_loaded(type(region.layer))
            and not any(insertion.after in names for insertion in self.plan.insertions)
            and not is_special(self.plan.graph, region, self.plan)
            and is_separable(self.plan.graph, region)
        )

    def _remake(self, region, tries):
        key = id(region.layer)
        if key not in self._operations:
            fitting = Fitting(self.plan.graph, region, self.plan)
            layer = None
            if not is_special(self.plan.graph, region, self.plan):
                name = self._unique(region.layer.name, region.path)
                layer = fitting.find(tries, name)
            if layer is None:
                raise RemakeError(
                    f"Layer '{region.path}' ({type(region.layer).__name__}) stays "
                    f"whole ({region.whole}), and no configuration of its class has "
                    f"the widths that the plan wants: {fitting.reason}."
                )
            self._operations[key] = layer
            self.pairs += zip(region.layer.variables, layer.variables, strict=True)
        args, kwargs = keras.tree.map_structure(
            self.symbolic, (region.args, region.kwargs)
        )
        outputs = _tensors_of(self._operations[key](*args, **kwargs))
        if len(outputs) != len(region.outputs):
            raise RemakeError(f"'{region.path}' rebuilt returns something else.")
        for tensor, symbolic in zip(region.outputs, outputs, strict=True):
            self._tensors[id(tensor)] = symbolic
        self.remade = True

    def symbolic(self, leaf):
        """The new symbolic tensor in place of a `Tensor`."""
        return self._tensors[id(leaf)] if isinstance(leaf, calls_lib.Tensor) else leaf

    def knows(self, tensor):
        """Whether a `Tensor` has a symbolic tensor in the new model."""
        return id(tensor) in self._tensors

    def _replay(self, call):
        if isinstance(call.operation, calls_lib.Source):
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
                new, old = value(self.plan.index_map), value(identity_map)
            else:
                new = resolve(value, self.plan.size)
                old = resolve(value, lambda layout: layout.size)
            if new != old:
                changed[path] = new
        return changed

    def _new_layer(self, call):
        layer = call.operation
        try:
            config = config_of(layer)
        except Exception as error:
            raise RemakeError(_not_made(call, error)) from error
        for path, value in self.settings(call).items():
            place = config
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
        config["name"] = self._unique(layer.name, call.name)
        with keras.saving.custom_object_scope(functions_of(layer)):
            try:
                return made_of(type(layer), config)
            except Exception as error:
                raise RemakeError(_not_made(call, error)) from error

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
        kept = [] if layer.built else replace_initializers(layer)
        try:
            yield
        finally:
            for owner, attribute, initializer in kept:
                setattr(owner, attribute, initializer)
        if not known and self._operations[id(call.operation)] is layer and layer.built:
            old, new = call.operation.variables, layer.variables
            if len(old) != len(new):
                raise RuleError(
                    f"Layer '{call.name}' has {len(old)} variables, but rebuilt from "
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
            variable = source.variable
            follows_owner = source.owner and "float" in variable.dtype
            layer = ChannelWeights(
                shape,
                # A variable that is not the model's own is not trained by it either.
                trainable=variable.trainable and id(variable) in self._own,
                regularizer=getattr(variable, "regularizer", None),
                constraint=getattr(variable, "constraint", None),
                dtype=source.owner.dtype_policy if follows_owner else variable.dtype,
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
