"""Average pooling to a fixed number of bins, whatever the image's size.

Bin i of `bins` along an axis of `length` pixels averages the pixels from
floor(i*length/bins) to ceil((i+1)*length/bins), so bins overlap where the length is no
multiple and repeat pixels where the image has fewer pixels than bins (adaptive average
pooling as the other frameworks define it).

Where the size is known and a multiple of the bins, this is plain average pooling, one
operation that every runtime has. Elsewhere each axis is one matrix product with a
(bins x length) matrix, which works for sizes known only at run time.

Averages and 1x1 convolutions commute, so whoever needs averages of convolved features
pools first and convolves a few bins instead of all pixels.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("keras_megan")
class AdaptiveAveragePooling(layers.Layer):
    """Averages an image into grids of bins: (N, H, W, C), any H, W >= 1.

    Output shape: (N, S, S, C) for one grid with S bins a side; for several grids all
    their bins in a row, (N, sum of S*S, 1, C).

    Args:
        bins: S, or a list of them.
    """

    def __init__(self, bins: int | Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.bins = tuple(bins) if isinstance(bins, Sequence) else int(bins)

    def call(self, inputs):
        batch, _, _, channels = ops.shape(inputs)
        if isinstance(self.bins, int):
            pooled = adaptive_average_pool(inputs, self.bins)
            return ops.reshape(pooled, (batch, self.bins, self.bins, channels))
        pooled = [adaptive_average_pool(inputs, bins) for bins in self.bins]
        tokens = sum(bins**2 for bins in self.bins)
        pooled = ops.concatenate(pooled, axis=1)
        return ops.reshape(pooled, (batch, tokens, 1, channels))

    def compute_output_shape(self, input_shape):
        batch, _, _, channels = input_shape
        if isinstance(self.bins, int):
            return (batch, self.bins, self.bins, channels)
        return (batch, sum(bins**2 for bins in self.bins), 1, channels)

    def get_config(self):
        return {**super().get_config(), "bins": self.bins}


def pooling_matrix(length, bins):
    """The (bins, length) float32 matrix that averages an axis into bins.

    Args:
        length: the axis' size, an integer or a scalar integer tensor.
        bins: the number of bins, an integer.
    """
    first = ops.arange(bins, dtype="int32")[:, None]
    pixel = ops.arange(length, dtype="int32")[None, :]
    inside = (pixel >= first * length // bins) & (
        pixel < ((first + 1) * length + bins - 1) // bins
    )
    inside = ops.cast(inside, "float32")
    return inside / ops.sum(inside, axis=1, keepdims=True)


def adaptive_average_pool(inputs, bins):
    """Averages (N, H, W, C) into (N, bins*bins, C), row-major bins; any H, W >= 1."""
    batch, height, width, channels = ops.shape(inputs)
    if _is_multiple(inputs.shape[1], bins) and _is_multiple(inputs.shape[2], bins):
        window = (height // bins, width // bins)
        pooled = ops.average_pool(inputs, window, window, data_format="channels_last")
        return ops.reshape(pooled, (batch, bins * bins, channels))
    rows = ops.cast(pooling_matrix(height, bins), inputs.dtype)
    columns = ops.cast(pooling_matrix(width, bins), inputs.dtype)
    pooled = ops.matmul(rows, ops.reshape(inputs, (batch, height, width * channels)))
    pooled = ops.reshape(pooled, (batch * bins, width, channels))
    pooled = ops.matmul(columns, pooled)
    return ops.reshape(pooled, (batch, bins * bins, channels))


def _is_multiple(size, bins):
    return size is not None and size % bins == 0
