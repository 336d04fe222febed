"""Traps for devices: for each rule graphs that fall in and clean twins that do not."""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf
from keras import ops

from keras_megan.layers.mobile_operations import sum_in_groups
from tests.export.tiny_graphs import (
    CLIP,
    IMAGE,
    ROWS,
    constant,
    conv,
    convert,
    graph,
    with_options,
)

#: The numbers of an image in seven axes.
SEVEN = (1, 2, 4, 2, 2, 2, 4)


def indices(*shape):
    return tf.TensorSpec(shape, tf.int32)


def grouped(inputs, outputs, groups):
    kernel = (3, 3, inputs // groups, outputs)
    return graph(lambda x: conv(x, kernel), (1, 8, 8, inputs))


def correlations(reduce, *, slices=True, others=0, axis=-1):
    """Sums over channels of products of shifted images, joined."""

    def function(x, y):
        pairs = [
            (x[:, i : 6 + i], y[:, 2 - i : 8 - i]) if slices else (x + i, y)
            for i in range(3)
        ]
        sums = [reduce(a * b) for a, b in pairs]
        return ops.concatenate(sums + [reduce(x[:, :6])] * others, axis=axis)

    return graph(function, IMAGE, IMAGE)


def products(count, combine):
    """Different products, each scaled by a slice of its own, combined."""

    def function(x):
        left = x[:8] * 2.0
        return combine(
            [
                ops.matmul(left, x[n : n + 8] + 1.0) * x[:8, ..., n % 16 : n % 16 + 1]
                for n in range(count)
            ]
        )

    return graph(function, (40, 4, 16, 16))


def mean(x):
    return ops.mean(x, axis=-1, keepdims=True)


def total(x):
    return ops.sum(x, axis=-1, keepdims=True)


def resize(**options):
    return lambda: with_options(
        convert(lambda x: ops.image.resize(x, (16, 16)), IMAGE), **options
    )


def slice_with(**options):
    return lambda: with_options(convert(lambda x: x[:, 1:5] * 2.0, IMAGE), **options)


@dataclass(frozen=True)
class Case:
    """A trap: the rule about it, what comes of it on the GPU, and clean twins.

    `fails` is a status of `GpuRun`, or "wrong", or "" where nothing is claimed.
    """

    rule: str
    operation: str
    fails: str
    trap: Callable[[], bytes]
    clean: tuple[Callable[[], bytes], ...]


def case(rule, operation, fails, trap, *clean):
    return Case(rule, operation, fails, trap, clean)


CASES = {
    "flex": case(
        "custom operation",
        "FlexResizeBicubic",
        "refused",
        graph(lambda x: tf.image.resize(x, (16, 16), "bicubic"), IMAGE, flex=True),
        graph(lambda x: tf.image.resize(x, (16, 16), "bilinear"), IMAGE, flex=True),
    ),
    "a sum in seven axes": case(
        "seven axes",
        "SUM",
        "refused",
        graph(lambda x: ops.sum(ops.reshape(x, SEVEN) * 2.0, axis=-2), IMAGE),
        graph(lambda x: ops.sum(x * 2.0, axis=-2), IMAGE),
    ),
    "resize with both flags": case(
        "resize flags",
        "RESIZE_BILINEAR",
        "refused",
        resize(alignCorners=True, halfPixelCenters=True),
        resize(alignCorners=True, halfPixelCenters=False),
        resize(alignCorners=False, halfPixelCenters=True),
    ),
    "unknown size": case(
        "dynamic shape",
        "",
        "refused",
        graph(conv, tf.TensorSpec((1, None, None, 4))),
        graph(conv, IMAGE),
    ),
    "five axes": case(
        "too many axes",
        "RESHAPE",
        "refused",
        graph(lambda x: ops.sqrt(ops.abs(ops.reshape(x, (1, 2, 4, 8, 4)))), IMAGE),
        graph(lambda x: ops.sqrt(ops.abs(ops.reshape(x, (8, 1, 8, 4)))), IMAGE),
    ),
    "a computed scalar": case(
        "scalar operand",
        "ADD",
        "refused",
        graph(lambda x: x + ops.mean(x), IMAGE),
        graph(lambda x: x + ops.mean(x, keepdims=True), IMAGE),
        graph(lambda x: x + 2.0, IMAGE),
    ),
    "int64": case(
        "data type",
        "CAST",
        "refused",
        graph(lambda x: tf.cast(tf.cast(x, "int64") * 2, "float32"), IMAGE),
        graph(lambda x: tf.cast(tf.cast(x, "int32") * 2, "float32"), IMAGE),
    ),
    "float64": case(
        "data type",
        "CAST",
        "refused",
        graph(lambda x: tf.cast(x, "float64"), IMAGE),
        graph(lambda x: tf.cast(x, "float16"), IMAGE),
    ),
    "volume convolution": case(
        "refused operation",
        "CONV_3D",
        "refused",
        graph(lambda x: ops.conv(x, constant(3, 3, 3, 4, 4)), (1, 4, 4, 4, 4)),
        graph(lambda x: ops.conv(x, constant(3, 3, 4, 4)), (4, 4, 4, 4)),
    ),
    "bits": case(
        "untried operation",
        "BITWISE_XOR",
        "",
        graph(ops.bitwise_xor, indices(1, 8), indices(1, 8)),
        graph(ops.maximum, indices(1, 8), indices(1, 8)),
    ),
    "slice that drops an axis": case(
        "strided slice",
        "STRIDED_SLICE",
        "refused",
        graph(lambda x: x[0] * 2.0, IMAGE),
        graph(lambda x: ops.reshape(x[:, :, 1:3], (8, 2, 4)) * 2.0, IMAGE),
    ),
    "slice that adds an axis": case(
        "strided slice",
        "STRIDED_SLICE",
        "refused",
        slice_with(newAxisMask=1),
        slice_with(newAxisMask=0),
    ),
    "slice with an ellipsis": case(
        "strided slice",
        "STRIDED_SLICE",
        "refused",
        slice_with(ellipsisMask=8),
        slice_with(ellipsisMask=0),
    ),
    "slice that runs backwards": case(
        "strided slice",
        "STRIDED_SLICE",
        "refused",
        graph(lambda x: x[:, ::-1] * 2.0, IMAGE),
        graph(lambda x: x[:, ::2] * 2.0, IMAGE),
    ),
    "gather by a table": case(
        "gather indices",
        "GATHER",
        "refused",
        graph(lambda x, i: tf.gather(x, i, axis=1), IMAGE, indices(2, 3)),
        graph(lambda x, i: tf.gather(x, i, axis=1), IMAGE, indices(3)),
        graph(lambda x: ops.take(x, [0, 3, 1], axis=1), CLIP),
    ),
    "symmetric padding": case(
        "mirror padding",
        "MIRROR_PAD",
        "refused",
        graph(
            lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "symmetric"), CLIP
        ),
        graph(lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect"), CLIP),
    ),
    "constant times tensor": case(
        "constant on the left",
        "BATCH_MATMUL",
        "refused",
        graph(lambda x: ops.matmul(constant(1, 5, 16), x), ROWS),
        graph(lambda x: ops.matmul(x, constant(1, 8, 5)), ROWS),
    ),
    "product with itself": case(
        "same tensor twice",
        "BATCH_MATMUL",
        "crashed",
        graph(lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), ROWS),
        graph(lambda x: ops.matmul(x, ops.transpose(x * 2.0, (0, 2, 1))), ROWS),
    ),
    "difference from itself": case(
        "same tensor twice",
        "SUB",
        "refused",
        graph(lambda x: x - x, IMAGE),
        graph(lambda x: x + x, IMAGE),
        graph(lambda x: x * x, IMAGE),
        graph(lambda x: ops.concatenate([x, x], axis=-1), IMAGE),
    ),
    "pixel shuffle of a clip": case(
        "blocks of a batch",
        "DEPTH_TO_SPACE",
        "wrong",
        graph(lambda x: ops.depth_to_space(conv(x), 2), CLIP),
        graph(lambda x: ops.depth_to_space(conv(x), 2), IMAGE),
    ),
    "pixel unshuffle of a clip": case(
        "blocks of a batch",
        "SPACE_TO_DEPTH",
        "wrong",
        graph(lambda x: ops.space_to_depth(conv(x), 2), CLIP),
        graph(lambda x: ops.space_to_depth(conv(x), 2), IMAGE),
    ),
    "groups of two channels": case(
        "grouped convolution",
        "CONV_2D",
        "wrong",
        grouped(4, 4, 2),
        grouped(8, 8, 2),
        grouped(16, 8, 2),
        grouped(8, 8, 8),
    ),
    "groups that grow": case(
        "grouped convolution", "CONV_2D", "wrong", grouped(4, 16, 4), grouped(8, 16, 2)
    ),
    "groups with odd outputs": case(
        "grouped convolution", "CONV_2D", "wrong", grouped(8, 12, 2), grouped(12, 12, 3)
    ),
    "product that broadcasts": case(
        "batched product broadcasts",
        "BATCH_MATMUL",
        "wrong",
        graph(ops.matmul, (4, 16, 8), (1, 8, 5)),
        graph(ops.matmul, (4, 16, 8), (4, 8, 5)),
    ),
    "product with a broadcast constant": case(
        "batched product broadcasts",
        "BATCH_MATMUL",
        "wrong",
        graph(lambda x: ops.matmul(x, constant(1, 8, 5)), (4, 16, 8)),
        graph(lambda x: ops.matmul(x, constant(4, 8, 5)), (4, 16, 8)),
    ),
    "a constant batch": case(
        "constant widens the batch",
        "ADD",
        "wrong",
        graph(lambda x: x + constant(4, 1, 1, 4), IMAGE),
        graph(lambda x: x + constant(4, 1, 1, 4), CLIP),
        graph(lambda x: x + constant(1, 8, 8, 1), CLIP),
        graph(lambda x, y: x + y, IMAGE, (4, 1, 1, 4)),
    ),
    "joined means": case(
        "joined correlations",
        "CONCATENATION",
        "wrong",
        correlations(mean),
        correlations(mean, others=1),
        correlations(mean, slices=False),
        correlations(mean, axis=1),
        correlations(lambda x: conv(x, (1, 1, 4, 1))),
        correlations(lambda x: ops.max(x, axis=-1, keepdims=True)),
    ),
    "joined sums": case(
        "joined correlations",
        "CONCATENATION",
        "wrong",
        correlations(total),
        correlations(lambda x: ops.relu(total(x))),
    ),
    "one hot of a table": case(
        "one hot of a table",
        "ONE_HOT",
        "wrong",
        graph(lambda x: tf.one_hot(x, 3), indices(1, 4, 4)),
        graph(lambda x: tf.one_hot(x, 3), indices(1, 4)),
    ),
    "a sum of 25": case(
        "wide chain",
        "ADD",
        "",
        products(25, sum),
        products(15, sum),
        products(25, sum_in_groups),
    ),
    "an input given back": case(
        "shared output",
        "",
        "wrong",
        graph(lambda x: (x, x * 2.0), IMAGE),
        graph(lambda x: (x * 3.0, x * 2.0), IMAGE),
    ),
    "one output twice": case(
        "shared output",
        "",
        "wrong",
        graph(lambda x: (x * 2.0, x * 2.0), IMAGE),
        graph(lambda x: (x * 2.0, ops.relu(x * 2.0)), IMAGE),
    ),
}

#: An operation that the GPU runtime does not have -> a graph with it.
REFUSED = {
    "ADD_N": graph(lambda x, y, z: tf.add_n([x, y, z]), IMAGE, IMAGE, IMAGE),
    "ARG_MIN": graph(lambda x: tf.argmin(x, -1, output_type="int32"), IMAGE),
    "BATCH_TO_SPACE_ND": graph(
        lambda x: tf.batch_to_space(x, (2, 2), ((0, 0), (0, 0))), CLIP
    ),
    "BROADCAST_TO": graph(lambda x: tf.broadcast_to(x, CLIP), IMAGE),
    "COMPLEX_ABS": graph(lambda x: tf.abs(tf.signal.rfft2d(x)), (1, 8, 8)),
    "CONV_3D": CASES["volume convolution"].trap,
    "FILL": graph(lambda x: tf.fill((1, 8), tf.reduce_sum(x)), IMAGE),
    "GATHER_ND": graph(
        lambda x, i: tf.gather_nd(x, i, batch_dims=1), (1, 8, 4), indices(1, 3, 1)
    ),
    "L2_NORMALIZATION": graph(lambda x: tf.nn.l2_normalize(x, -1), IMAGE),
    "LOCAL_RESPONSE_NORMALIZATION": graph(tf.nn.lrn, IMAGE),
    "LOG_SOFTMAX": graph(tf.nn.log_softmax, IMAGE),
    "MATRIX_DIAG": graph(tf.linalg.diag, (1, 4)),
    "MATRIX_SET_DIAG": graph(tf.linalg.set_diag, (1, 8, 8), (1, 8)),
    "REVERSE_SEQUENCE": graph(
        lambda x: tf.reverse_sequence(x, [3], seq_axis=1, batch_axis=0), IMAGE
    ),
    "RFFT2D": graph(lambda x: tf.abs(tf.signal.rfft2d(x)), (1, 8, 8)),
    "SCATTER_ND": graph(lambda x: tf.scatter_nd([[1], [0]], x, (4, 4)), (2, 4)),
    "SEGMENT_SUM": graph(lambda x: tf.math.segment_sum(x, [0, 0, 1, 1]), (4, 4)),
    "SHAPE": graph(
        lambda x: tf.zeros(tf.shape(x)[1:2]) + x[0, :, 0, 0],
        tf.TensorSpec((1, None, 4, 4)),
    ),
    "SPACE_TO_BATCH_ND": graph(
        lambda x: tf.space_to_batch(x, (2, 2), ((0, 0), (0, 0))), CLIP
    ),
    "UNIQUE": graph(lambda x: tf.unique(x)[0], (8,)),
    "WHERE": graph(lambda x: tf.where(x > 0), IMAGE),
    "WHILE": graph(
        lambda x: tf.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, ops.tanh(y)), (0, x)
        )[1],
        IMAGE,
    ),
}
