"""One pass through a model: from its nodes to a flat list of calls.

A layer that is not primitive is *inlined*: ``layer.call`` on symbolic tensors lays its
inner operations out as graph nodes, which are walked back from the outputs and treated
the same way. What was inlined is remembered as a `Region`, with the reason why it may
not be taken apart where there is one:

- it behaves differently in training: one of the two would be lost. Both are laid out,
  so that axes are coupled as either needs them;
- a Keras mask passes through it, which operations do not hand on;
- it adds a loss of its own.

A layer that cannot be inlined at all is one call, *kept* whole with a reason.
"""

import contextlib
import inspect

import keras
import numpy as np

from keras_megan.net2net.tracing.calls import (
    Call,
    Region,
    Source,
    Tensor,
    TraceError,
    tensors_in,
)
from keras_megan.net2net.tracing.nodes import (
    NodesOf,
    layers_of,
    looking_inside,
    ordered_nodes,
    signature_of,
)


def tensor_of(keras_tensor):
    """Returns the `Tensor` that describes a symbolic tensor of Keras."""
    mask = getattr(keras_tensor, "_keras_mask", None)
    return Tensor(
        tuple(keras_tensor.shape),
        keras_tensor.dtype,
        None if mask is None else tuple(mask.shape),
    )


def is_plain_graph(layer):
    """Returns whether a layer is a functional or sequential model as Keras runs it."""
    kinds = (keras.Function, keras.Sequential)
    own = type(layer).call.__qualname__ in ("Functional.call", "Sequential.call")
    return isinstance(layer, kinds) and own


def why_whole(layer):
    """Returns why a layer can never be changed, or None."""
    if getattr(layer, "quantization_mode", None):
        mode = layer.quantization_mode
        return f"its weights are quantised ({mode}): change the float model instead"
    if getattr(layer, "lora_enabled", False):
        return "it has LoRA weights: merge them into the kernel first"
    return None


def gist(error):
    """Returns the first line of an error that says what happened.

    Keras puts "Exception encountered when calling ..." before the message.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [x for x in lines if not x.startswith(("Exception encountered", "\x1b[1m"))]
    return f"{type(error).__name__}: {(told or lines or [''])[0]}"


class Tracer:
    """Collects the calls of a model in order of execution.

    Args:
        model: The model.
        is_primitive: Function from a layer to whether it is one call.
        kept: Dict from the id of a layer to why it is kept whole; it grows.
    """

    def __init__(self, model, is_primitive, kept):
        self.calls = []
        self.regions = []
        self.kept = kept
        self.sources = {}
        self.operations = []
        self._is_primitive = is_primitive
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
            symbolic = [x for x in node.outputs if isinstance(x, keras.KerasTensor)]
            for old, tensor in zip(symbolic, results, strict=True):
                known[id(old)] = tensor
        return keras.tree.map_structure(lambda x: self._argument(x, known), outputs)

    def inline(self, layer, args, kwargs, path):
        """Records the operations that a composite layer's `call` is made of.

        Args:
            layer: The layer.
            args, kwargs: Its arguments, with `Tensor` in place of tensors.
            path: Path of the layer; empty for the model itself.

        Returns:
            The structure that the layer returns, of `Tensor` and None.
        """
        region = Region(layer, path, args, kwargs, start=len(self.calls))
        plain = is_plain_graph(layer)
        if not plain:
            self.regions.append(region)
        before = NodesOf(layer)
        try:
            with looking_inside(self._is_primitive) as adding:
                outputs, known = self._call_symbolically(layer, args, kwargs)
                nodes = ordered_nodes(outputs, known)
                prefix = f"{path}/" if path else ""
                structure = self.walk(outputs, known, prefix)
                region.structure = self._apart(structure, region)
                region.stop = len(self.calls)
                if not plain:
                    self._compare_with_training(region, nodes)
        finally:
            before.restore()
        if any(tensor.mask is not None for tensor in region.inputs):
            region.whole = "a mask passes through it"
        elif layer.activity_regularizer is not None:
            region.whole = "it regularises its activity"
        elif id(layer) in adding:
            region.whole = "it adds a loss of its own"
        return region.structure

    def _apart(self, structure, region):
        """What a layer returns, as other tensors than those it was given.

        A layer that gives its input back in inference need not do so in training.
        """
        given = {id(tensor) for tensor in region.inputs}
        if is_plain_graph(region.layer):
            return structure

        def apart(leaf):
            if not isinstance(leaf, Tensor) or id(leaf) not in given:
                return leaf
            copy = Tensor(leaf.shape, leaf.dtype)
            same = keras.layers.Identity(dtype=leaf.dtype)
            self._record(f"{region.path}/same", same, (leaf,), {}, [copy])
            return copy

        return keras.tree.map_structure(apart, structure)

    # === One call =====================================================================
    def _lay_out(self, node, args, kwargs, prefix):
        operation = node.operation
        path = f"{prefix}{operation.name}"
        symbolic = [x for x in node.outputs if isinstance(x, keras.KerasTensor)]
        reason = None
        if isinstance(operation, keras.Layer):
            reason = self.kept.get(id(operation)) or why_whole(operation)
            if reason is None and not self._is_primitive(operation):
                structure = self._try_inline(operation, args, kwargs, path)
                if structure is not None:
                    outputs = tensors_in(structure)
                    self._hand_masks_on(operation, outputs, symbolic)
                    return outputs
                reason = self.kept[id(operation)]
        outputs = [tensor_of(x) for x in symbolic]
        self._record(path, operation, args, kwargs, outputs, reason)
        return outputs

    def _try_inline(self, layer, args, kwargs, path):
        """What `inline` gives; None if the layer cannot be laid out."""
        state = self._state()
        try:
            structure = self.inline(layer, args, kwargs, path)
            if not tensors_in(structure):
                raise TraceError("it returns no tensor")
            return structure
        except Exception as error:
            # Whatever a user's layer raises on symbolic tensors.
            self._return_to(state)
            self.kept[id(layer)] = f"it cannot be laid out as keras.ops: {gist(error)}"
            return None

    def _hand_masks_on(self, layer, outputs, symbolic):
        for tensor, old in zip(outputs, symbolic, strict=True):
            mask = getattr(old, "_keras_mask", None)
            if mask is not None:
                tensor.mask = tuple(mask.shape)
                for region in self.regions:
                    if region.layer is layer and region.whole is None:
                        region.whole = "a mask passes through it"

    def _state(self):
        return (
            list(self.calls),
            list(self.regions),
            dict(self.sources),
            list(self.operations),
            dict(self._names),
        )

    def _return_to(self, state):
        self.calls, self.regions, self.sources, self.operations, self._names = state

    def _record(self, path, operation, args, kwargs, outputs, kept=None):
        if isinstance(operation, keras.Operation) and operation not in self.operations:
            self.operations.append(operation)
        count = self._names.get(path, 0)
        self._names[path] = count + 1
        name = f"{path}:{count}" if count else path
        call = Call(name, operation, args, kwargs, outputs, kept)
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
            tensor = Tensor(
                tuple(value.shape), keras.backend.standardize_dtype(leaf.dtype)
            )
            self._record("constant", Source(value=value), (), {}, [tensor])
            return tensor
        return leaf

    def _source(self, variable):
        if id(variable) not in self.sources:
            owner = self._owners.get(id(variable))
            name = variable.path.replace("/", "_")
            tensor = Tensor(tuple(variable.shape), variable.dtype)
            source = Source(variable=variable, owner=owner, name=name)
            self.sources[id(variable)] = self._record(name, source, (), {}, [tensor])
        return self.sources[id(variable)].outputs[0]

    # === Calling a layer on symbolic tensors ==========================================
    def _call_symbolically(self, layer, args, kwargs):
        known = {}

        def fresh(leaf):
            if not isinstance(leaf, Tensor):
                return leaf
            symbolic = keras.Input(batch_shape=leaf.shape, dtype=leaf.dtype)
            if leaf.mask is not None:
                symbolic._keras_mask = keras.Input(batch_shape=leaf.mask, dtype="bool")
            known[id(symbolic)] = leaf
            self._alive.append(symbolic)
            return symbolic

        args, kwargs = keras.tree.map_structure(fresh, (args, kwargs))
        kwargs = _accepted(layer, kwargs)
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

    def _compare_with_training(self, region, nodes):
        """Lays the layer out in training mode too, if that is something else."""
        layer = region.layer
        if "training" not in inspect.signature(layer.call).parameters:
            return
        if len(region.args) > 1 and any(isinstance(a, bool) for a in region.args):
            return
        kwargs = {**region.kwargs, "training": True}
        outputs, known = self._call_symbolically(layer, region.args, kwargs)
        in_training = ordered_nodes(outputs, known)
        if list(map(signature_of, nodes)) == list(map(signature_of, in_training)):
            return
        state = self._state()
        self.calls = []
        try:
            structure = self.walk(outputs, known, f"{region.path}/")
            region.shadow = self.calls
            region.shadow_outputs = tensors_in(structure)
        finally:
            self._return_to(state)
        region.whole = "it behaves differently in training"


def _accepted(layer, kwargs):
    """The arguments that a layer's `call` takes; Keras drops the others too."""
    parameters = inspect.signature(layer.call).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return kwargs
    return {key: value for key, value in kwargs.items() if key in parameters}


def _is_array(leaf):
    if isinstance(leaf, np.ndarray):
        return leaf.ndim > 0
    return keras.ops.is_tensor(leaf) and len(leaf.shape) > 0
