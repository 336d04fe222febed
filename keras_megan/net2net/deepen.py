"""Net2DeeperNet: insert layers that change nothing, and can learn.

An identity layer (Chen, Goodfellow & Shlens, arXiv:1511.05641) may follow where the
activation before it is idempotent, f(f(x)) = f(x): ReLU, ReLU6, none. It then gets that
activation itself. After any other activation it is inserted without one. An identity
convolution has a one in the centre of its kernel and needs 'same' padding; the function
is kept exactly, error 0.

A residual block x + F(x) with zeros in F's last layer is exact after anything.

A batch normalisation between would not be an identity as it is initialised (its epsilon
alone gives 5e-4). Its gamma and beta are set to undo the mean and variance measured on
data, which is exact in inference; in training mode it is exact only for data with these
statistics, so it is not the default.
"""

from typing import Any

import keras
import numpy as np

from keras_megan.net2net.channels.activations import activation_of, is_idempotent
from keras_megan.net2net.channels.channel_graph import UnknownLayerError
from keras_megan.net2net.plan import Plan, PlanError, as_graph
from keras_megan.net2net.rewriting import rewrite
from keras_megan.net2net.rewriting.insertion import Insertion

_CONVOLUTIONS = {
    3: keras.layers.Conv1D,
    4: keras.layers.Conv2D,
    5: keras.layers.Conv3D,
}
_DEPTHWISE = {3: keras.layers.DepthwiseConv1D, 4: keras.layers.DepthwiseConv2D}
_KINDS = ("identity", "depthwise", "residual")


def deepen(
    model: Any,
    after: str,
    kind: str = "identity",
    count: int = 1,
    kernel_size: int | tuple[int, ...] = 3,
    groups: int = 1,
    use_bias: bool = True,
    batch_norm: Any = None,
    name: str | None = None,
    strict: bool = False,
) -> Plan:
    """Plans a deeper model that computes the same function.

    Args:
        model: A built Keras model (or its `ChannelGraph`).
        after: Name of the layer behind which to insert.
        kind: ``"identity"``: a dense layer or convolution; ``"depthwise"``: a depthwise
            convolution; ``"residual"``: x + F(x), F of two dense layers or convolutions
            with a ReLU between and zeros in the last.
        count: How many to insert, one behind the other.
        kernel_size: Size of the convolutions.
        groups: Groups of the convolutions.
        use_bias: Whether the inserted layers have a bias.
        batch_norm: None, or inputs of the model on which to measure the mean and
            variance that an inserted batch normalisation undoes.
        name: Base of the inserted layers' names; by default ``"<after>_deeper"``.
        strict: Whether to raise an error where an operation has no rule or a layer
            cannot be laid out, instead of keeping it as it is.

    Returns:
        A `Plan`. Where the original's widths are to change too, apply one plan after
        the other.

    Raises:
        PlanError: If the kind is unknown or no such layer exists for that rank.
        UnknownLayerError: If there is no layer `after`.
    """
    if kind not in _KINDS:
        raise PlanError(f"kind must be one of {list(_KINDS)}, received {kind!r}.")
    if batch_norm is not None and kind == "residual":
        raise PlanError("A residual block is inserted without batch normalisation.")
    if count < 1:
        raise PlanError(f"count must be at least 1, received {count!r}.")
    graph = as_graph(model, strict)
    call = _find_call(graph, after)
    tensor = call.outputs[0]
    activation = _activation_behind(call)
    name = name or f"{call.name.replace('/', '_').replace(':', '_')}_deeper"
    options = {"kernel_size": kernel_size, "groups": groups, "use_bias": use_bias}
    insertions = []
    for index in range(count):
        base = name if count == 1 else f"{name}_{index + 1}"
        if kind == "residual":
            insertions.append(_residual(call, tensor, base, options))
        else:
            statistics = _measure(graph, tensor, batch_norm)
            insertions.append(
                _identity(call, tensor, base, options, activation, kind, statistics)
            )
    summary = f"insert {count} {kind} layer(s) after '{call.name}'"
    return Plan(graph, {}, insertions, summary)


def _find_call(graph, after):
    found = [
        call
        for call in graph.graph.calls
        if after in (call.name, call.name.rsplit("/", 1)[-1])
    ]
    if not found:
        graph.width(after)  # Raises with a suggestion if the name is unknown.
        raise UnknownLayerError(f"'{after}' is not called in the model.")
    if len(found) > 1:
        raise UnknownLayerError(
            f"'{after}' is ambiguous: {[call.name for call in found]}."
        )
    return found[0]


def _activation_behind(call):
    """The activation that an identity may repeat: None if it must be linear."""
    operation = call.operation
    if isinstance(operation, keras.layers.ReLU):
        plain = operation.threshold == 0 and operation.negative_slope == 0
        if plain and operation.max_value in (None, 6):
            return "relu" if operation.max_value is None else "relu6"
        return None
    if type(operation).__name__ in ("Relu", "Relu6"):
        return type(operation).__name__.lower()
    function = activation_of(operation)
    if function is not None and is_idempotent(function):
        return keras.activations.serialize(function)
    return None


def _layer_class(tensor, kind):
    rank = len(tensor.shape)
    if kind == "depthwise":
        if rank not in _DEPTHWISE:
            raise PlanError(f"There is no depthwise convolution for rank {rank}.")
        return _DEPTHWISE[rank]
    if rank == 2:
        return keras.layers.Dense
    if rank not in _CONVOLUTIONS:
        raise PlanError(f"There is no layer to insert into a tensor of rank {rank}.")
    return _CONVOLUTIONS[rank]


def _make(tensor, kind, name, options, activation=None):
    layer_class = _layer_class(tensor, kind)
    if not isinstance(tensor.shape[-1], int):
        raise PlanError("The number of channels there is not known.")
    arguments = {"use_bias": options["use_bias"], "name": name}
    arguments["activation"] = activation
    if layer_class is keras.layers.Dense:
        arguments["units"] = tensor.shape[-1]
    else:
        arguments["kernel_size"] = options["kernel_size"]
        arguments["padding"] = "same"
    if layer_class in _CONVOLUTIONS.values():
        arguments["filters"] = tensor.shape[-1]
        arguments["groups"] = options["groups"]
    if keras.config.image_data_format() == "channels_first" and len(tensor.shape) > 2:
        raise PlanError("Deepening needs channels-last data.")
    layer = layer_class(dtype=_policy(tensor), **arguments)
    return keras.saving.serialize_keras_object(layer)


def _policy(tensor):
    return tensor.dtype if tensor.dtype.startswith("float") else None


def _identity(call, tensor, name, options, activation, kind, statistics):
    last = None if statistics else activation
    layers = [_make(tensor, kind, name, options, last)]
    values = [["identity"] + ["zeros"] * bool(options["use_bias"])]
    if statistics:
        mean, variance = statistics
        norm = keras.layers.BatchNormalization(name=f"{name}_bn", dtype=_policy(tensor))
        layers.append(keras.saving.serialize_keras_object(norm))
        gamma = np.sqrt(variance + norm.epsilon)
        values.append([v.tolist() for v in (gamma, mean, mean, variance)])
        if activation is not None:
            layer = keras.layers.Activation(activation, name=f"{name}_activation")
            layers.append(keras.saving.serialize_keras_object(layer))
            values.append([])
    return Insertion(call.name, layers, values)


def _residual(call, tensor, name, options):
    layers = [
        _make(tensor, "residual", f"{name}_a", options, "relu"),
        _make(tensor, "residual", f"{name}_b", options),
    ]
    bias = ["zeros"] * bool(options["use_bias"])
    return Insertion(
        call.name, layers, [[None, *bias], ["zeros", *bias]], residual=True
    )


def _measure(graph, tensor, data):
    """Mean and variance per channel of a tensor on data; None without data."""
    if data is None:
        return None
    probe = rewrite.probe(graph, [tensor])
    output = np.asarray(keras.tree.flatten(probe.predict(data, verbose=0))[0])
    output = output.reshape(-1, output.shape[-1]).astype("float64")
    return output.mean(axis=0), output.var(axis=0)
