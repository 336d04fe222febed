"""Recalibration: the running statistics of a network that was changed.

Pruning leaves out channels, so what flows behind them has another mean and variance
than the batch normalisations learned. They are off by more with every layer, and much
of what pruning seems to cost is only that. A few hundred samples set it right, without
training and without targets (Wu & Johnson, "Rethinking 'Batch' in BatchNorm",
arXiv:2105.07576, section 3).
"""

import contextlib
from typing import Any

import keras
import numpy as np

from keras_megan.net2net.pruning.importances.data import Data

#: Layers that are random in training, and the attribute that says how much.
_RANDOM = {
    keras.layers.Dropout: "rate",
    keras.layers.SpatialDropout1D: "rate",
    keras.layers.SpatialDropout2D: "rate",
    keras.layers.SpatialDropout3D: "rate",
    keras.layers.GaussianDropout: "rate",
    keras.layers.AlphaDropout: "rate",
    keras.layers.GaussianNoise: "stddev",
}


def recalibrate(model: keras.Model, data: Any, batch_size: int = 64) -> keras.Model:
    """Measures the running statistics of all batch normalisations again, in place.

    Every batch goes through the model as in training, without dropout and noise. A
    layer's mean and variance become those of all samples together, not a moving
    average. Weights do not change.

    Args:
        model: A built Keras model, such as a pruned one.
        data: Inputs: an array, a list or dict of arrays, a tuple (inputs, targets) of
            which the targets are ignored, a ``tf.data.Dataset``, a
            `keras.utils.PyDataset`. A few hundred samples of the training data.
        batch_size: Samples per batch, where the data are not batched already. Each
            batch is normalised by its own statistics, so 32 or more are good.

    Returns:
        The model. One without batch normalisations stays as it is.

    Raises:
        Net2NetError: If the data cannot be read.
    """
    batches = Data(data, batch_size)
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not layers:
        return model
    sums = [[0.0, 0.0] for _ in layers]
    samples = 0
    with _as_measuring(model, layers):
        for batch in batches:
            model(batch.inputs, training=True)
            samples += batch.size
            for layer, total in zip(layers, sums, strict=True):
                mean = _float64(layer.moving_mean)
                variance = _float64(layer.moving_variance)
                total[0] = total[0] + batch.size * mean
                total[1] = total[1] + batch.size * (variance + np.square(mean))
    for layer, (first, second) in zip(layers, sums, strict=True):
        mean = first / samples
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(np.maximum(second / samples - mean**2, 0.0))
    return model


def _float64(variable):
    return np.asarray(keras.ops.convert_to_numpy(variable.value), dtype=np.float64)


@contextlib.contextmanager
def _as_measuring(model, layers):
    """Statistics become those of the last batch; nothing in the model is random."""
    kept = []
    for layer in layers:
        for attribute, value in (("momentum", 0.0), ("trainable", True)):
            kept.append((layer, attribute, getattr(layer, attribute)))
            setattr(layer, attribute, value)
    for layer in model._flatten_layers():
        attribute = _RANDOM.get(type(layer))
        if attribute is not None:
            kept.append((layer, attribute, getattr(layer, attribute)))
            setattr(layer, attribute, 0.0)
    try:
        yield
    finally:
        for layer, attribute, value in kept:
            setattr(layer, attribute, value)
