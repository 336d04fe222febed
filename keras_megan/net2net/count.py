"""Multiply-adds and parameters of any Keras model, of every operation by its own rule.

`count_macs(model, input_shape)` lays the model out as a flat graph of primitive calls
(see `keras_megan.net2net.graph`) with a batch of one, and adds up what each call costs.
What is counted, per sample, for one forward pass:

- convolutions (plain, grouped, transposed, depthwise, separable), dense layers, einsum
  and matmul: one multiply-add per product that the definition names. Padding is counted
  as computed; a transposed convolution counts each input position times its kernel;
- attention: the projections, and both products with the attention matrix;
- recurrent layers: kernel and recurrent kernel, once per step;
- everything else is 0: biases, normalisation, activations, poolings, element-wise
  arithmetic, resizing, data movement.

FLOPs in the literature are usually two per multiply-add. These are the conventions of
the usual counters (ptflops, fvcore, Torch-Pruning), so ResNet50 at 224x224 gives
3.86 GMAC for Keras's architecture.

A layer of one's own is counted with `register_macs`, which also makes it a primitive:

    @net2net.register_macs(MyAttention)
    def my_attention_macs(call):
        frames, channels = call.inputs[0][1:]
        return frames * frames * channels
"""

import dataclasses
import math

import keras

from keras_megan.net2net import graph as graph_lib
from keras_megan.net2net.registry import OperationRegistry
from keras_megan.net2net.rules import RULES

_MACS = OperationRegistry("multiply-add count")


class UnknownCostError(ValueError):
    """A layer's multiply-adds cannot be counted because nobody said how."""


@dataclasses.dataclass(frozen=True)
class CallShapes:
    """What a counting function gets: one call, with all shapes known.

    Attributes:
        operation: The layer or raw operation.
        inputs: List of shapes, one per input tensor, batch axis included.
        outputs: List of shapes, likewise.
        resized: Dict from the id of a variable to its shape, for variables that a plan
            resizes.
        name: Path of the call in the model.
    """

    operation: object
    inputs: list
    outputs: list
    resized: dict = dataclasses.field(default_factory=dict)
    name: str = ""

    def weight(self, variable):
        """Returns the shape of one of the operation's variables."""
        return self.resized.get(id(variable), tuple(variable.shape))

    def part(self, operation, inputs, outputs):
        """Returns the same for a layer inside this one."""
        return CallShapes(operation, inputs, outputs, self.resized, self.name)


def register_macs(*operation_types):
    """Decorator: says how many multiply-adds an operation takes.

    The function gets a `CallShapes` and returns an integer.

    Args:
        *operation_types: `keras.Layer` classes, or ``"ops.<ClassName>"`` for raw
            `keras.ops` operations.
    """
    return _MACS.register(*operation_types)


def is_counted(layer):
    """Returns whether a layer is counted as a whole, without looking inside."""
    return layer in _MACS or layer in RULES


def macs_of_call(call):
    """Returns the multiply-adds of one call.

    Args:
        call: A `CallShapes`.

    Raises:
        UnknownCostError: If the layer has matrices but no registered count.
    """
    count = _MACS.find(call.operation)
    if count is not None:
        return int(count(call))
    if isinstance(call.operation, keras.Layer):
        matrices = [v.path for v in call.operation.weights if len(v.shape) > 1]
        if matrices:
            kind = type(call.operation).__name__
            raise UnknownCostError(
                f"Nobody said how many multiply-adds layer '{call.name}' ({kind}) "
                f"takes, and it has the weights {matrices}. Register it:\n"
                f"    @net2net.register_macs({kind})\n"
                f"    def {kind.lower()}_macs(call):\n"
                "        return ...  # from call.inputs, call.outputs, call.weight(v)"
            )
    return 0


def count_macs(model, input_shape=None):
    """Counts the multiply-adds of one forward pass of one sample.

    Args:
        model: A built Keras model or layer.
        input_shape: Shape of the input without the batch axis, or a list or dict of
            shapes for several inputs. It fills in sizes that the model leaves open
            (None), and may be left out if there are none.

    Returns:
        The number of multiply-adds, an integer. See the module docstring for what is
        counted.

    Raises:
        UnknownCostError: If a layer with matrices is not known.
        keras_megan.net2net.graph.TraceError: If the model cannot be laid out, or
            `input_shape` does not fit it.
    """
    shapes = input_shape or graph_lib.known_shapes(model)
    graph = graph_lib.trace(model, is_counted, shapes)
    return sum(macs_by_call(graph).values())


def macs_by_call(graph):
    """Returns a dict from the name of each call to its multiply-adds."""
    counts = {}
    for call in graph.calls:
        if isinstance(call.operation, graph_lib.Source):
            continue
        inputs = [tensor.shape for tensor in call.inputs]
        outputs = [tensor.shape for tensor in call.outputs]
        shapes = CallShapes(call.operation, inputs, outputs, name=call.name)
        try:
            counts[call.name] = macs_of_call(shapes)
        except TypeError as error:
            if all(None not in shape for shape in inputs + outputs):
                raise
            raise graph_lib.TraceError(
                f"The multiply-adds of '{call.name}' depend on a size that is not "
                f"known (inputs {inputs}, outputs {outputs}). Pass input_shape."
            ) from error
    return counts


def count_params(model):
    """Counts the parameters of a model: all weights, the non-trainable ones included.

    Args:
        model: A built Keras model or layer.

    Returns:
        The number of parameters, an integer. A weight that is shared counts once.
    """
    if not getattr(model, "built", False):
        raise graph_lib.TraceError(f"Model '{model.name}' is not built.")
    unique = {id(weight): math.prod(weight.shape) for weight in model.weights}
    return sum(unique.values())


# === Convolutions =====================================================================
@register_macs(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
def _convolution(call):
    # Kernel (..., inputs per group, filters); the output holds the filters already.
    return math.prod(call.outputs[0]) * math.prod(
        call.weight(call.operation.kernel)[:-1]
    )


@register_macs(
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
def _transposed_convolution(call):
    # Kernel (..., filters, inputs); the input holds its channels already.
    return math.prod(call.inputs[0]) * math.prod(
        call.weight(call.operation.kernel)[:-1]
    )


@register_macs(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
def _depthwise_convolution(call):
    return math.prod(call.outputs[0]) * math.prod(
        call.weight(call.operation.kernel)[:-2]
    )


@register_macs(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def _separable_convolution(call):
    layer = call.operation
    pointwise = call.weight(layer.pointwise_kernel)
    positions = math.prod(call.outputs[0]) // pointwise[-1]
    per_position = math.prod(call.weight(layer.depthwise_kernel)) + math.prod(pointwise)
    return positions * per_position


@register_macs("ops.Conv")
def _raw_convolution(call):
    return math.prod(call.outputs[0]) * math.prod(call.inputs[1][:-1])


@register_macs("ops.DepthwiseConv")
def _raw_depthwise_convolution(call):
    return math.prod(call.outputs[0]) * math.prod(call.inputs[1][:-2])


@register_macs("ops.ConvTranspose")
def _raw_transposed_convolution(call):
    return math.prod(call.inputs[0]) * math.prod(call.inputs[1][:-1])


# === Products of matrices =============================================================
@register_macs(keras.layers.Dense)
def _dense(call):
    return math.prod(call.outputs[0]) * call.weight(call.operation.kernel)[0]


@register_macs("ops.Matmul")
def _matmul(call):
    return math.prod(call.outputs[0]) * call.inputs[0][-1]


@register_macs("ops.Dot")
def _dot_product(call):
    return math.prod(call.outputs[0]) * call.inputs[0][-1]


@register_macs(keras.layers.Dot)
def _dot_layer(call):
    axes = call.operation.axes
    axis = axes if isinstance(axes, int) else axes[0]
    return math.prod(call.outputs[0]) * call.inputs[0][axis]


def einsum_macs(equation, shapes):
    """Returns the multiply-adds of an einsum: the product of all its index ranges.

    Args:
        equation: Einsum equation with an explicit output.
        shapes: One shape per operand.
    """
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes = {}
    for term, shape in zip(terms, shapes, strict=True):
        before, dots, after = term.partition("...")
        for letter, size in zip(before, shape, strict=False):
            sizes[letter] = size
        if dots:
            for letter, size in zip(reversed(after), reversed(shape), strict=False):
                sizes[letter] = size
            hidden = shape[len(before) : len(shape) - len(after)]
            for position, size in enumerate(reversed(hidden)):
                key = ("...", position)
                sizes[key] = max(size, sizes.get(key, 1))
    return math.prod(sizes.values())


@register_macs(keras.layers.EinsumDense)
def _einsum_dense(call):
    kernel = call.weight(call.operation.kernel)
    return einsum_macs(call.operation.equation, [call.inputs[0], kernel])


@register_macs("ops.Einsum")
def _einsum(call):
    if len(call.inputs) == 1:
        return 0
    return einsum_macs(call.operation.subscripts, call.inputs)


@register_macs("ops.Tensordot")
def _tensordot(call):
    axes = call.operation.axes
    if isinstance(axes, int):
        summed = call.inputs[0][len(call.inputs[0]) - axes :]
    else:
        first = [axes[0]] if isinstance(axes[0], int) else axes[0]
        summed = [call.inputs[0][axis] for axis in first]
    return math.prod(call.outputs[0]) * math.prod(summed)


# === Attention ========================================================================
@register_macs(keras.layers.MultiHeadAttention)
def _multi_head_attention(call):
    layer = call.operation
    query, value, key = _query_value_key(call)
    kernels = [
        call.weight(part.kernel)
        for part in (layer.query_dense, layer.key_dense, layer.value_dense)
    ]
    output = call.weight(layer.output_dense.kernel)
    positions = [math.prod(shape[:-1]) for shape in (query, key, value)]
    macs = sum(
        count * math.prod(kernel)
        for count, kernel in zip(positions, kernels, strict=True)
    )
    macs += positions[0] * math.prod(output)
    attended = math.prod(key[axis] for axis in layer.attention_axes)
    macs += positions[0] * attended * (math.prod(kernels[0][-2:]))
    macs += positions[0] * attended * (math.prod(kernels[2][-2:]))
    if getattr(layer, "_use_gate", False):
        macs += positions[0] * query[-1] * math.prod(kernels[2][-2:])
    return macs


@register_macs(keras.layers.GroupQueryAttention)
def _group_query_attention(call):
    layer = call.operation
    query, value, key = _query_value_key(call)
    weights = {
        variable.path.rsplit("/", 2)[-2]: call.weight(variable)
        for variable in layer.weights
        if variable.path.endswith("kernel")
    }
    batch, targets = query[0], query[1]
    macs = query[0] * query[1] * math.prod(weights["query"])
    macs += key[0] * key[1] * math.prod(weights["key"])
    macs += value[0] * value[1] * math.prod(weights["value"])
    macs += batch * targets * math.prod(weights["attention_output"])
    if "gate" in weights:
        macs += batch * targets * math.prod(weights["gate"])
    return macs + 2 * batch * targets * key[1] * math.prod(weights["query"][-2:])


def _query_value_key(call):
    query, value = call.inputs[:2]
    key = call.inputs[2] if len(call.inputs) > 2 else value
    if len(key) != len(value):
        key = value  # The third tensor is a mask.
    return query, value, key


@register_macs(keras.layers.Attention, keras.layers.AdditiveAttention)
def _dot_attention(call):
    query, value = call.inputs[:2]
    key = call.inputs[2] if len(call.inputs) > 2 else value
    scores = query[0] * query[1] * key[1]
    return scores * (query[-1] + value[-1])


@register_macs("ops.DotProductAttention")
def _raw_attention(call):
    query, key, value = call.inputs[:3]
    batch, targets, heads, size = query
    return batch * targets * heads * key[1] * (size + value[-1])


# === Recurrent layers =================================================================
@register_macs(keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU)
def _recurrent(call):
    cell = call.operation.cell
    steps = math.prod(call.inputs[0][:2])
    kernels = (call.weight(cell.kernel), call.weight(cell.recurrent_kernel))
    return steps * sum(math.prod(kernel) for kernel in kernels)


@register_macs(
    keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D
)
def _convolutional_recurrent(call):
    layer, cell = call.operation, call.operation.cell
    batch, steps = call.inputs[0][:2]
    spatial = layer.compute_output_shape(tuple(call.inputs[0]))
    if isinstance(spatial[0], list | tuple):
        spatial = spatial[0]
    spatial = spatial[-1 - layer.rank : -1]
    if layer.data_format == "channels_first":
        spatial = call.outputs[0][-layer.rank :]
    kernels = (call.weight(cell.kernel), call.weight(cell.recurrent_kernel))
    macs = sum(math.prod(kernel) for kernel in kernels)
    return batch * steps * math.prod(spatial) * macs


@register_macs(keras.layers.Bidirectional)
def _bidirectional(call):
    layer = call.operation
    return sum(
        macs_of_call(call.part(part, call.inputs[:1], call.outputs[:1]))
        for part in (layer.forward_layer, layer.backward_layer)
    )


@register_macs(keras.layers.TimeDistributed)
def _time_distributed(call):
    source, target = call.inputs[0], call.outputs[0]
    inner = call.part(
        call.operation.layer,
        [(source[0], *source[2:])],
        [(target[0], *target[2:])],
    )
    if not isinstance(inner.operation, keras.Model) or inner.operation in _MACS:
        return source[1] * macs_of_call(inner)
    return source[1] * count_macs(inner.operation, source[2:])


# === No multiply-adds, in spite of their matrices =====================================
@register_macs(
    keras.layers.Embedding,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
)
def _free(call):
    return 0
