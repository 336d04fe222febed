"""The model as a flat list of primitive calls.

In goes any built Keras 3 model: functional, sequential or subclassed, with shared
layers, nested models and composite layers in any depth. Out comes a `Graph`: its calls
in order of execution, each one call of one *primitive* operation (a layer that is known
by its exact type, or a raw ``keras.ops`` operation) with its arguments. How a composite
layer is laid out: `keras_megan.net2net.tracing.tracer`.

The model is traced with its open sizes (the batch, the length of a sequence) left open.
Where a layer does arithmetic with them (``ops.reshape(x, (ops.shape(x)[0], -1))``), it
is traced twice with different real sizes, and the two are compared
(`keras_megan.net2net.tracing.merging`).
"""

import keras
import numpy as np

from keras_megan.net2net.tracing.calls import Graph, Region, Source, TraceError
from keras_megan.net2net.tracing.inputs import (
    fresh_inputs,
    is_functional,
    with_sizes,
)
from keras_megan.net2net.tracing.merging import DisagreementError, merge
from keras_megan.net2net.tracing.nodes import layers_of
from keras_megan.net2net.tracing.tracer import Tracer, is_plain_graph, tensor_of

#: Pairs of sizes for the batch, and for every other open axis by its position. Unequal
#: and unusual, so that they are not taken for something else; small ones for models
#: with a largest length, multiples of 32 for those that halve an image five times.
_BATCHES = (3, 2)
_SIZES = (
    ((13, 19), (17, 23)),
    ((5, 7), (4, 6)),
    ((3, 3), (2, 2)),
    ((96, 64), (64, 32)),
)


def trace(model, is_primitive, input_shape=None, whole_sizes=False):
    """Lays a model out as a flat `Graph`.

    Args:
        model: A built Keras model (or any layer, if `input_shape` is given).
        is_primitive: Function from a layer to whether it is kept as one call.
        input_shape: Shape without the batch axis, or a list or dict of such shapes for
            several inputs. Optional for a model that knows its inputs.
        whole_sizes: Whether all sizes must be known; the batch size is then 1.

    Returns:
        A `Graph`. The model is left as it was.

    Raises:
        TraceError: If the model is not built, or a part of it cannot be laid out.
    """
    if not getattr(model, "built", False):
        raise TraceError(
            f"Model '{model.name}' is not built: its weights have no shapes yet. Call "
            "it once on data, or give it an Input, and try again."
        )
    attempt = _Attempt(model, is_primitive, input_shape)
    if whole_sizes:
        return attempt.accounted(lambda: attempt.once(batch=1))
    graph, failure = None, None
    try:
        graph = attempt.accounted(attempt.left_open)
        if not attempt.failed:
            return graph
    except Exception as error:
        failure = error
    for sizes in _SIZES if attempt.has_open_sizes else ():
        another = _Attempt(model, is_primitive, input_shape)
        try:
            real = another.accounted(lambda: another.twice(sizes))  # noqa: B023
        except Exception:
            continue
        # Of two that keep as many layers, the one that sees more of the model.
        if graph is None or (another.failed, -len(real.calls)) < (
            attempt.failed,
            -len(graph.calls),
        ):
            graph, attempt = real, another
        break
    if graph is not None:
        return graph
    if isinstance(failure, TraceError):
        raise failure
    raise TraceError(
        f"Model '{model.name}' ({type(model).__name__}) cannot be laid out as "
        f"keras.ops on symbolic tensors: {type(failure).__name__}: {failure}"
    ) from failure


def has_own_class(model):
    """Returns whether a model is of a class that is not one of Keras's own."""
    return type(model).__module__.split(".")[0] != "keras"


class _Attempt:
    """Tries to trace a model, keeping whole what cannot be laid out."""

    def __init__(self, model, is_primitive, input_shape):
        self.model = model
        self.kept = {}
        self._is_primitive = is_primitive
        self._input_shape = input_shape

    @property
    def failed(self):
        """Number of layers that had to be kept whole."""
        return len(self.kept)

    @property
    def has_open_sizes(self):
        fresh, _ = fresh_inputs(self.model, self._input_shape)
        return any(None in x.shape for x in keras.tree.flatten(fresh))

    def once(self, batch=None, sizes=None, nodes=False):
        """One pass; `nodes` walks the model's own graph instead of calling it."""
        tracer = Tracer(self.model, self._is_primitive, self.kept)
        fresh, names = fresh_inputs(self.model, self._input_shape, batch)
        if sizes is not None:
            fresh = with_sizes(fresh, sizes)
        inputs = keras.tree.map_structure(tensor_of, fresh)
        if nodes:
            flat = zip(
                keras.tree.flatten(fresh), keras.tree.flatten(inputs), strict=True
            )
            known = {id(symbolic): tensor for symbolic, tensor in flat}
            outputs = tracer.walk(self.model.output, known, prefix="")
        else:
            outputs = tracer.inline(self.model, (inputs,), {}, path="")
        if is_functional(self.model) and has_own_class(self.model):
            region = Region(self.model, "", (inputs,), {}, outputs)
            region.stop = len(tracer.calls)
            tracer.regions.insert(0, region)
        graph = Graph(self.model, tracer.calls, inputs, outputs, names, tracer.regions)
        graph.shapes = [
            tuple(size or _SIZES[1][0][0] for size in x.shape)
            for x in keras.tree.flatten(inputs)
        ]
        self._tracer = tracer
        return graph

    def left_open(self):
        """A pass with open sizes; a second one where constants might be random."""
        nodes = self._input_shape is None and is_functional(self.model)
        graph = self.once(nodes=nodes)
        for call in graph.calls:
            if _computes_with_none(call.operation):
                raise TraceError(f"'{call.name}' is given a size that is open.")
        if any(_may_be_random(call) for call in graph.calls):
            tracer = self._tracer
            self._merge(graph, self.once(nodes=nodes))
            self._tracer = tracer
        return graph

    def twice(self, sizes):
        """Two passes with different real sizes, laid over each other."""
        first, second = (
            (batch, *others) for batch, others in zip(_BATCHES, sizes, strict=True)
        )
        graph = self.once(sizes=first)
        tracer = self._tracer
        self._merge(graph, self.once(sizes=second))
        self._tracer = tracer
        return graph

    def _merge(self, graph, other):
        try:
            merge(graph, other)
        except DisagreementError as disagreement:
            index = disagreement.index
            inside = [r for r in graph.regions if r.start <= index < r.stop and r.path]
            if not inside:
                raise TraceError(
                    f"Model '{self.model.name}' is made of different operations for "
                    f"inputs of different sizes, from '{graph.calls[index].name}' on."
                ) from None
            self.kept[id(inside[-1].layer)] = (
                "it is made of different operations for inputs of different sizes"
            )
            raise _AgainError from None

    def accounted(self, make):
        """Repeats a pass until every variable is accounted for."""
        while True:
            try:
                graph = make()
            except _AgainError:
                continue
            unused = _unused_variable(self.model, self._tracer)
            if unused is None:
                return graph
            layer, variable = unused
            self._keep_owner(graph, layer, variable)

    def _keep_owner(self, graph, owner, variable):
        holders = [
            region
            for region in graph.regions
            if region.path and any(part is owner for part in layers_of(region.layer))
        ]
        if not holders:
            raise TraceError(
                f"Weight '{variable.path}' of layer '{owner.name}' "
                f"({type(owner).__name__}) is not used through keras.ops on the way "
                "from the model's inputs to its outputs, so nothing can follow it. "
                f"Register a rule for {type(owner).__name__}, or remove the unused "
                "layer."
            )
        holder = min(holders, key=lambda region: region.stop - region.start)
        self.kept[id(holder.layer)] = (
            f"its weight '{variable.path}' is not used through keras.ops"
        )


class _AgainError(Exception):
    """One more layer is kept whole: trace again."""


def _computes_with_none(operation):
    """Whether a shape that an operation was given holds a None."""
    if isinstance(operation, keras.Layer | Source):
        return False
    shapes = (getattr(operation, key, None) for key in ("newshape", "shape"))
    return any(isinstance(shape, list | tuple) and None in shape for shape in shapes)


def _may_be_random(call):
    source = call.operation
    if not isinstance(source, Source) or source.value is None:
        return False
    return np.issubdtype(source.value.dtype, np.floating)


def _callable_layers(model):
    """The layers that a call of the model may call.

    A functional model runs its operations; what else hangs on it does nothing.
    """
    if not is_plain_graph(model) or isinstance(model, keras.Sequential):
        return layers_of(model)
    parts = [part for part in model.operations if isinstance(part, keras.Layer)]
    return [model, *(inner for part in parts for inner in layers_of(part))]


def _unused_variable(model, tracer):
    """A (layer, variable) of the model that no recorded call uses, or None."""
    used = set(tracer.sources)
    for operation in tracer.operations:
        if isinstance(operation, keras.Layer):
            used.update(id(variable) for variable in operation.variables)
    for layer in _callable_layers(model):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            if id(variable) not in used:
                return layer, variable
    return None
