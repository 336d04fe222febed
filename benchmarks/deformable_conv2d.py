"""How many plain 3x3 convolutions does a deformable convolution cost?

    python -m benchmarks.deformable_conv2d [--rounds 30] [--json result.json]

Measures, on the TensorFlow backend, a plain 3x3 Conv2D, a textbook deformable
convolution (four gathers with validity masks), `deformable_conv2d` and the whole
`DeformableConv2D` layer including the convolution that predicts its offsets; each as
a graph and compiled by XLA, which is what Keras's fit and predict use. All candidates
take turns in every round, so that a busy machine slows all of them alike; a ratio is
the time in units of the plain convolution *as a graph*, the faster of its two modes.
Prints a table and, if asked, writes JSON.
"""

import argparse
import os
import platform
import time
from pathlib import Path

from keras_megan.files import write_json

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import numpy as np
import tensorflow as tf
from keras import ops
from rich.console import Console
from rich.table import Table

from keras_megan.layers.motion.deformable_conv2d import (
    DeformableConv2D,
    deformable_conv2d,
)

TAPS = 9


def four_gathers(inputs, offsets, masks, kernel, bias):
    """The textbook form: four gathers, validity masks, one matrix product."""
    batch, height, width, channels = inputs.shape
    groups = offsets.shape[3]
    group_channels = channels // groups
    tap_y, tap_x = (np.array(a) for a in zip(*np.ndindex(3, 3), strict=True))
    y = offsets[..., 0] + np.arange(height).reshape(-1, 1, 1, 1) + (tap_y - 1.0)
    x = offsets[..., 1] + np.arange(width).reshape(-1, 1, 1) + (tap_x - 1.0)
    top, left = ops.floor(y), ops.floor(x)
    flat = ops.reshape(inputs, (-1, groups, group_channels))
    flat = ops.reshape(ops.transpose(flat, (1, 0, 2)), (-1, group_channels))
    image = (np.arange(batch) * height * width).reshape(-1, 1, 1, 1, 1)
    first = image + (np.arange(groups) * batch * height * width).reshape(-1, 1)
    samples = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = (1 - ops.abs(y - row)) * (1 - ops.abs(x - column)) * masks
            weight = weight * ops.cast(inside, weight.dtype)
            row_index = ops.cast(ops.clip(row, 0, height - 1), "int32")
            column_index = ops.cast(ops.clip(column, 0, width - 1), "int32")
            index = row_index * width + column_index + first.astype("int32")
            samples += weight[..., None] * ops.take(flat, index, axis=0)
    matrix = ops.reshape(kernel, (TAPS, groups, group_channels, -1))
    matrix = ops.reshape(ops.transpose(matrix, (1, 0, 2, 3)), (-1, kernel.shape[-1]))
    outputs = ops.matmul(ops.reshape(samples, (-1, matrix.shape[0])), matrix)
    return ops.reshape(outputs, (batch, height, width, -1)) + bias


def make_case(shape, groups, spread, seed=0):
    """Random features, offsets of `spread` pixels, masks, kernel and bias."""
    random = np.random.default_rng(seed)
    channels = shape[-1]
    arrays = (
        random.normal(size=shape),
        random.normal(size=(*shape[:3], groups, TAPS, 2)) * spread,
        random.uniform(size=(*shape[:3], groups, TAPS)),
        random.normal(size=(3, 3, channels, channels)) / (3 * channels**0.5),
        random.normal(size=channels),
    )
    return [tf.constant(a.astype("float32")) for a in arrays]


def make_layer(shape, groups, spread):
    """A layer whose predicted offsets have a standard deviation of `spread`."""
    layer = DeformableConv2D(shape[-1], offset_groups=groups)
    layer.build(shape)
    random = np.random.default_rng(1)
    scale = spread / (3 * shape[-1] ** 0.5)
    layer.offset_kernel.assign(random.normal(size=layer.offset_kernel.shape) * scale)
    return layer


def candidates(shape, groups, spread):
    """Name -> function of (inputs, offsets, masks, kernel, bias)."""
    layer = make_layer(shape, groups, spread)
    return {
        "plain 3x3 Conv2D": lambda x, o, m, k, b: ops.conv(x, k, padding="same") + b,
        "four gathers": four_gathers,
        "deformable_conv2d": deformable_conv2d,
        "DeformableConv2D layer": lambda x, o, m, k, b: layer(x),
    }


def measure(functions, case, rounds):
    """Seconds of every (name, mode), one list per candidate, taken in turns."""
    compiled = {
        (name, mode): tf.function(function, jit_compile=mode == "XLA")
        for name, function in functions.items()
        for mode in ("graph", "XLA")
    }
    for function in compiled.values():
        for _ in range(3):
            function(*case)
    seconds = {key: [] for key in compiled}
    for _ in range(rounds):
        for key, function in compiled.items():
            start = time.perf_counter()
            function(*case).numpy()
            seconds[key].append(time.perf_counter() - start)
    return seconds


def summarise(seconds):
    """Rows of name, mode, fastest and median milliseconds, and the two ratios."""
    plain = np.array(seconds["plain 3x3 Conv2D", "graph"])
    return [
        {
            "name": name,
            "mode": mode,
            "fastest_ms": float(np.min(times) * 1e3),
            "median_ms": float(np.median(times) * 1e3),
            "ratio_of_fastest": float(np.min(times) / plain.min()),
            "ratio_of_medians": float(np.median(times) / np.median(plain)),
        }
        for (name, mode), times in seconds.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=4, default=(1, 64, 112, 64))
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--spread", type=float, default=2.0, help="offsets, in pixels")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args()
    shape = tuple(arguments.shape)

    case = make_case(shape, arguments.groups, arguments.spread)
    functions = candidates(shape, arguments.groups, arguments.spread)
    agreement = np.abs(deformable_conv2d(*case) - four_gathers(*case)).max()
    rows = summarise(measure(functions, case, arguments.rounds))

    table = Table(title=f"{shape}, {arguments.groups} groups, 3x3, float32")
    for heading in (
        "",
        "mode",
        "fastest ms",
        "median ms",
        "x plain",
        "x plain (median)",
    ):
        table.add_column(
            heading, justify="left" if heading in ("", "mode") else "right"
        )
    for row in rows:
        numbers = list(row.values())[2:]
        table.add_row(row["name"], row["mode"], *(f"{value:.2f}" for value in numbers))
    Console(width=100).print(table)
    print(f"largest difference from the four gathers: {agreement:.1e}")
    if arguments.json:
        machine = {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        }
        settings = {**vars(arguments), "json": str(arguments.json)}
        write_json(
            arguments.json, {"machine": machine, "settings": settings, "rows": rows}
        )


if __name__ == "__main__":
    main()
