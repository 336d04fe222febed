"""ChannelGraph: which axes of which variables of a model move together.

In goes a model; out comes its flat graph (see `keras_megan.net2net.tracing.graph`) in
which every axis of every tensor has a `Layout`, every variable knows which layouts its
axes follow, and all conflicts have been settled by joining, splitting or freezing
groups. The groups left over that are not frozen are what a plan can change, each on its
own:

    graph = ChannelGraph(model)
    print(graph)                    # one line per group: size, and what follows it
    graph.width("conv3")            # the layout of one layer's width

Nothing is assumed of an unknown operation: it is an error that names it.
"""

import difflib
import functools
import math

import keras

from keras_megan.net2net.channels.layout import Layout
from keras_megan.net2net.channels.roles import Follow, reads, writes
from keras_megan.net2net.rules.activations import has_known_activation
from keras_megan.net2net.rules.base import RULES, Site, as_outputs, is_linear
from keras_megan.net2net.tracing import graph as graph_lib
from keras_megan.net2net.tracing.graph import trace
from keras_megan.net2net.tracing.inputs import known_shapes


class UnknownOperationError(ValueError):
    """An operation of the model has no rule."""


class UnknownLayerError(ValueError):
    """A layer was named that the model does not have, or that has no width."""


class SharedVariableError(ValueError):
    """A variable belongs to several layers, which rewriting would separate."""


def is_primitive(layer):
    """Returns whether a layer is kept whole: it has a rule that covers it."""
    return layer in RULES and has_known_activation(layer)


class ChannelGraph:
    """The channel structure of a model.

    Args:
        model: A built Keras model.
        input_shape: Shape without the batch axis (or list or dict of them), only needed
            for a subclassed model that does not know its inputs.
        count: Whether all sizes must be known, to count multiply-adds.

    Attributes:
        graph: The flat `keras_megan.net2net.tracing.graph.Graph`.
        follows: Dict from the id of an operation to its `Follow`.
        layouts: Dict from the id of a tensor to its list of `Layout`.
        players: Dict from the name of a call to the function that replays it.
        inexact: List of (layouts, reason): where leaving out channels is not the same
            as masking them.

    Raises:
        UnknownOperationError: If an operation has no rule.
        SharedVariableError: If two layers own the same variable.
        keras_megan.net2net.tracing.graph.TraceError: If the model cannot be laid out.
    """

    def __init__(self, model, input_shape=None, count=False):
        self.model = model
        if count and input_shape is None:
            input_shape = known_shapes(model)
        self.graph = trace(model, is_primitive, input_shape)
        self.follows = {}
        self.layouts = {}
        self.players = {}
        self.inexact = []
        self.copies_only = []
        self.constant_roles = {}
        self._sources = {}
        self._refuse_shared_variables()
        for tensor, name in zip(
            keras.tree.flatten(self.graph.inputs), self.graph.input_names, strict=True
        ):
            self.layouts[id(tensor)] = [
                Layout.fixed(size, f"it is the model input '{name}'")
                for size in tensor.shape
            ]
        for call in self.graph.calls:
            self._apply_rule(call)
        self._freeze_outputs()

    # === Building =====================================================================
    def _refuse_shared_variables(self):
        owners = {}
        for call in self.graph.calls:
            if not isinstance(call.operation, keras.Layer):
                continue
            for variable in call.operation.variables:
                owner = owners.setdefault(id(variable), call.operation)
                if owner is not call.operation:
                    raise SharedVariableError(
                        f"Variable '{variable.path}' belongs to two layers, "
                        f"'{owner.name}' and '{call.operation.name}'. Rewriting would "
                        "separate them; share the layer instead of the variable."
                    )

    def _apply_rule(self, call):
        if isinstance(call.operation, graph_lib.Source):
            self._apply_source(call)
            return
        rule = RULES.find(call.operation)
        if rule is None:
            raise UnknownOperationError(
                f"No rule for the operation {type(call.operation).__name__} at "
                f"'{call.name}' (inputs {[t.shape for t in call.inputs]}).\n"
                f"{graph_lib.registration_hint(call.operation)}"
            )
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
        outputs = as_outputs(rule(site))
        self._check_outputs(call, outputs)
        for tensor, layouts in zip(call.outputs, outputs, strict=True):
            self.layouts[id(tensor)] = layouts
        self.inexact += site.inexact
        for tensor, axis in site.read_sources:
            self._read_source(tensor, axis)
        self.copies_only += [(layout, call.name) for layout in site.copies_only]
        if not is_linear(rule):
            self.copies_only += [
                (layout, call.name)
                for layouts in inputs + outputs
                for layout in layouts
                if not layout.detached
            ]
        if site.player is not None:
            self.players[call.name] = site.player

    def _apply_source(self, call):
        source, tensor = call.operation, call.outputs[0]
        layouts = []
        for axis, size in enumerate(tensor.shape):
            if size == 1:
                layouts.append(Layout.fixed(1, "it has one position"))
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
            if isinstance(call.operation, graph_lib.Source)
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

    def group(self, name):
        """Returns the group of a name; raises `UnknownLayerError` if there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        names = [group.name for group in self.groups]
        raise UnknownLayerError(
            f"No group of channels '{name}'.{_suggest(name, names)}"
        )

    def width(self, name):
        """Returns the layout of a layer's width.

        Args:
            name: Name or path of a layer (``"conv1"``, ``"block/conv1"``), with the
                setting behind a dot where it has several (``"attention.key_dim"``).

        Raises:
            UnknownLayerError: If there is no such layer, if the name is ambiguous, or
                if the layer has no width of its own.
        """
        candidates = {}
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

    def members(self, group):
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
    return [leaf for leaf in leaves if isinstance(leaf, graph_lib.Tensor)]


def _suggest(name, known):
    near = difflib.get_close_matches(name, [k for k in known if k], n=3, cutoff=0.5)
    return f" Did you mean {', '.join(map(repr, near))}?" if near else ""


def size_under(layout, sizes):
    """Returns the new number of positions of a layout.

    Args:
        layout: A `Layout`.
        sizes: Dict from `Group` to its new number of units; others keep theirs.
    """
    if layout.opaque:
        return None
    return sum(sizes.get(group, group.size) * inner for group, inner in layout.segments)


def shape_under(weight, sizes):
    """Returns the new shape of a `Weight`'s variable under new group sizes."""
    shape = list(weight.variable.shape)
    for axis, role in weight.roles.items():
        shape[axis] = size_under(role.layout, sizes)
    return tuple(shape)


def parameters_under(graph, sizes):
    """Returns how many parameters the model would have under new group sizes."""
    total = sum(math.prod(v.shape) for v in _unique_weights(graph.model))
    for weight in graph.weights:
        total += math.prod(shape_under(weight, sizes))
        total -= math.prod(weight.variable.shape)
    return total


def _unique_weights(model):
    return list({id(weight): weight for weight in model.weights}.values())
