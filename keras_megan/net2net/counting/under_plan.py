"""Costs of a model under a plan, without building it."""

from keras_megan.net2net.channels.channel_graph import (
    ChannelGraph,
    parameters_under,
)
from keras_megan.net2net.channels.sizes import shape_under, size_under
from keras_megan.net2net.counting.macs import CallShapes, macs_of_call
from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.tracing.calls import Source


def macs_under(graph, sizes):
    """Returns the multiply-adds that a model would have with other group sizes.

    Args:
        graph: A `ChannelGraph` in which all sizes are known (``count=True``).
        sizes: Dict from `Group` to its new number of units.
    """
    resized = {id(w.variable): shape_under(w, sizes) for w in graph.weights}
    total = 0
    for call in graph.graph.calls:
        if isinstance(call.operation, Source):
            continue
        shapes = [
            [
                tuple(size_under(layout, sizes) for layout in graph.layouts[id(tensor)])
                for tensor in tensors
            ]
            for tensors in (call.inputs, call.outputs)
        ]
        total += macs_of_call(CallShapes(call.operation, *shapes, resized, call.name))
    return total


def costs_under(plan):
    """Returns what a plan saves or spends, as lines of text: before -> after.

    Parameters always; multiply-adds of one sample where every size of the model is
    known and every operation can be counted. Nothing for plans that insert layers.

    Args:
        plan: A `keras_megan.net2net.plan.Plan`.
    """
    if plan.insertions:
        return []
    before = parameters_under(plan.graph, {})
    lines = [f"parameters: {before:,} -> {plan.parameters:,}"]
    try:
        counting = ChannelGraph(plan.model, count=True)
        known = {group.name: group for group in counting.groups}
        sizes = {known[group.name]: size for group, size in plan.sizes.items()}
        old, new = macs_under(counting, {}), macs_under(counting, sizes)
    except (Net2NetError, KeyError):
        return lines
    return [*lines, f"multiply-adds: {old:,} -> {new:,} ({new / max(old, 1):.0%})"]
