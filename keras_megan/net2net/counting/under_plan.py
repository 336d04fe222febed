"""Multiply-adds of a model under a plan, without building it."""

from keras_megan.net2net.channels.sizes import shape_under, size_under
from keras_megan.net2net.counting.macs import CallShapes, macs_of_call
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
