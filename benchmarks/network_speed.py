"""How fast the networks run here, and where the time goes.

    python -m benchmarks.network_speed [--presets megan_edge,megan_mobile] [--rounds 5]

For each preset, at the published input size (4 frames of 112x64): the forward pass in
TensorFlow's plain graph mode and under XLA, the output frames per second, and the
useful multiply-adds per second against those of a large float32 matrix product measured
in the same minute. Then the same stage by stage, each alone on its real inputs. Prints
tables and writes JSON. Minimum of the rounds, since other processes only ever add time.
"""

import argparse
import os
import platform
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from keras_megan import MEGAN
from keras_megan.files import write_json
from keras_megan.net2net.counting import macs as count
from keras_megan.net2net.tracing import graph

FRAMES, HEIGHT, WIDTH = 4, 64, 112
MODES = {"graph": False, "XLA": True}


def seconds(function, *arguments, rounds):
    """The least time of one call, after one that compiles."""

    def call():
        outputs = tf.nest.flatten(function(*arguments))
        return [output.numpy() for output in outputs]

    call()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def matmul_rate(rounds, size=2048):
    """Multiply-adds per second of a square float32 matrix product."""
    matrix = tf.random.normal((size, size))
    return size**3 / seconds(tf.function(tf.matmul), matrix, matrix, rounds=rounds)


def stages(model):
    """(layer, its input tensors) of the layers that compute something."""
    for layer in model.layers:
        if layer.weights:
            yield layer, keras.tree.flatten(layer.input)


def measure(preset, rounds):
    """All numbers of one preset, as plain data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # speed does not need training
        model = MEGAN.from_preset(preset)
    frames = tf.random.uniform((1, FRAMES, HEIGHT, WIDTH, 3))
    rate = matmul_rate(rounds)
    calls = graph.trace(model, count.is_counted, (FRAMES, HEIGHT, WIDTH, 3))
    macs_by_call = count.macs_by_call(calls)
    macs = sum(macs_by_call.values())
    result = {
        "preset": preset,
        "parameters": model.count_params(),
        "macs": macs,
        "matmul_macs_per_second": rate,
        "modes": {},
        "stages": [],
    }
    for mode, compiled in MODES.items():
        forward = tf.function(
            lambda inputs: model(inputs, training=False), jit_compile=compiled
        )
        taken = seconds(forward, frames, rounds=rounds)
        result["modes"][mode] = {
            "seconds": taken,
            "frames_per_second": (2 * FRAMES - 1) / taken,
            "share_of_matmul_rate": macs / taken / rate,
        }
    best = min(MODES, key=lambda mode: result["modes"][mode]["seconds"])
    for layer, tensors in stages(model):
        values = keras.Model(model.inputs, tensors)(frames)
        values = [tf.constant(value) for value in keras.tree.flatten(values)]
        run = tf.function(lambda *v, layer=layer: layer(*v), jit_compile=MODES[best])
        taken = seconds(run, *values, rounds=rounds)
        stage_macs = sum(
            count
            for name, count in macs_by_call.items()
            if name.split("/")[0] == layer.name
        )
        result["stages"].append(
            {
                "stage": layer.name,
                "macs": stage_macs,
                "seconds": taken,
                "share_of_matmul_rate": stage_macs / taken / rate,
            }
        )
    return result


def show(result, console):
    """Prints the tables of one preset."""
    gmacs = result["matmul_macs_per_second"] / 1e9
    console.print(
        f"\n{result['preset']}: {result['parameters']:,} parameters, "
        f"{result['macs'] / 1e9:.1f} GMAC for 4 -> 7 frames of 112x64; "
        f"this machine's matrix product: {gmacs:.0f} GMAC/s"
    )
    table = Table("mode", "seconds", "output frames/s", "of the matmul rate")
    for mode, row in result["modes"].items():
        table.add_row(
            mode,
            f"{row['seconds']:.3f}",
            f"{row['frames_per_second']:.1f}",
            f"{row['share_of_matmul_rate']:.0%}",
        )
    console.print(table)
    table = Table("stage", "GMAC", "seconds", "of the matmul rate")
    for row in merged(result["stages"]):
        table.add_row(
            row["stage"],
            f"{row['macs'] / 1e9:.2f}",
            f"{row['seconds']:.3f}",
            f"{row['macs'] / row['seconds'] / result['matmul_macs_per_second']:.0%}",
        )
    console.print(table)


def merged(rows):
    """Repeated blocks (fusion_0, fusion_1, ...) as one row."""
    groups = {}
    for row in rows:
        name = row["stage"].rstrip("0123456789").rstrip("_")
        group = groups.setdefault(name, {"stage": name, "macs": 0, "seconds": 0.0})
        group["macs"] += row["macs"]
        group["seconds"] += row["seconds"]
    return list(groups.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--presets", default="megan_edge,megan_mobile")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("network_speed.json"))
    options = parser.parse_args()
    console = Console()
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
    results = [measure(name, options.rounds) for name in options.presets.split(",")]
    for result in results:
        show(result, console)
    report = {"machine": machine, "results": results}
    write_json(options.output, report)
    console.print(f"Wrote {options.output}")


if __name__ == "__main__":
    main()
