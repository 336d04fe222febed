"""Walking the nodes that Keras leaves on operations, and taking them off again."""

import contextlib
import inspect

import keras
import numpy as np

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


def signature_of(node):
    """Returns what a node does: its operation, its settings and plain arguments."""
    operation = node.operation
    kwargs = {k: v for k, v in node.arguments.kwargs.items() if k != "training"}
    arguments = keras.tree.map_structure(_describe, (node.arguments.args, kwargs))
    if isinstance(operation, keras.Layer):
        return id(operation), repr(arguments)
    settings = {
        key: _describe(value)
        for key, value in vars(operation).items()
        if not key.startswith("_") and key != "name"
    }
    return type(operation).__name__, repr(settings), repr(arguments)


def _describe(leaf):
    if isinstance(leaf, keras.KerasTensor):
        return tuple(leaf.shape)
    if isinstance(leaf, keras.Variable):
        return id(leaf)
    if isinstance(leaf, np.ndarray) or keras.ops.is_tensor(leaf):
        return keras.ops.convert_to_numpy(leaf).tobytes()
    return leaf


@contextlib.contextmanager
def looking_inside(is_primitive):
    """Lets symbolic calls of layers go as the real ones do.

    - A layer finds the shapes of its outputs by running its ``call``. Keras asks
      ``compute_output_spec``, which knows less: it loses sizes that were computed with,
      and need not take all the arguments that ``call`` takes. Of primitive layers that
      is good enough unless it loses a size.
    - Layers may return None beside tensors; Keras refuses to make a node of that.
    - Layers may add losses, which Keras takes of real tensors only.

    Args:
        is_primitive: Function from a layer to whether it is one call.

    Yields:
        Dict that gets the layers that add losses, by their id.
    """
    module = inspect.getmodule(keras.Layer)
    strict, ask = module.Node, keras.Layer.symbolic_call
    add_loss, adding = keras.Layer.add_loss, {}

    def remember(layer, loss):
        adding[id(layer)] = layer

    def node(operation, call_args=None, call_kwargs=None, outputs=None):
        leaves = keras.tree.flatten(outputs)
        tensors = [x for x in leaves if isinstance(x, keras.KerasTensor)]
        return strict(operation, call_args, call_kwargs, tensors)

    def run(layer, *args, **kwargs):
        if is_primitive(layer):
            outputs = ask(layer, *args, **kwargs)
            if _is_open(args, kwargs) or not _is_open(outputs):
                return outputs
        try:
            outputs = layer.call(*args, **kwargs)
        except Exception:  # Whatever it raises, Keras may know better.
            return ask(layer, *args, **kwargs)
        return keras.tree.map_structure(_fresh, outputs)

    module.Node, keras.Layer.symbolic_call = node, run
    keras.Layer.add_loss = remember
    try:
        yield adding
    finally:
        module.Node, keras.Layer.symbolic_call = strict, ask
        keras.Layer.add_loss = add_loss


def _is_open(*structure):
    leaves = keras.tree.flatten(structure)
    return any(isinstance(x, keras.KerasTensor) and None in x.shape for x in leaves)


def _fresh(leaf):
    """A tensor of its own in place of one that a call inside has made."""
    if isinstance(leaf, keras.KerasTensor):
        return keras.KerasTensor(leaf.shape, leaf.dtype)
    if isinstance(leaf, keras.Variable) or keras.ops.is_tensor(leaf):
        return keras.KerasTensor(
            leaf.shape, keras.backend.standardize_dtype(leaf.dtype)
        )
    return leaf
