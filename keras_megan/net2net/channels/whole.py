"""Layers that must stay the layers they are: what may change in them.

A composite layer that cannot be taken apart (`Region.whole` says why) is rebuilt by
its own class. Its widths can change as far as the class's configuration has a place for
them, which is found out by trying; all other axes inside it are frozen.
"""

import numpy as np

from keras_megan.net2net.channels.index_map import IndexMap
from keras_megan.net2net.channels.layout import Layout, unify
from keras_megan.net2net.channels.maps import Maps
from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.rewriting.remake import Fitting, groups_in
from keras_megan.net2net.rewriting.special import is_special
from keras_megan.net2net.tracing.calls import Source, TraceError
from keras_megan.net2net.tracing.graph import has_own_class
from keras_megan.net2net.tracing.nodes import layers_of

#: How many configurations are tried before a width counts as one that is not there.
_TRIES = 24
#: Why a model stays whole because its user wants it so.
KEPT = "its class is kept"


class SharedVariableError(Net2NetError):
    """A variable belongs to several layers, which rewriting would separate."""


def settle_shared_variables(graph):
    """Freezes variables that several operations use, and keeps what ties them whole.

    Raises:
        SharedVariableError: If no layer around all of them could be kept.
    """
    calls = graph.graph.calls
    uses = {}
    for index, call in enumerate(calls):
        for variable in variables_of(call):
            owners = uses.setdefault(id(variable), (variable, {}))[1]
            owners.setdefault(id(call.operation), []).append(index)
    for variable, owners in uses.values():
        if len(owners) < 2:
            continue
        indices = [index for part in owners.values() for index in part]
        region = _holder(graph.graph.regions, indices)
        if region is None:
            first, second = (calls[part[0]] for part in list(owners.values())[:2])
            raise SharedVariableError(
                f"Variable '{variable.path}' belongs to two layers, '{first.name}' and "
                f"'{second.name}'. Rewriting would separate them; share the layer "
                "instead of the variable."
            )
        for follow in graph.follows.values():
            weight = follow.weights.get(id(variable))
            for role in weight.roles.values() if weight else ():
                role.layout.freeze(f"'{variable.path}' is used by several layers")
        for other in graph.graph.regions:
            if other.layer is region.layer and other.whole is None:
                other.whole = f"'{variable.path}' is used by several layers in it"


def variables_of(call):
    """Returns the variables that a call uses."""
    if isinstance(call.operation, Source):
        variable = call.operation.variable
        return [] if variable is None else [variable]
    return getattr(call.operation, "variables", [])


def _holder(regions, indices):
    """The smallest layer whose calls hold all of the given ones."""
    spans = {}
    for region in regions:
        spans.setdefault(id(region.layer), []).append(region)
    holders = [
        group
        for group in spans.values()
        if all(any(r.start <= i < r.stop for r in group) for i in indices)
    ]
    if not holders:
        return None
    return min(holders, key=lambda group: group[0].stop - group[0].start)[0]


def keep_root(graph):
    """Keeps the model of the class that it is.

    Raises:
        TraceError: If it has no class with a configuration of its own.
    """
    model = graph.model
    root = next((r for r in graph.graph.regions if not r.path), None)
    if root is None or not has_own_class(model):
        raise TraceError(
            f"Model '{model.name}' is a plain {type(model).__name__} model, and that "
            "class has no widths of its own; leave keep_class out."
        )
    root.whole = root.whole or KEPT


def settle_regions(graph):
    """Freezes what layers that must stay whole cannot take; see above.

    Raises:
        TraceError: If neither such a layer nor one around it can be rebuilt.
    """
    covered, known = 0, {}
    _widen_regions(graph)
    for region in graph.graph.regions:
        if region.whole is None or region.start < covered:
            continue
        covered = region.stop
        if region.whole != KEPT:
            graph.fixed[region.path or region.layer.name] = (
                f"{type(region.layer).__name__} stays whole, widths of its "
                f"configuration can change: {region.whole}"
            )
        for group in groups_in(graph, region):
            if group.frozen is None and group.binding is None:
                key = _key(graph, region, group)
                takes, places = known.get(key, (None, ()))
                if takes is None:
                    coupled, places = _coupled(graph, region, group)
                    takes = bool(coupled)
                    if len(coupled) < 2:
                        known[key] = takes, places
                if takes:
                    learned = graph.learned.setdefault(id(region.layer), [])
                    learned.append((Layout([(group, 1)]), places))
                else:
                    group.freeze(
                        f"'{region.path or region.layer.name}' stays whole "
                        f"({region.whole}), and its configuration has no such width"
                    )


def _widen_regions(graph):
    """Where a layer cannot be rebuilt even as it is, the one around it must be."""
    known = {}
    for region in graph.graph.regions[::-1]:
        if region.whole is None:
            continue
        if not is_separable(graph, region):
            reason = "it shares weights with layers outside of it"
        else:
            key = id(region.layer)
            if key not in known:
                fitting = Fitting(graph, region, Maps())
                known[key] = None if fitting.find(1) is not None else fitting.reason
            reason = known[key]
        if reason is None:
            continue
        around = [
            other
            for other in graph.graph.regions
            if other is not region
            and other.start <= region.start
            and region.stop <= other.stop
            and (not other.path or region.path.startswith(f"{other.path}/"))
        ]
        if not around:
            raise TraceError(
                f"{_named(region)} must stay whole ({region.whole}), but cannot be "
                f"rebuilt: {reason}. Give it a get_config that names all it was made "
                "with."
            )
        if around[-1].whole is None:
            around[-1].whole = (
                f"'{region.path}' in it cannot be taken apart ({region.whole}), nor be "
                f"rebuilt by itself ({reason})"
            )


def _named(region):
    kind = type(region.layer).__name__
    return f"Layer '{region.path}' ({kind})" if region.path else f"The model ({kind})"


def is_separable(graph, region):
    """Returns whether a layer uses no variable that is used outside of it as well."""
    own = {id(v) for part in layers_of(region.layer) for v in part.variables}
    spans = [r for r in graph.graph.regions if r.layer is region.layer]
    for index, call in enumerate(graph.graph.calls):
        if any(span.start <= index < span.stop for span in spans):
            continue
        if any(id(variable) in own for variable in variables_of(call)):
            return False
    return True


def _coupled(graph, region, group):
    """The groups that change if the layer is made with twice the units of a group.

    Groups that can only change together are joined. There are none if the layer's class
    cannot be made so. And the places of its configuration that must change for that.
    """
    twice = np.arange(2 * group.size) % group.size
    maps = Maps({group: IndexMap.copies(group.size, twice, "first")})
    if is_special(graph, region, maps):
        return {}, ()

    def alike(sizes):
        return all(
            other.frozen is None and (other.size, size) == (group.size, 2 * group.size)
            for other, size in sizes.items()
        )

    sizes, places = Fitting(graph, region, maps).coupled(_TRIES, alike)
    uneven = np.arange(group.size + (group.size + 1) // 2) % group.size
    index_map = IndexMap.copies(group.size, uneven, "first")
    if is_special(graph, region, Maps(dict.fromkeys(sizes, index_map))):
        return {}, ()
    for other in sizes:
        if other is not group:
            unify(Layout([(group, 1)]), Layout([(other, 1)]), region.path)
    return sizes, places


def _key(graph, region, group):
    """What decides whether a class can take a change; the same for equal layers."""
    variables = region.layer.variables
    weights = {id(weight.variable): weight for weight in graph.weights}
    roles = tuple(
        (index, axis, role.reads)
        for index, variable in enumerate(variables)
        if id(variable) in weights
        for axis, role in weights[id(variable)].roles.items()
        if group in role.layout.groups
    )
    shapes = tuple(tuple(variable.shape) for variable in variables)
    outside = tuple(
        (index, axis)
        for index, tensor in enumerate(region.inputs)
        for axis, layout in enumerate(graph.layouts[id(tensor)])
        if group in layout.groups
    )
    inner = not roles and not outside and id(group)
    return type(region.layer), shapes, roles, outside, group.size, inner
