"""The model as a flat list of primitive calls.

In goes any built Keras 3 model: functional, sequential or subclassed, with shared
layers, nested models and composite layers in any depth. Out comes a `Graph`: its calls
in order of execution, each one call of one *primitive* operation (a layer that is known
by its exact type, or a raw ``keras.ops`` operation) with its arguments.

Everything that is not primitive is *inlined*. Calling ``layer.call`` on symbolic
tensors lays the inner operations out as graph nodes, which are walked back from the
outputs and then treated the same way. Two things can go wrong there, and both are
refused:

- a composite layer behaves differently in training (its operations differ between
  ``training=True`` and ``training=False``): inlining would lose one of the two;
- a composite layer owns a variable that the inlined operations do not use, which means
  that it was read behind the graph's back.
"""

import contextlib
import inspect

import keras
import numpy as np

from keras_megan.net2net.tracing.calls import (
    Call,
    Graph,
    Source,
    Tensor,
    TraceError,
    registration_hint,
)
from keras_megan.net2net.tracing.inputs import fresh_inputs, is_functional
from keras_megan.net2net.tracing.nodes import NodesOf, layers_of, ordered_nodes


def trace(model, is_primitive, input_shape=None):
    """Lays a model out as a flat `Graph`.

    Args:
        model: A built Keras model (or any layer, if `input_shape` is given).
        is_primitive: Function from a layer to whether it is kept as one call.
        input_shape: Shape without the batch axis, or a list or dict of such shapes for
            several inputs. The batch size is then 1. Optional for a model that knows
            its inputs.

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
    tracer = _Tracer(model, is_primitive)
    fresh, names = fresh_inputs(model, input_shape)
    inputs = keras.tree.map_structure(_tensor_of, fresh)
    if input_shape is None and is_functional(model):
        known = _pair_by_identity(fresh, inputs)
        outputs = tracer.walk(model.output, known, prefix="")
    else:
        positional = (inputs,)
        outputs = tracer.inline(model, positional, {}, prefix="")
    tracer.check_variables(model)
    return Graph(model, tracer.calls, inputs, outputs, names)


def _tensor_of(keras_tensor):
    return Tensor(tuple(keras_tensor.shape), keras_tensor.dtype)


def _pair_by_identity(keras_tensors, tensors):
    flat = zip(
        keras.tree.flatten(keras_tensors), keras.tree.flatten(tensors), strict=True
    )
    return {id(symbolic): tensor for symbolic, tensor in flat}


class _Tracer:
    """Collects the calls of a model in order of execution."""

    def __init__(self, model, is_primitive):
        self.calls = []
        self._is_primitive = is_primitive
        self._sources = {}
        self._operations = []
        self._names = {}
        self._owners = {}
        # Tensors are looked up by identity, so fresh ones must stay alive.
        self._alive = []
        for layer in layers_of(model):
            for variable in layer._trainable_variables + layer._non_trainable_variables:
                self._owners.setdefault(id(variable), layer)

    def walk(self, outputs, known, prefix):
        """Follows symbolic tensors back to `known` ones and records what lies between.

        Args:
            outputs: Structure of KerasTensors.
            known: Dict from the id of a KerasTensor to its `Tensor`.
            prefix: Path of the enclosing layer.

        Returns:
            `outputs` with every KerasTensor replaced by its `Tensor`.
        """
        for node in ordered_nodes(outputs, known):
            args, kwargs = keras.tree.map_structure(
                lambda leaf: self._argument(leaf, known),
                (node.arguments.args, node.arguments.kwargs),
            )
            results = self._lay_out(node, args, kwargs, prefix)
            for symbolic, tensor in zip(node.outputs, results, strict=True):
                known[id(symbolic)] = tensor
        return keras.tree.map_structure(lambda x: self._argument(x, known), outputs)

    def inline(self, layer, args, kwargs, prefix):
        """Records the operations that a composite layer's `call` is made of.

        Returns:
            The structure that the layer returns, of `Tensor`.
        """
        before = NodesOf(layer)
        try:
            outputs, known = self._call_symbolically(layer, args, kwargs)
            nodes = ordered_nodes(outputs, known)
            self._check_training(layer, args, kwargs, nodes)
            return self.walk(outputs, known, prefix)
        finally:
            before.restore()

    def check_variables(self, model):
        """Refuses a model with a weight that no recorded call uses."""
        used = {id(s.operation.variable) for s in self._sources.values()}
        for operation in self._operations:
            if not isinstance(operation, keras.Layer):
                continue
            for variable in operation.variables:
                if id(variable) in self._sources:
                    raise TraceError(
                        f"Variable '{variable.path}' of layer '{operation.name}' is "
                        "also used directly by another layer. Rewriting would separate "
                        "the two; share the layer instead of the variable."
                    )
                used.add(id(variable))
        for layer in layers_of(model):
            for variable in layer._trainable_variables + layer._non_trainable_variables:
                if id(variable) not in used:
                    raise TraceError(
                        f"Weight '{variable.path}' of layer '{layer.name}' "
                        f"({type(layer).__name__}) is not used through keras.ops on "
                        "the way from the model's inputs to its outputs, so nothing "
                        f"can follow it. Register a rule for {type(layer).__name__}, "
                        "or remove the unused layer."
                    )

    def _lay_out(self, node, args, kwargs, prefix):
        operation = node.operation
        path = f"{prefix}{operation.name}"
        primitive = not isinstance(operation, keras.Layer)
        if primitive or self._is_primitive(operation):
            outputs = [_tensor_of(x) for x in node.outputs]
            self._record(path, operation, args, kwargs, outputs)
            return outputs
        try:
            structure = self.inline(operation, args, kwargs, f"{path}/")
        except TraceError:
            raise
        except Exception as error:
            raise TraceError(
                f"Layer '{path}' ({type(operation).__name__}) is unknown and its call "
                "cannot be laid out as keras.ops on symbolic tensors: "
                f"{type(error).__name__}: {error}\n{registration_hint(operation)}"
            ) from error
        return keras.tree.flatten(structure)

    def _record(self, path, operation, args, kwargs, outputs):
        if isinstance(operation, keras.Operation) and operation not in self._operations:
            self._operations.append(operation)
        count = self._names.get(path, 0)
        self._names[path] = count + 1
        name = f"{path}:{count}" if count else path
        call = Call(name, operation, args, kwargs, outputs)
        self.calls.append(call)
        return call

    def _argument(self, leaf, known):
        if isinstance(leaf, keras.KerasTensor):
            leaf = known[id(leaf)]
        if isinstance(leaf, Tensor):
            return leaf
        if isinstance(leaf, keras.Variable):
            return self._source(leaf)
        if _is_array(leaf):
            value = keras.ops.convert_to_numpy(leaf)
            tensor = Tensor(tuple(value.shape), str(value.dtype))
            self._record("constant", Source(value=value), (), {}, [tensor])
            return tensor
        return leaf

    def _source(self, variable):
        if id(variable) not in self._sources:
            owner = self._owners.get(id(variable))
            name = variable.path.replace("/", "_")
            tensor = Tensor(tuple(variable.shape), variable.dtype)
            source = Source(variable=variable, owner=owner, name=name)
            self._sources[id(variable)] = self._record(name, source, (), {}, [tensor])
        return self._sources[id(variable)].outputs[0]

    def _call_symbolically(self, layer, args, kwargs):
        known = {}

        def fresh(leaf):
            if not isinstance(leaf, Tensor):
                return leaf
            symbolic = keras.Input(batch_shape=leaf.shape, dtype=leaf.dtype)
            known[id(symbolic)] = leaf
            self._alive.append(symbolic)
            return symbolic

        args, kwargs = keras.tree.map_structure(fresh, (args, kwargs))
        error = None
        # A composite may compute with its variables in ways that symbolic tensors do
        # not see (``ops.transpose(self.kernel)``), so symbolic tensors stand in for
        # them: for those of the layers inside too, if these bear it.
        for owners in (layers_of(layer), [layer]):
            try:
                with self._symbolic_variables(owners, known):
                    return layer.call(*args, **kwargs), known
            except Exception as failure:
                error = failure
        raise error

    @contextlib.contextmanager
    def _symbolic_variables(self, layers, known):
        kept = []
        try:
            for layer in layers:
                if isinstance(layer, keras.Function | keras.Sequential):
                    continue
                for name, value in list(vars(layer).items()):
                    if not isinstance(value, keras.Variable) or "int" in value.dtype:
                        continue
                    symbolic = keras.Input(batch_shape=value.shape, dtype=value.dtype)
                    self._alive.append(symbolic)
                    known[id(symbolic)] = value
                    kept.append((layer, name, value))
                    vars(layer)[name] = symbolic
            yield
        finally:
            for layer, name, value in kept:
                vars(layer)[name] = value

    def _check_training(self, layer, args, kwargs, nodes):
        if isinstance(layer, keras.Function | keras.Sequential):
            return
        if "training" not in inspect.signature(layer.call).parameters:
            return
        if len(args) > 1 and any(isinstance(a, bool) for a in args):
            return

        signature = [_node_signature(node) for node in nodes]
        try:
            outputs, known = self._call_symbolically(
                layer, args, {**kwargs, "training": True}
            )
            training_nodes = ordered_nodes(outputs, known)
            training_signature = [_node_signature(node) for node in training_nodes]
        except Exception as error:
            raise TraceError(
                f"Layer '{layer.name}' ({type(layer).__name__}) cannot be laid out as "
                f"keras.ops with training=True: {type(error).__name__}: {error}\n"
                f"{registration_hint(layer)}"
            ) from error
        if signature != training_signature:
            raise TraceError(
                f"Layer '{layer.name}' ({type(layer).__name__}) does different things "
                "with training=True and without, so inlining it would lose one of the "
                f"two.\n{registration_hint(layer)}"
            )


def _is_array(leaf):
    if isinstance(leaf, np.ndarray):
        return leaf.ndim > 0
    return keras.ops.is_tensor(leaf) and len(leaf.shape) > 0


def _node_signature(node):
    operation = node.operation
    if isinstance(operation, keras.Layer):
        return id(operation)
    shapes = tuple(tuple(x.shape) for x in node.input_tensors)
    return (type(operation).__name__, shapes)
