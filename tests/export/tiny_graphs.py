"""Graphs of a few operations, converted.

Constants are drawn from a generator of their own, so that a graph is the same whenever
it is built.
"""

from collections.abc import Callable

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from keras import ops

IMAGE, CLIP, ROWS = (1, 8, 8, 4), (4, 8, 8, 4), (1, 16, 8)


def constant(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def convert(function, *shapes, dtype="float32", flex=False, half=False, calibrate=()):
    """A function of tensors -> flatbuffer.

    A shape may be a TensorSpec of another type; `half` stores weights in float16;
    samples to `calibrate` with make the inside int8.
    """
    specs = [
        shape if isinstance(shape, tf.TensorSpec) else tf.TensorSpec(shape, dtype)
        for shape in shapes
    ]
    traced = tf.function(function, input_signature=specs, autograph=False)
    concrete = traced.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], traced)
    kinds = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.target_spec.supported_ops = kinds + (
        [tf.lite.OpsSet.SELECT_TF_OPS] if flex else []
    )
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    if calibrate:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample] for sample in calibrate)
    return converter.convert()


def with_options(flatbuffer, **options):
    """The same file with other options of its first operation that has them."""
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    for operation in model.subgraphs[0].operators:
        if all(hasattr(operation.builtinOptions, name) for name in options):
            vars(operation.builtinOptions).update(options)
            break
    else:
        raise ValueError(f"No operation has the options {sorted(options)}.")
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_weights_behind(flatbuffer):
    """The same file with its constants behind the flatbuffer, as quantizers write."""
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    moved = [b for b in model.buffers if b.data is not None and len(b.data)]
    contents = [bytes(buffer.data) for buffer in moved]
    for buffer, content in zip(moved, contents, strict=True):
        buffer.data, buffer.offset, buffer.size = None, 2, len(content)

    def pack():
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    end = len(pack())
    for buffer, content in zip(moved, contents, strict=True):
        buffer.offset, end = end, end + len(content)
    return pack() + b"".join(contents)


def graph(function, *shapes, **options) -> Callable[[], bytes]:
    return lambda: convert(function, *shapes, **options)


def conv(x, kernel=(3, 3, 4, 4), **options):
    return ops.conv(x, constant(*kernel), padding="same", **options)


def _unary():
    """Functions of one tensor in (0.1, oo), each one operation."""
    kernel = constant(3, 3, 4, 1)
    return [
        *(tf.abs, tf.math.ceil, tf.cos, tf.exp, tf.floor, tf.math.log),
        *(tf.negative, tf.round, tf.math.rsqrt, tf.sigmoid, tf.sign, tf.sin),
        *(tf.sqrt, tf.square, tf.tanh, tf.nn.elu, tf.nn.relu, tf.nn.relu6),
        *(tf.nn.gelu, tf.nn.leaky_relu, tf.nn.softmax),
        lambda x: x * tf.nn.relu6(x + 3.0) / 6.0,
        lambda x: tf.argmax(x, -1, output_type="int32"),
        lambda x: tf.nn.avg_pool2d(x, 2, 2, "SAME"),
        lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"),
        lambda x: tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "SAME"),
        lambda x: tf.nn.conv2d_transpose(
            x, constant(3, 3, 4, 4), (4, 16, 16, 4), 2, "SAME"
        ),
        lambda x: ops.matmul(x, constant(4, 5)),
        lambda x: tf.cumsum(x, 1),
        lambda x: tf.pad(x, ((0, 0), (1, 1), (2, 2), (0, 0))),
        lambda x: tf.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), constant_values=1.0),
        lambda x: tf.reverse(x, [1]),
        lambda x: tf.slice(x, (1, 0, 0, 0), (2, 8, 8, 4)),
        lambda x: tf.split(x, 2, -1)[1],
        lambda x: tf.split(x, [1, 3], -1)[1],
        lambda x: tf.tile(x, (1, 2, 1, 3)),
        lambda x: tf.math.top_k(x, 2)[0],
        lambda x: tf.transpose(x, (1, 2, 0, 3)),
        lambda x: tf.unstack(x, axis=0)[1],
        lambda x: tf.stack([tf.reduce_max(x, 2), tf.reduce_min(x, 2)], 1),
        lambda x: ops.image.resize(x, (16, 16), "nearest"),
        *(lambda x, f=f: f(x, 1) for f in (tf.reduce_max, tf.reduce_min)),
        lambda x: tf.reduce_prod(x, -1),
        lambda x: tf.reduce_any(x > 1, -1),
        lambda x: tf.reduce_all(x > 1, -1),
    ]


def _binary():
    comparisons = (tf.equal, tf.not_equal, tf.less, tf.less_equal, tf.greater)
    return [
        *(tf.add, tf.subtract, tf.multiply, tf.divide, tf.maximum, tf.minimum),
        *(tf.pow, tf.math.floordiv, tf.math.floormod, tf.math.squared_difference),
        *(*comparisons, tf.greater_equal, tf.atan2),
        lambda x, y: tf.logical_and(x > 1, y > 1),
        lambda x, y: tf.logical_or(x > 1, y > 1),
        lambda x, y: tf.where(x > 1, x, y),
        lambda x, y: tf.where(x[..., :1] > 1, x, y),
        lambda x, y: tf.concat([x, y], 0),
    ]


def many_operations():
    """Graphs with operations of every kind, and how far from the CPU they may be.

    Relative to the largest value; int8 may differ by two of its levels.
    """

    def outputs(x, y):
        x, y = tf.abs(x) + 0.1, tf.abs(y) + 0.1
        made = [f(x) for f in _unary()] + [f(x, y) for f in _binary()]
        return [tf.cast(t, tf.float32) if t.dtype == tf.bool else t for t in made]

    wide = (1, 8, 8, 32)
    yield convert(outputs, CLIP, CLIP), 1e-3
    yield convert(lambda x: conv(x, (3, 3, 32, 32)), wide, half=True), 1e-3
    int8 = convert(lambda x: conv(x, (3, 3, 32, 32)), wide, calibrate=[constant(*wide)])
    yield int8, 2 / 127
