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

Variables and arrays used directly by raw operations (``x * self.gamma``) become calls
of a `Source`, so that whatever holds for tensors holds for them as well.
"""

import contextlib
import dataclasses
import inspect

import keras
import numpy as np


class TraceError(ValueError):
    """A model, or a layer inside it, cannot be laid out as a graph."""


@dataclasses.dataclass(eq=False)
class Tensor:
    """A symbolic tensor: an edge of the graph.

    Attributes:
        shape: Tuple of sizes, None where unknown.
        dtype: Name of its data type.
    """

    shape: tuple
    dtype: str


@dataclasses.dataclass(eq=False)
class Source:
    """A variable or a constant array that a raw operation uses directly.

    Attributes:
        variable: The `keras.Variable`, or None for a constant.
        value: The constant as a numpy array, or None for a variable.
        owner: The layer that owns the variable, or None.
    """

    variable: object = None
    value: object = None
    owner: object = None
    name: str = "constant"


@dataclasses.dataclass(eq=False)
class Call:
    """One call of one primitive operation: a node of the graph.

    Attributes:
        name: Path of the operation in the model, such as ``"block1/conv"``; unique in
            the graph (a later call of a shared layer has ``":1"`` behind it).
        operation: The `keras.Operation`, or a `Source`.
        args: Positional arguments; `Tensor` where the model passes a tensor.
        kwargs: Keyword arguments, likewise.
        outputs: List of `Tensor`, the outputs in flat order.
    """

    name: str
    operation: object
    args: tuple
    kwargs: dict
    outputs: list

    @property
    def inputs(self):
        """The tensors among the arguments, in flat order."""
        leaves = keras.tree.flatten((self.args, self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


@dataclasses.dataclass(eq=False)
class Graph:
    """A model laid out flat.

    Attributes:
        model: The model it was traced from.
        calls: List of `Call` in order of execution.
        inputs: Structure (as the model takes it) of `Tensor`.
        outputs: Structure (as the model returns it) of `Tensor`.
        input_names: One name per input, in flat order.
    """

    model: object
    calls: list
    inputs: object
    outputs: object
    input_names: list


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
    fresh, names = _fresh_inputs(model, input_shape)
    inputs = keras.tree.map_structure(_tensor_of, fresh)
    if input_shape is None and _is_functional(model):
        known = _pair_by_identity(fresh, inputs)
        outputs = tracer.walk(model.output, known, prefix="")
    else:
        positional = (inputs,)
        outputs = tracer.inline(model, positional, {}, prefix="")
    tracer.check_variables(model)
    return Graph(model, tracer.calls, inputs, outputs, names)


def known_shapes(model):
    """Returns the model's input shapes without the batch axis; None if it has none.

    Raises:
        TraceError: If a size is unknown.
    """
    own = _model_inputs(model)
    if own is None:
        return None
    own = keras.tree.flatten(own)
    for tensor in own:
        if None in tensor.shape[1:]:
            raise TraceError(
                f"Input '{tensor.name}' of model '{model.name}' has shape "
                f"{tuple(tensor.shape)}: pass input_shape with every size."
            )
    return [tuple(tensor.shape[1:]) for tensor in own]


def _is_functional(model):
    return isinstance(model, keras.Function) and not isinstance(model, keras.Sequential)


def _tensor_of(keras_tensor):
    return Tensor(tuple(keras_tensor.shape), keras_tensor.dtype)


def _pair_by_identity(keras_tensors, tensors):
    flat = zip(
        keras.tree.flatten(keras_tensors), keras.tree.flatten(tensors), strict=True
    )
    return {id(symbolic): tensor for symbolic, tensor in flat}


def _model_inputs(model):
    """The model's own symbolic inputs as a structure, or None if it has none."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0] if model.inputs else None
    try:
        return model.input
    except (AttributeError, ValueError):
        return None


def _fresh_inputs(model, input_shape):
    """Symbolic inputs to trace with, and their names."""
    own = _model_inputs(model)
    if input_shape is None:
        if own is None:
            raise TraceError(
                f"Model '{model.name}' does not know the shape of its inputs; pass "
                "input_shape (without the batch axis)."
            )
        flat = keras.tree.flatten(own)
        if _is_functional(model):
            return own, [tensor.name for tensor in flat]
        fresh = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype), own
        )
        return fresh, [tensor.name for tensor in flat]
    if own is None:
        return _inputs_from_shapes(input_shape)
    flat = keras.tree.flatten(own)
    shapes = _match_shapes(model, own, flat, input_shape)
    fresh = [
        keras.Input(batch_shape=(1, *shape), dtype=tensor.dtype)
        for tensor, shape in zip(flat, shapes, strict=True)
    ]
    return keras.tree.pack_sequence_as(own, fresh), [tensor.name for tensor in flat]


def _is_shape(value):
    return isinstance(value, list | tuple) and all(
        size is None or isinstance(size, int | np.integer) for size in value
    )


def _inputs_from_shapes(input_shape):
    if _is_shape(input_shape):
        fresh = keras.Input(batch_shape=(1, *input_shape))
    elif isinstance(input_shape, dict):
        fresh = {k: keras.Input(batch_shape=(1, *v)) for k, v in input_shape.items()}
    else:
        fresh = [keras.Input(batch_shape=(1, *shape)) for shape in input_shape]
    return fresh, [tensor.name for tensor in keras.tree.flatten(fresh)]


def _match_shapes(model, own, flat, input_shape):
    """One full shape per model input, with the model's unknown sizes filled in."""
    if _is_shape(input_shape):
        given = [tuple(input_shape)]
    elif isinstance(input_shape, dict):
        keys = list(own) if isinstance(own, dict) else [x.name for x in flat]
        unknown = sorted(set(input_shape) - set(keys))
        if unknown or len(input_shape) != len(keys):
            raise TraceError(
                f"Model '{model.name}' has the inputs {keys}, received shapes for "
                f"{list(input_shape)}."
            )
        by_key = keras.tree.flatten(own) if not isinstance(own, dict) else None
        if by_key is None:
            order = {id(tensor): key for key, tensor in own.items()}
            given = [tuple(input_shape[order[id(tensor)]]) for tensor in flat]
        else:
            given = [tuple(input_shape[tensor.name]) for tensor in flat]
    else:
        given = [tuple(shape) for shape in input_shape]
    if len(given) != len(flat):
        raise TraceError(
            f"Model '{model.name}' has {len(flat)} inputs, received {len(given)} "
            "shapes."
        )
    for tensor, shape in zip(flat, given, strict=True):
        expected = tuple(tensor.shape[1:])
        fits = len(expected) == len(shape) and all(
            a is None or a == b for a, b in zip(expected, shape, strict=True)
        )
        if not fits:
            raise TraceError(
                f"Input '{tensor.name}' of model '{model.name}' has shape {expected} "
                f"without the batch axis, received input_shape {shape}."
            )
    return given


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
        for layer in _layers_of(model):
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
        for node in _ordered_nodes(outputs, known):
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
        outputs, known = self._call_symbolically(layer, args, kwargs)
        nodes = _ordered_nodes(outputs, known)
        try:
            self._check_training(layer, args, kwargs, nodes)
            return self.walk(outputs, known, prefix)
        finally:
            _forget(nodes)

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
        for layer in _layers_of(model):
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
        for owners in (_layers_of(layer), [layer]):
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
            training_nodes = _ordered_nodes(outputs, known)
            training_signature = [_node_signature(node) for node in training_nodes]
            _forget(training_nodes)
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


def registration_hint(operation):
    """The three lines that make an unknown operation known, for error messages."""
    if isinstance(operation, keras.Layer):
        key = type(operation).__name__
    else:
        key = f'"ops.{type(operation).__name__}"'
    return (
        "If it treats every channel alike and by itself, say so:\n"
        f"    @net2net.register_rule({key})\n"
        "    def per_channel(site):\n"
        "        return site.inputs[0]\n"
        "For anything else see 'How to register a rule' in keras_megan.net2net.rules."
    )


def _layers_of(model):
    return list(model._flatten_layers(include_self=True, recursive=True))


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


def _node_of(symbolic):
    history = getattr(symbolic, "_keras_history", None)
    if history is None or history.operation is None:
        raise TraceError(
            f"Tensor '{symbolic.name}' does not come from the model's inputs."
        )
    return history.operation._inbound_nodes[history.node_index]


def _ordered_nodes(outputs, known):
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


def _forget(nodes):
    """Takes nodes made while tracing off the operations, newest first."""
    for node in reversed(nodes):
        if node in node.operation._inbound_nodes:
            node.operation._inbound_nodes.remove(node)
        for symbolic in node.input_tensors:
            parent = symbolic._keras_history.operation
            if parent is not None and node in parent._outbound_nodes:
                parent._outbound_nodes.remove(node)
