"""Bilinear upsampling by a whole factor, for sizes known only at run time too.

Half-pixel centres, edges repeated: output pixel i reads position
(i + 1/2)/scale - 1/2 of the input. For a whole factor there are only `scale`
different phases, each a fixed blend of a pixel with one neighbour, so along an axis

    out[scale*p + k] = (1 - |d_k|) in[p] + |d_k| in[p + sign(d_k)],
    d_k = (k + 1/2)/scale - 1/2

Where the size is known, the backend's own resize operation is used instead: the
same numbers, and one operation that mobile runtimes accelerate. (Keras's
UpSampling2D fails on TensorFlow for unknown sizes.)
"""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_megan")
class BilinearUpsampling(keras.layers.Layer):
    """(N, H, W, C) -> (N, scale*H, scale*W, C), bilinear with half-pixel centres.

    Args:
        scale: a whole number, at least 1.
    """

    def __init__(self, scale: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale = int(scale)

    def call(self, inputs):
        if self.scale == 1:
            return inputs
        _, height, width, channels = inputs.shape
        if height is not None and width is not None:
            size = (self.scale * height, self.scale * width)
            return ops.image.resize(inputs, size, data_format="channels_last")
        batch, height, width, _ = ops.shape(inputs)
        rows = ops.reshape(inputs, (batch, height, width * channels))
        rows = ops.reshape(
            self._phases(rows), (batch * height * self.scale, width, channels)
        )
        shape = (batch, self.scale * height, self.scale * width, channels)
        return ops.reshape(self._phases(rows), shape)

    def _phases(self, inputs):
        """(M, L, D) -> (M, L, scale, D), the blends along the middle axis."""
        before = ops.concatenate([inputs[:, :1], inputs[:, :-1]], axis=1)
        after = ops.concatenate([inputs[:, 1:], inputs[:, -1:]], axis=1)
        phases = []
        for k in range(self.scale):
            distance = (k + 0.5) / self.scale - 0.5
            neighbour = before if distance < 0 else after
            share = abs(distance)
            phases.append(inputs * (1.0 - share) + neighbour * share)
        return ops.stack(phases, axis=2)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        height, width = (
            None if size is None else self.scale * size for size in (height, width)
        )
        return (batch, height, width, channels)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
