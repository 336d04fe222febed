"""How many multiply-adds each of Keras's operations takes; see `count`.

Every function gets a `CallShapes` and counts the products that the definition names.
"""

import math

import keras

from keras_megan.net2net.counting.macs import (
    count_macs,
    is_counted,
    macs_of_call,
    register_macs,
)


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
    rank = len(call.inputs[0]) - 3
    last = layer.data_format == "channels_last"
    spatial = call.outputs[0][-1 - rank : -1] if last else call.outputs[0][-rank:]
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
    if not isinstance(inner.operation, keras.Model) or is_counted(inner.operation):
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
