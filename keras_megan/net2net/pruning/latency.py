"""Latency: how long a model takes, on this machine.

Multiply-adds say little about time: a layer with half the channels seldom takes half as
long. So `prune(model, latency=seconds)` builds every candidate and measures it, and
`latency_table` does so for a row of ratios, to see what pruning buys before choosing.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_megan.net2net.plan import PlanError, as_graph


def measure_latency(
    model: keras.Model,
    input_shape: Any = None,
    batch_size: int = 1,
    repeats: int = 20,
    warm_up: int = 3,
) -> float:
    """Measures how long one batch takes, on this machine and backend.

    Args:
        model: A built Keras model.
        input_shape: Shape of one sample without the batch axis, or a list or dict of
            shapes, where the model leaves sizes open.
        batch_size: Number of samples per batch.
        repeats: How often it is measured. The median counts, so that a machine that is
            busy now and then does little harm.
        warm_up: Calls before, in which the backend compiles.

    Returns:
        Seconds per batch.

    Raises:
        PlanError: If a size of the input is unknown.
    """
    if repeats < 1:
        raise PlanError(f"repeats must be at least 1, received {repeats!r}.")
    batch = _batch(as_graph(model).model, input_shape, batch_size)
    times = []
    for index in range(warm_up + repeats):
        started = time.perf_counter()
        model.predict_on_batch(batch)  # Gives arrays, so the work is done by then.
        if index >= warm_up:
            times.append(time.perf_counter() - started)
    return float(np.median(times))


def latency_table(
    model: Any,
    ratios: Sequence[float] = (0.0, 0.25, 0.5, 0.75),
    measure: Callable[[keras.Model], float] | None = None,
    **options: Any,
) -> list[dict[str, float]]:
    """Measures a model at several ratios.

    Args:
        model: A built Keras model.
        ratios: The ratios; 0 stands for the model as it is.
        measure: Function from a model to seconds; by default `measure_latency`. Give
            one's own to measure on the device that the model is for.
        **options: Other arguments of `keras_megan.net2net.prune`.

    Returns:
        List of dicts with ``ratio``, ``parameters`` and ``seconds``.
    """
    from keras_megan.net2net.pruning.prune import prune

    input_shape = options.get("input_shape")
    measure = measure or (lambda network: measure_latency(network, input_shape))
    graph = as_graph(model)
    rows = []
    for ratio in ratios:
        network = graph.model
        if ratio:
            network = prune(graph, ratio, **options).apply(verify=False)
        rows.append(
            {
                "ratio": ratio,
                "parameters": network.count_params(),
                "seconds": float(measure(network)),
            }
        )
    return rows


def _batch(model, input_shape, batch_size):
    """Random inputs of the model's shapes."""
    own = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    flat = keras.tree.flatten(own)
    if input_shape is None:
        shapes = [tuple(tensor.shape[1:]) for tensor in flat]
    elif isinstance(input_shape, dict):
        shapes = [tuple(input_shape[tensor.name]) for tensor in flat]
    elif all(size is None or isinstance(size, int) for size in input_shape):
        shapes = [tuple(input_shape)]
    else:
        shapes = [tuple(shape) for shape in input_shape]
    random = np.random.default_rng(0)
    arrays = []
    for tensor, shape in zip(flat, shapes, strict=True):
        if None in shape:
            raise PlanError(
                f"Input '{tensor.name}' of model '{model.name}' has shape "
                f"{tuple(tensor.shape)}: pass input_shape with every size."
            )
        shape = (batch_size, *shape)
        if "int" in tensor.dtype or tensor.dtype == "bool":
            arrays.append(np.zeros(shape, tensor.dtype))
        else:
            arrays.append(random.random(shape).astype("float32"))
    return keras.tree.pack_sequence_as(own, arrays)
