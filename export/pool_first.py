"""Averages before convolving, where that is the same.

A 1x1 convolution computes every pixel by itself, and averages are sums, so

    CONV_2D 1x1 -> AVERAGE_POOL_2D   =   AVERAGE_POOL_2D -> CONV_2D 1x1

up to rounding, with the convolution on the few pixels that are left. Attention layers
describe queries and keys by such averages; layers that read the same features share
them. Only convolutions in floating point, without an activation, that nothing but
pooling reads: 8 bits would round differently.
"""

from ai_edge_litert import schema_py_generated as schema

from export.graph_edit import FLOATS, Code, GraphEdit, editable, packed

_PLAIN = schema.ActivationFunctionType.NONE


def pool_first(flatbuffer: bytes) -> bytes:
    """The same network with averages taken before 1x1 convolutions.

    Args:
        flatbuffer: A TFLite model.

    Returns:
        The flatbuffer; the very same if there is nothing to exchange.
    """
    model = editable(flatbuffer)
    edits = [GraphEdit(model, graph) for graph in model.subgraphs]
    return packed(model) if sum(map(_exchange, edits)) else flatbuffer


def _exchange(edit: GraphEdit) -> int:
    """Rewrites one graph in place; how many convolutions changed their place."""
    convolutions = {
        int(operation.outputs[0]): operation
        for operation in edit.graph.operators
        if _computes_pixels_to_pool(edit, operation)
    }
    operators = []
    pooled: dict[tuple, int] = {}
    for operation in edit.graph.operators:
        if int(operation.outputs[0]) in convolutions:
            continue
        convolution = convolutions.get(int(operation.inputs[0]))
        if convolution is None:
            operators.append(operation)
            continue
        image, *weights = map(int, convolution.inputs)
        result = int(operation.outputs[0])
        key = (image, *_window(operation))
        if key not in pooled:
            sizes = (*edit.sizes(result)[:-1], edit.sizes(image)[-1])
            pooled[key] = edit.new_tensor(image, sizes)
            operators.append(edit.copy_of(operation, [image], pooled[key]))
        operators.append(edit.copy_of(convolution, [pooled[key], *weights], result))
    edit.graph.operators = operators
    return len(convolutions)


def _computes_pixels_to_pool(edit: GraphEdit, operation) -> bool:
    """Whether an operation is a 1x1 convolution that only pooling reads."""
    if edit.code(operation) != Code.CONV_2D:
        return False
    image, filters = map(int, operation.inputs[:2])
    (result,) = map(int, operation.outputs)
    options, readers = operation.builtinOptions, edit.readers.get(result, [])
    _, *taps, inputs = edit.sizes(filters)
    weights = edit.constant(filters)
    return (
        taps == [1, 1]
        and weights is not None
        and weights.type in FLOATS
        and inputs == edit.sizes(image)[-1]
        and (options.strideH, options.strideW) == (1, 1)
        and options.fusedActivationFunction == _PLAIN
        and edit.graph.tensors[result].type == schema.TensorType.FLOAT32
        and bool(readers)
        and result not in map(int, edit.graph.outputs)
        and all(_averages(edit, reader) for reader in readers)
    )


def _averages(edit: GraphEdit, operation) -> bool:
    options = operation.builtinOptions
    return (
        edit.code(operation) == Code.AVERAGE_POOL_2D
        and options.padding == schema.Padding.VALID
        and options.fusedActivationFunction == _PLAIN
    )


def _window(operation) -> tuple[int, ...]:
    options = operation.builtinOptions
    return (
        options.filterHeight,
        options.filterWidth,
        options.strideH,
        options.strideW,
    )
