"""Walking the nodes that Keras leaves on operations, and taking them off again."""

import keras

from keras_megan.net2net.tracing.calls import TraceError


def layers_of(model):
    """Returns a layer and all layers inside it, as a list."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def _node_of(symbolic):
    history = getattr(symbolic, "_keras_history", None)
    if history is None or history.operation is None:
        raise TraceError(
            f"Tensor '{symbolic.name}' does not come from the model's inputs."
        )
    return history.operation._inbound_nodes[history.node_index]


def ordered_nodes(outputs, known):
    """All nodes between `known` tensors and `outputs`, each after what it needs."""
    ordered, finished = [], set()
    stack = []
    for leaf in reversed(keras.tree.flatten(outputs)):
        if isinstance(leaf, keras.KerasTensor):
            stack.append((leaf, False))
    while stack:
        symbolic, ready = stack.pop()
        if id(symbolic) in known:
            continue
        node = _node_of(symbolic)
        if id(node) in finished:
            continue
        if ready:
            finished.add(id(node))
            ordered.append(node)
            continue
        if not node.input_tensors:
            raise TraceError(
                f"The graph reaches '{node.operation.name}', which is not one of the "
                "inputs it is traced from."
            )
        stack.append((symbolic, True))
        for parent in reversed(node.input_tensors):
            stack.append((parent, False))
    return ordered


class NodesOf:
    """Remembers how many nodes a layer's operations have, to drop later ones."""

    def __init__(self, layer):
        operations = {}
        for part in layers_of(layer):
            inner = getattr(part, "_functional", None)
            for owner in (part, inner):
                if owner is not None:
                    operations[id(owner)] = owner
                if isinstance(owner, keras.Function):
                    operations.update((id(x), x) for x in owner.operations)
        self._counts = [
            (x, len(x._inbound_nodes), len(x._outbound_nodes))
            for x in operations.values()
        ]

    def restore(self):
        """Takes the nodes made since off the operations."""
        for operation, inbound, outbound in self._counts:
            del operation._inbound_nodes[inbound:]
            del operation._outbound_nodes[outbound:]
