"""ChannelGraph: which axes of which variables of a model move together.

In goes a model; out comes its flat graph (see `keras_megan.net2net.tracing.graph`) in
which every axis of every tensor has a `Layout`, every variable knows which layouts its
axes follow, and all conflicts have been settled by joining, splitting or freezing
groups. The groups left over that are not frozen are what a plan can change, each on its
own:

    graph = ChannelGraph(model)
    print(graph)                    # one line per group: size, and what follows it
    graph.width("conv3")            # the layout of one layer's width

Nothing is assumed of an operation without a rule, or of a layer that cannot be laid
out: it is kept as it is, and the axes that it touches are frozen. `fixed` says which.
"""

import difflib
import functools
import math
from typing import Any

import keras

from keras_megan.net2net.channels.activations import has_known_activation
from keras_megan.net2net.channels.layout import Group, Layout, unify
from keras_megan.net2net.channels.roles import Follow, reads, writes
from keras_megan.net2net.channels.sizes import shape_under
from keras_megan.net2net.channels.whole import (
    keep_root,
    settle_regions,
    settle_shared_variables,
)
from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.rules.base import RULES, Site, as_outputs, is_linear
from keras_megan.net2net.tracing import calls as calls_lib
from keras_megan.net2net.tracing.graph import trace
from keras_megan.net2net.tracing.inputs import known_shapes

#: What a rule raises where a call uses its operation in a way it does not expect.
_UNFITTING = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class UnknownOperationError(Net2NetError):
    """An operation of the model has no rule."""


class UnknownLayerError(Net2NetError):
    """A layer was named that the model does not have, or that has no width."""


def is_primitive(layer):
    """Returns whether a layer is one call: it has a rule that covers it."""
    return layer in RULES and has_known_activation(layer)


class ChannelGraph:
    """The channel structure of a model.

    Args:
        model: A built Keras model.
        input_shape: Shape without the batch axis (or list or dict of them), only needed
            for a subclassed model that does not know its inputs.
        count: Whether all sizes must be known, to count multiply-adds.
        strict: Whether to raise an error instead of keeping something as it is.
        keep_class: Whether only those widths may change that the configuration of the
            model's class can express: layers that it gives one number change alike.

    Attributes:
        graph: The flat `keras_megan.net2net.tracing.graph.Graph`.
        follows: Dict from the id of an operation to its `Follow`.
        layouts: Dict from the id of a tensor to its list of `Layout`.
        players: Dict from the name of a call to the function that replays it.
        inexact: List of (layouts, reason): where leaving out channels is not the same
            as masking them.
        alike: List of layouts whose copies must stay copies: all of them are heard,
            whatever their shares.
        fixed: Dict from what stays as it is to the reason.
        tried: Dict from configurations of layers that were tried to their shapes.
        learned: Dict from the id of a layer to a list of (layout, places of its
            configuration that change with it).

    Raises:
        UnknownOperationError: If an operation has no rule, with `strict`.
        SharedVariableError: If two layers own the same variable.
        keras_megan.net2net.tracing.graph.TraceError: If the model cannot be laid out,
            or, with `keep_class`, has no class of its own.
    """

    def __init__(
        self,
        model: keras.Model,
        input_shape: Any = None,
        count: bool = False,
        strict: bool = False,
        keep_class: bool = False,
    ):
        self.model = model
        self.keep_class = keep_class
        if count and input_shape is None:
            input_shape = known_shapes(model)
        self.graph = trace(model, is_primitive, input_shape, whole_sizes=count)
        self.follows: dict = {}
        self.layouts: dict = {}
        self.players: dict = {}
        self.inexact: list = []
        self.copies_only: list = []
        self.alike: list = []
        self.fixed: dict = {}
        self.constant_roles: dict = {}
        self.tried: dict = {}
        self.learned: dict = {}
        self._strict = strict
        self._sources: dict = {}
        for tensor, name in zip(
            keras.tree.flatten(self.graph.inputs), self.graph.input_names, strict=True
        ):
            self.layouts[id(tensor)] = [
                Layout.fixed(size, f"it is the model input '{name}'")
                for size in tensor.shape
            ]
        for call in self.graph.calls:
            self._apply_rule(call)
        for region in self.graph.regions:
            self._apply_shadow(region)
        settle_shared_variables(self)
        self._freeze_outputs()
        if keep_class:
            keep_root(self)
        if not count:
            settle_regions(self)
        if strict and self.fixed:
            what, reason = next(iter(self.fixed.items()))
            raise UnknownOperationError(f"'{what}' stays as it is: {reason}.")

    # === Building =====================================================================
    def _apply_rule(self, call):
        if isinstance(call.operation, calls_lib.Source):
            self._apply_source(call)
            return
        rule = RULES.find(call.operation)
        if call.kept is not None or rule is None:
            self._keep(call)
            return
        follow = self.follows.setdefault(
            id(call.operation), Follow(call.operation, call.name)
        )
        masks = _masks_of(call)
        for tensor in masks:
            for layout in self.layouts[id(tensor)]:
                layout.freeze(f"it belongs to a mask (at {call.name})")
        tensors = [tensor for tensor in call.inputs if tensor not in masks]
        inputs = [self.layouts[id(tensor)] for tensor in tensors]
        site = Site(call, inputs, follow, tensors=tensors)
        site.source_uses = self._source_uses
        try:
            outputs = as_outputs(rule(site))
            self._check_outputs(call, outputs)
        except _UNFITTING as error:
            for weight in follow.weights.values():
                for role in weight.roles.values():
                    role.layout.freeze(f"its rule does not fit (at {call.name})")
            self._keep(call, f"its rule does not fit this call: {error}")
            return
        for tensor, layouts in zip(call.outputs, outputs, strict=True):
            self.layouts[id(tensor)] = layouts
        self.inexact += site.inexact
        for tensor, axis in site.read_sources:
            self._read_source(tensor, axis)
        self.copies_only += [(layout, call.name) for layout in site.copies_only]
        self.alike += site.alike
        if not is_linear(rule):
            self.copies_only += [
                (layout, call.name)
                for layouts in inputs + outputs
                for layout in layouts
                if not layout.detached
            ]
        if site.player is not None:
            self.players[call.name] = site.player

    def _keep(self, call, reason=None):
        """Keeps a call as it is: nothing that it touches may change."""
        kind = type(call.operation).__name__
        if reason is None:
            reason = call.kept or f"no rule for the operation {kind}"
        if self._strict:
            raise UnknownOperationError(
                f"{reason[0].upper()}{reason[1:]}, at '{call.name}' ({kind}, inputs "
                f"{[t.shape for t in call.inputs]}).\n"
                f"{calls_lib.registration_hint(call.operation)}"
            )
        self.fixed.setdefault(call.name, f"{kind}: {reason}")
        self.follows.setdefault(id(call.operation), Follow(call.operation, call.name))
        why = f"it meets '{call.name}', which stays as it is"
        for tensor in call.inputs:
            for layout in self.layouts[id(tensor)]:
                layout.freeze(why)
        for tensor in call.outputs:
            self.layouts[id(tensor)] = [Layout.fixed(x, why) for x in tensor.shape]

    def _apply_shadow(self, region):
        """Couples the axes of a layer as its training mode needs them."""
        players, fixed = dict(self.players), dict(self.fixed)
        for call in region.shadow:
            self._apply_rule(call)
        self.players, self.fixed = players, fixed
        pairs = zip(region.outputs, region.shadow_outputs, strict=False)
        for one, other in pairs:
            for a, b in zip(
                self.layouts[id(one)], self.layouts[id(other)], strict=False
            ):
                unify(a, b, region.path)

    def _apply_source(self, call):
        source, tensor = call.operation, call.outputs[0]
        whole_numbers = source.variable is not None and "float" not in tensor.dtype
        layouts = []
        for axis, size in enumerate(tensor.shape):
            if source.varies:
                layouts.append(Layout.fixed(size, "a constant depends on a size"))
            elif whole_numbers:
                layouts.append(Layout.fixed(size, "its weight holds whole numbers"))
            elif size < 2:
                layouts.append(Layout.fixed(size, "it has fewer than two positions"))
            else:
                layouts.append(Layout.new(size, f"{call.name}.axis{axis}"))
        self.layouts[id(tensor)] = layouts
        self._sources[id(tensor)] = call
        follow = Follow(source, call.name)
        self.follows[id(source)] = follow
        if source.variable is not None:
            site = Site(call, [], follow)
            site.weight(source.variable, {a: writes(x) for a, x in enumerate(layouts)})

    def _read_source(self, tensor, axis):
        call = self._sources[id(tensor)]
        variable = call.operation.variable
        if variable is None:
            self.constant_roles[call.name, axis] = "reads"
            return
        roles = self.follows[id(call.operation)].weights[id(variable)].roles
        roles[axis] = reads(roles[axis].layout)

    @functools.cached_property
    def _source_uses(self):
        """Dict from the id of a source's tensor to how often it is used."""
        sources = {
            id(call.outputs[0]): 0
            for call in self.graph.calls
            if isinstance(call.operation, calls_lib.Source)
        }
        for call in self.graph.calls:
            for tensor in call.inputs:
                if id(tensor) in sources:
                    sources[id(tensor)] += 1
        return sources

    def _check_outputs(self, call, outputs):
        expected = [tensor.shape for tensor in call.outputs]
        received = [tuple(layout.size for layout in layouts) for layouts in outputs]
        fits = len(expected) == len(received) and all(
            len(a) == len(b)
            and all(x is None or y is None or x == y for x, y in zip(a, b, strict=True))
            for a, b in zip(expected, received, strict=True)
        )
        if not fits:
            raise UnknownOperationError(
                f"The rule for {type(call.operation).__name__} at '{call.name}' gives "
                f"axes of sizes {received}, but the outputs have shapes {expected}."
            )

    def _freeze_outputs(self):
        for tensor in keras.tree.flatten(self.graph.outputs):
            producer = next(
                (c.name for c in self.graph.calls if tensor in c.outputs), "an input"
            )
            for layout in self.layouts[id(tensor)]:
                layout.freeze(f"it reaches the model output '{producer}'")

    # === Looking things up ============================================================
    @property
    def groups(self):
        """List of the groups that may change, in order of appearance in the model."""
        found = {}
        for layouts in self.layouts.values():
            for layout in layouts:
                found.update(dict.fromkeys(layout.groups))
        for follow in self.follows.values():
            for weight in follow.weights.values():
                for role in weight.roles.values():
                    found.update(dict.fromkeys(role.layout.groups))
        return [group for group in found if group.frozen is None]

    def group(self, name: str) -> Group:
        """Returns the group of a name; raises `UnknownLayerError` if there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        names = [group.name for group in self.groups]
        raise UnknownLayerError(
            f"No group of channels '{name}'.{_suggest(name, names)}"
        )

    def width(self, name: str) -> Layout:
        """Returns the layout of a layer's width.

        Args:
            name: Name or path of a layer (``"conv1"``, ``"block/conv1"``), with the
                setting behind a dot where it has several (``"attention.key_dim"``).

        Raises:
            UnknownLayerError: If there is no such layer, if the name is ambiguous, or
                if the layer has no width of its own.
        """
        candidates: dict = {}
        for follow in self.follows.values():
            first = next(iter(follow.widths.values()), None)
            for known in {follow.name, follow.name.rsplit("/", 1)[-1]}:
                candidates.setdefault(known, []).append((follow, first))
                for key, layout in follow.widths.items():
                    entry = (follow, layout)
                    candidates.setdefault(f"{known}.{key}", []).append(entry)
        if name not in candidates:
            raise UnknownLayerError(
                f"Model '{self.model.name}' has no layer '{name}'."
                f"{_suggest(name, candidates)}"
            )
        found = candidates[name]
        exact = [item for item in found if name.startswith(item[0].name)]
        found = exact or found
        if len({id(follow) for follow, _ in found}) > 1:
            paths = sorted({follow.name for follow, _ in found})
            raise UnknownLayerError(
                f"'{name}' is ambiguous in model '{self.model.name}': {paths}."
            )
        follow, layout = found[0]
        if layout is None:
            kind = type(follow.operation).__name__
            raise UnknownLayerError(
                f"Layer '{name}' ({kind}) has no width of its own; it follows the "
                "layers before it."
            )
        return layout

    @property
    def weights(self):
        """List of all `Weight`, one per variable that a rule has spoken of."""
        return [w for follow in self.follows.values() for w in follow.weights.values()]

    def members(self, group: Group) -> list[tuple]:
        """Returns (weight, axis, role) for every variable axis a group appears in."""
        return [
            (weight, axis, role)
            for weight in self.weights
            for axis, role in weight.roles.items()
            if group in role.layout.groups
        ]

    def __repr__(self):
        lines = [f"ChannelGraph of '{self.model.name}'"]
        for group in self.groups:
            parts = [
                f"{weight.variable.path}[{axis}] {role.name}"
                for weight, axis, role in self.members(group)
            ]
            shown = ", ".join(parts[:4]) + (", ..." if len(parts) > 4 else "")
            lines.append(f"  {group.name}: {group.size} units: {shown}")
        return "\n".join(lines)


def _masks_of(call):
    """The tensors that are passed as masks by name."""
    masks = [value for key, value in call.kwargs.items() if "mask" in key]
    leaves = keras.tree.flatten(masks)
    return [leaf for leaf in leaves if isinstance(leaf, calls_lib.Tensor)]


def _suggest(name, known):
    near = difflib.get_close_matches(name, [k for k in known if k], n=3, cutoff=0.5)
    return f" Did you mean {', '.join(map(repr, near))}?" if near else ""


def parameters_under(graph, sizes):
    """Returns how many parameters the model would have under new group sizes."""
    total = sum(math.prod(v.shape) for v in _unique_weights(graph.model))
    for weight in graph.weights:
        total += math.prod(shape_under(weight, sizes))
        total -= math.prod(weight.variable.shape)
    return total


def _unique_weights(model):
    return list({id(weight): weight for weight in model.weights}.values())
