"""What the runtimes refuse, and the register of all rules.

A rule is a generator over the graph, registered with the targets it holds for. It
yields a `Trouble` for each place it objects to. The rules in this file are about what
LiteRT's runtimes refuse by name; `traps` and `web_traps` are about what its GPU
runtimes accept and compute wrongly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from export.build.flatbuffer import Graph, Operation, Tensor

#: What a file can be made for.
TARGETS = {
    "cpu": "LiteRT's CPU runtime",
    "gpu": "LiteRT's GPU runtime (ML Drift), the one on phones",
    "web": "LiteRT.js in browsers: the same GPU runtime on WebGPU, and WebAssembly",
}


@dataclass(frozen=True)
class Trouble:
    """What a rule yields: where, and what is wrong.

    Attributes:
        operation: None for an end of the graph; then there is a tensor.
        tensor: None if the operation as a whole is meant.
        message: What is wrong and what to do.
    """

    operation: Operation | None
    tensor: Tensor | None
    message: str


@dataclass(frozen=True)
class Rule:
    """A registered rule: its generator, the targets it holds for, its severity."""

    check: Callable[[Graph], Iterator[Trouble]]
    targets: tuple[str, ...]
    severity: str


RULES: dict[str, Rule] = {}


def rule(name: str, targets: tuple[str, ...] = ("gpu", "web"), severity: str = "error"):
    """Registers a generator of troubles under a name."""

    def register(check):
        RULES[name] = Rule(check, targets, severity)
        return check

    return register


def named(graph: Graph, *names: str) -> Iterator[Operation]:
    """The operations of these names."""
    return (op for op in graph.operations if op.name in names)


def shape_text(tensor: Tensor) -> str:
    """A tensor's shape for a message; '?' where it is not fixed."""
    return f"({', '.join('?' if n is None else str(n) for n in tensor.shape)})"


@rule("custom operation", targets=tuple(TARGETS))
def _custom_operation(graph):
    for op in graph.operations:
        if op.custom:
            flex = op.name.startswith("Flex")
            kind = "a TensorFlow operation" if flex else "a custom operation"
            yield Trouble(
                op,
                None,
                f"{op.name} is {kind}, which this runtime does not have: convert with "
                "TFLITE_BUILTINS alone and replace the layer that needs it.",
            )


# Up to six axes XNNPACK computes these instead of TFLite's own kernels; with seven it
# fails, and the whole file with it.
AT_MOST_SIX_AXES = set("MEAN REDUCE_MAX REDUCE_MIN SOFTMAX SUM".split())


@rule("seven axes", targets=("cpu", "web"))
def _seven_axes(graph):
    for op in named(graph, *AT_MOST_SIX_AXES):
        if op.inputs[0].rank > 6:
            yield Trouble(
                op,
                op.inputs[0],
                f"{op.name} of {shape_text(op.inputs[0])}, which has "
                f"{op.inputs[0].rank} axes; the CPU runtime refuses files that reduce "
                "more than six. Fold axes together.",
            )


@rule("resize flags")
def _resize_flags(graph):
    for op in named(graph, "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        if op.option("alignCorners") and op.option("halfPixelCenters"):
            yield Trouble(
                op,
                None,
                "align_corners and half_pixel_centers are both set, but exclude each "
                "other: set one.",
            )


@rule("dynamic shape")
def _dynamic_shape(graph):
    ends = [(None, tensor) for tensor in graph.inputs]
    inner = [(op, tensor) for op in graph.operations for tensor in op.outputs]
    # What follows from an input of unknown size needs no finding of its own.
    for pairs in (ends, inner):
        unknown = [(op, tensor) for op, tensor in pairs if None in tensor.shape]
        for op, tensor in unknown:
            yield Trouble(
                op,
                tensor,
                f"its shape {shape_text(tensor)} is not fixed and would be compiled "
                "with 1 in place of every '?': trace the model with one size.",
            )
        if unknown:
            return


@rule("too many axes")
def _too_many_axes(graph):
    ends = [(None, tensor) for tensor in graph.inputs]
    ends += [(op, tensor) for op in graph.operations for tensor in op.outputs]
    for op, tensor in ends:
        if tensor.rank > 4:
            yield Trouble(
                op,
                tensor,
                f"its shape {shape_text(tensor)} has {tensor.rank} axes; the GPU "
                "runtime's tensors have four, batch, height, width and channels. Fold "
                "axes together.",
            )


@rule("scalar operand")
def _scalar_operand(graph):
    for op in graph.operations:
        if any(tensor.rank for tensor in op.inputs):
            for tensor in op.inputs:
                if tensor.rank == 0 and not tensor.constant:
                    yield Trouble(
                        op,
                        tensor,
                        "a computed number without axes is combined with a larger "
                        "tensor, which is refused: keep the axes (keepdims=True).",
                    )


REFUSED_TYPES = {
    "int64": "use int32",
    "float64": "use float32; a numpy scalar in an expression can be the cause",
    "complex64": "compute real and imaginary parts separately",
    "complex128": "compute real and imaginary parts separately",
    "string": "leave text outside of the model",
    "resource": "freeze the variables: convert a SavedModel that owns them",
    "variant": "replace the list or the data set inside the model",
}


@rule("data type")
def _data_type(graph):
    pairs = [(None, tensor) for tensor in graph.inputs]
    pairs += [(op, t) for op in graph.operations for t in (*op.inputs, *op.outputs)]
    seen = set()
    for op, tensor in pairs:
        if tensor.dtype in REFUSED_TYPES and tensor not in seen:
            seen.add(tensor)
            yield Trouble(
                op,
                tensor,
                f"{tensor.dtype} does not exist on the GPU runtime: "
                f"{REFUSED_TYPES[tensor.dtype]}.",
            )


# What the GPU runtime names as not supported, and what does the same.
REFUSED_OPERATIONS = {
    "ADD_N": "add two at a time",
    "ARG_MIN": "ARG_MAX of the negative runs",
    "BATCH_TO_SPACE_ND": "use a convolution's own dilation",
    "BROADCAST_TO": "let the operation that follows broadcast, or tile",
    "COMPLEX_ABS": "compute in real numbers",
    "CONV_3D": "fold time into the batch or the channels and use 2-D convolutions",
    "FILL": "use a constant",
    "GATHER_ND": "sample with slices and products instead",
    "L2_NORMALIZATION": "multiply by rsqrt of the sum of squares",
    "LOCAL_RESPONSE_NORMALIZATION": "write it with an average pooling of the squares",
    "LOG_SOFTMAX": "take the logarithm of a softmax",
    "MATRIX_DIAG": "multiply with a constant mask",
    "MATRIX_SET_DIAG": "multiply with a constant mask",
    "REVERSE_SEQUENCE": "reverse the whole axis",
    "RFFT2D": "use a product with a constant matrix",
    "SCATTER_ND": "use a product with a constant matrix",
    "SEGMENT_SUM": "use a product with a constant matrix",
    "SHAPE": "trace the model with one size",
    "SPACE_TO_BATCH_ND": "use a convolution's own dilation",
    "UNIQUE": "leave it outside of the model",
    "WHERE": "use a mask: where(condition, x, y) runs",
    "WHILE": "unroll the loop, or export one step with its state as input and output",
}


@rule("refused operation")
def _refused_operation(graph):
    for op in named(graph, *REFUSED_OPERATIONS):
        yield Trouble(
            op,
            None,
            f"the GPU runtime does not have {op.name}: {REFUSED_OPERATIONS[op.name]}.",
        )


# Ran and was right, at least in one form; rules below name the forms that are not.
TRIED_OPERATIONS = set(
    "ABS ADD ARG_MAX ATAN2 AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION CONV_2D"
    " COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FLOOR"
    " FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH"
    " LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_OR LOGISTIC MAXIMUM"
    " MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW"
    " QUANTIZE REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6"
    " RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT"
    " SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE"
    " SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE"
    " TRANSPOSE_CONV UNPACK".split()
)


@rule("untried operation", severity="warning")
def _untried_operation(graph):
    for op in graph.operations:
        if (
            not op.custom
            and op.name not in TRIED_OPERATIONS
            and op.name not in REFUSED_OPERATIONS
        ):
            yield Trouble(
                op,
                None,
                f"{op.name} was not tried on the GPU runtime: run and compare.",
            )


@rule("strided slice")
def _strided_slice(graph):
    masks = {
        "shrinkAxisMask": "drops an axis: slice it to size 1 and reshape",
        "newAxisMask": "adds an axis: reshape instead",
        "ellipsisMask": "has an ellipsis: name every axis",
    }
    for op in named(graph, "STRIDED_SLICE"):
        for mask, meaning in masks.items():
            if op.option(mask):
                yield Trouble(op, None, f"the slice {meaning}.")
        strides = op.inputs[3].values
        if strides is not None and (strides < 0).any():
            yield Trouble(op, None, "the slice runs backwards: reverse the axis.")


@rule("gather indices")
def _gather_indices(graph):
    for op in named(graph, "GATHER"):
        if op.inputs[1].rank != 1:
            yield Trouble(
                op,
                op.inputs[1],
                f"it gathers with indices of shape {shape_text(op.inputs[1])}; only a "
                "list of indices is known, the same for all of the batch.",
            )


@rule("mirror padding")
def _mirror_padding(graph):
    for op in named(graph, "MIRROR_PAD"):
        if op.option("mode"):
            yield Trouble(
                op, None, "it pads symmetrically; only reflecting padding is known."
            )


@rule("constant on the left")
def _constant_on_the_left(graph):
    for op in named(graph, "BATCH_MATMUL"):
        if op.inputs[0].constant:
            yield Trouble(
                op,
                op.inputs[0],
                "the left operand of the product is a constant: transpose the product, "
                "so that the constant is on the right.",
            )


# Refused with the same tensor twice; ADD, MUL, CONCATENATION and PACK are right.
DISTINCT = set(
    "BATCH_MATMUL DIV EQUAL FLOOR_DIV FLOOR_MOD GREATER GREATER_EQUAL LESS LESS_EQUAL"
    " LOGICAL_AND LOGICAL_OR MAXIMUM MINIMUM NOT_EQUAL POW SQUARED_DIFFERENCE"
    " SUB".split()
)


@rule("same tensor twice")
def _same_tensor_twice(graph):
    for op in named(graph, *DISTINCT):
        first, second = op.inputs[:2]
        if first is second:
            ends = "aborts the process" if op.name == "BATCH_MATMUL" else "is refused"
            yield Trouble(
                op,
                first,
                f"both operands are the same tensor, which {ends}: compute the second "
                "in another way, for instance from a projection of its own.",
            )
