"""Rebuilding a composite layer, or a whole model, by its own class, in other widths.

A class's configuration is a structure of names and numbers. Which of the numbers are
the widths that change is not written anywhere, so it is tried: every number that equals
an old width becomes the new one, then fewer of them, until the new layer's variables
have exactly the shapes that the plan wants, one by one. A wrong guess that fits in
every shape would still be found by the comparison of outputs that follows.
"""

import copy
import itertools

import keras

from keras_megan.net2net.channels.sizes import shape_under
from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.rewriting.configurations import (
    only_wanted,
    places_of,
    plain_lists,
    put,
    variants,
    with_multiples,
)
from keras_megan.net2net.tracing.calls import Tensor
from keras_megan.net2net.tracing.layer_config import (
    config_of,
    functions_of,
    made_of,
    replace_initializers,
    resolve,
)
from keras_megan.net2net.tracing.nodes import NodesOf


class RemakeError(Net2NetError):
    """A layer cannot be rebuilt by its own class."""


class Fitting:
    """The search for a configuration under which a layer has the wanted shapes.

    Args:
        graph: The `ChannelGraph`.
        region: The `Region` of the layer; for a model, one around all calls.
        maps: The `Maps` that say what changes.

    Attributes:
        reason: Why the last configuration that was tried did not fit.
    """

    def __init__(self, graph, region, maps):
        self._graph = graph
        self._region = region
        self._maps = maps
        self._weights = {id(weight.variable): weight for weight in graph.weights}
        self.reason = "no configuration was tried"

    def find(self, tries, name=None):
        """Returns the new layer, built; None if no configuration fits.

        Args:
            tries: The largest number of configurations to try.
            name: Name of the new layer.
        """
        searched = self._configurations(tries, most_first=True)
        likely = itertools.chain(self._learned(), self._by_effect())
        for config, _ in itertools.chain(likely, searched):
            shapes = self._shapes_of(config)
            if shapes is not None and self._fits(shapes):
                if name is not None:
                    config["name"] = name
                return self._make(config)[0]
        return None

    def coupled(self, tries, accepts):
        """Returns what else changes in a configuration that has the wanted change.

        Args:
            tries: The largest number of configurations to try.
            accepts: Function from such a dict to whether it will do.

        Returns:
            Dict from `Group` to its new size, of all groups that change, where as
            little of the configuration changes as possible; empty if no configuration
            has the wanted change. And the places of the configuration that changed,
            each with its old number.
        """
        wanted = self._maps.sizes
        own = {id(variable) for variable in self._region.layer.variables}
        carried = {
            group
            for weight in self._graph.weights
            if id(weight.variable) in own
            for role in weight.roles.values()
            for group in role.layout.groups
        }
        for config, places in self._configurations(tries, most_first=False):
            shapes = self._shapes_of(config)
            sizes = None if shapes is None else self._sizes_of(shapes)
            if sizes is None:
                continue
            # What only passes through shows in no variable, but in what is returned.
            sizes = {**{g: n for g, n in wanted.items() if g not in carried}, **sizes}
            if wanted.items() <= sizes.items() and accepts(sizes):
                return sizes, places
        return {}, ()

    def _config(self):
        """The layer's configuration; None, with the reason, if it gives none."""
        try:
            return config_of(self._region.layer)
        except Exception as error:  # Whatever a user's get_config raises.
            self.reason = f"{type(error).__name__}: {error}"
            return None

    def _learned(self):
        """Yields the configuration in which what was found for each group changes."""
        config = plain_lists(self._config())
        if config is None:
            return
        places = []
        for layout, found in self._graph.learned.get(id(self._region.layer), ()):
            for group in layout.groups:
                size = self._maps.sizes.get(group, group.size)
                if size == group.size:
                    continue
                for path, old in found:
                    new, rest = divmod(old * size, group.size)
                    if rest:
                        return
                    places.append((path, old))
                    put(config, path, new)
        if places:
            yield config, tuple(places)

    def _by_effect(self):
        """Yields the configuration of all places that alone do only what is wanted.

        And that with the places that cannot change alone, such as one of two numbers
        of heads, of which one must divide the other.
        """
        config = plain_lists(self._config())
        if config is None:
            return
        variables = self._region.layer.variables
        before = [tuple(variable.shape) for variable in variables]
        wanted = [self._shape_under(v, self._maps.sizes) for v in variables]
        right, undecided = [], []
        changes = self._changes()
        if not changes:
            return
        for path, old, options in places_of(config, with_multiples(changes)):
            for new in options:
                changed = copy.deepcopy(config)
                put(changed, path, new)
                made = self._made(changed)
                if made is None and new in changes.get(old, ()):
                    undecided.append((path, old, new))
                elif made is not None and only_wanted(before, made[0], wanted):
                    right.append((path, old, new))
        for places in (right, right + undecided) if undecided else (right,):
            changed = copy.deepcopy(config)
            for path, _, new in places:
                put(changed, path, new)
            yield changed, tuple((path, old) for path, old, _ in places)

    def _configurations(self, tries, most_first):
        """Yields one configuration after the other, and the places that changed."""
        config = self._config()
        if config is None:
            return
        changes = self._changes()
        # A width may stand in a configuration as a multiple: of heads, or of gates.
        sets = [changes, with_multiples(changes)] if changes else [changes]
        share = max(1, tries // len(sets))
        for each in sets:
            yield from itertools.islice(variants(config, each, most_first), share)

    def _shapes_of(self, config):
        """The shapes of the variables under a configuration; None if it cannot be."""
        made = self._made(config)
        if made is None:
            return None
        variables, outputs = made
        wanted = [self._shape(tensor) for tensor in self._region.outputs]
        if outputs and not _fit(outputs, wanted):
            self.reason = f"it returns {outputs} instead of {wanted}"
            return None
        count = len(self._region.layer.variables)
        if len(variables) != count:
            self.reason = f"it has {len(variables)} variables instead of {count}"
            return None
        return variables

    def _made(self, config):
        """The shapes of variables and outputs under a configuration; None if it fails.

        Equal layers of a model have equal configurations, and the same one is tried
        for one group after the other, so each is made only once.
        """
        kind = type(self._region.layer)
        named = {key: value for key, value in config.items() if key != "name"}
        inputs = keras.tree.map_structure(
            self._described, (self._region.args, self._region.kwargs)
        )
        key = (kind, repr(named), repr(inputs))
        if key not in self._graph.tried:
            try:
                new, shapes = self._make(config)
                made = [tuple(variable.shape) for variable in new.variables], shapes
            except Exception as error:  # Whatever a class says to odd widths.
                text = str(error).strip().splitlines()
                made = f"{type(error).__name__}: {text[0] if text else ''}"
            self._graph.tried[key] = made
        found = self._graph.tried[key]
        if isinstance(found, str):
            self.reason = found
            return None
        return found

    def _described(self, leaf):
        if isinstance(leaf, Tensor):
            return repr((self._shape(leaf), leaf.dtype, leaf.mask))
        return repr(leaf)

    def _make(self, config):
        """The layer of a configuration, built, and the shapes of what it returns."""
        layer = self._region.layer
        with keras.saving.custom_object_scope(functions_of(layer)):
            new = made_of(type(layer), copy.deepcopy(config))
        return new, self._build(new)

    def _fits(self, shapes):
        """Whether every variable has the wanted shape."""
        sizes = self._maps.sizes
        for before, after in zip(self._region.layer.variables, shapes, strict=True):
            wanted = self._shape_under(before, sizes)
            if after != wanted:
                self.reason = f"'{before.path}' becomes {after} instead of {wanted}"
                return False
        return True

    def _shape_under(self, variable, sizes):
        weight = self._weights.get(id(variable))
        return tuple(variable.shape) if weight is None else shape_under(weight, sizes)

    def _sizes_of(self, shapes):
        """The sizes of all groups that explain a layer's shapes, None if none do."""
        sizes = {}
        pairs = list(zip(self._region.layer.variables, shapes, strict=True))
        for before, after in pairs:
            weight = self._weights.get(id(before))
            if len(before.shape) != len(after):
                return None
            for axis, (old, size) in enumerate(zip(before.shape, after, strict=True)):
                if old == size:
                    continue
                if weight is None or axis not in weight.roles:
                    return None
                segments = weight.roles[axis].layout.segments
                groups = {group for group, _ in segments}
                if len(groups) != 1:
                    return None
                units, rest = divmod(size, sum(inner for _, inner in segments))
                if rest or sizes.setdefault(groups.pop(), units) != units:
                    return None
        right = all(
            after == self._shape_under(before, sizes) for before, after in pairs
        )
        return sizes if right else None

    def _build(self, layer):
        if isinstance(layer, keras.Model) and layer.built:
            return []
        args, kwargs = keras.tree.map_structure(
            self._symbolic, (self._region.args, self._region.kwargs)
        )
        kept = [] if layer.built else replace_initializers(layer)
        before = NodesOf(layer)
        try:
            outputs = layer(*args, **kwargs)
        finally:
            before.restore()
            for owner, attribute, initializer in kept:
                setattr(owner, attribute, initializer)
        leaves = keras.tree.flatten(outputs)
        return [x.shape for x in leaves if isinstance(x, keras.KerasTensor)]

    def _shape(self, tensor):
        layouts = self._graph.layouts[id(tensor)]
        return tuple(self._maps.size(layout) for layout in layouts)

    def _symbolic(self, leaf):
        if not isinstance(leaf, Tensor):
            return leaf
        symbolic = keras.Input(batch_shape=self._shape(leaf), dtype=leaf.dtype)
        if leaf.mask is not None:
            symbolic._keras_mask = keras.Input(batch_shape=leaf.mask, dtype="bool")
        return symbolic

    def _changes(self):
        """Dict from an old number to the list of new ones it may have become."""
        sizes, graph, region = self._maps.sizes, self._graph, self._region
        here = set(groups_in(graph, region))
        pairs = [(group.size, n) for group, n in sizes.items() if group in here]
        own = {id(variable) for variable in region.layer.variables}
        for weight in graph.weights:
            if id(weight.variable) in own:
                old = tuple(weight.variable.shape)
                pairs += zip(old, shape_under(weight, sizes), strict=True)
        for call in graph.graph.calls[region.start : region.stop]:
            for value in graph.follows[id(call.operation)].settings.values():
                if not callable(value):
                    old = resolve(value, lambda layout: layout.size)
                    new = resolve(value, self._maps.size)
                    pairs += zip(
                        keras.tree.flatten(old), keras.tree.flatten(new), strict=True
                    )
        changes = {}
        for old, new in pairs:
            if old != new and old is not None and new not in changes.get(old, []):
                changes.setdefault(old, []).append(new)
        return changes


def groups_in(graph, region):
    """Returns the groups of all axes that a region touches."""
    layouts = [
        layout for tensor in region.inputs for layout in graph.layouts[id(tensor)]
    ]
    for call in graph.graph.calls[region.start : region.stop]:
        for tensor in call.outputs:
            layouts += graph.layouts[id(tensor)]
        for weight in graph.follows[id(call.operation)].weights.values():
            layouts += [role.layout for role in weight.roles.values()]
    return list(dict.fromkeys(g for layout in layouts for g in layout.groups))


def _fit(shapes, wanted):
    """Whether shapes agree wherever both are known."""
    return len(shapes) == len(wanted) and all(
        len(a) == len(b)
        and all(x == y or x is None or y is None for x, y in zip(a, b, strict=True))
        for a, b in zip(shapes, wanted, strict=True)
    )
