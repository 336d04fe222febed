"""Any height and width: pad to a multiple, crop back.

The pyramid halves the image several times, so the network works on sizes that
are multiples of a power of two. `PadToMultiple` repeats the last row and column
(zeros would darken the border), `CropToScale` cuts the upsampled result back to
exactly `scale` times the original. Both work for sizes known only at run time;
where the size is known and fits, `PadToMultiple` does nothing at all.
"""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_megan")
class PadToMultiple(keras.layers.Layer):
    """Repeats the last row and column of (N, H, W, C) up to a multiple.

    Output shape: (N, H', W', C), H' and W' the next multiples of `multiple`.

    Args:
        multiple: a positive integer.
    """

    def __init__(self, multiple: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.multiple = int(multiple)

    def call(self, inputs):
        return self._pad(self._pad(inputs, axis=1), axis=2)

    def _pad(self, inputs, axis):
        size = inputs.shape[axis]
        if isinstance(size, int):
            missing = -size % self.multiple
            if not missing:
                return inputs
            start = [0] * 4
            start[axis] = size - 1
            shape = list(ops.shape(inputs))
            shape[axis] = 1
            last = ops.slice(inputs, start, shape)
            return ops.concatenate([inputs] + [last] * missing, axis=axis)
        size = ops.shape(inputs)[axis]
        padded = (size + self.multiple - 1) // self.multiple * self.multiple
        nearest = ops.minimum(ops.arange(padded, dtype="int32"), size - 1)
        return ops.take(inputs, nearest, axis=axis)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, self._next(height), self._next(width), channels)

    def _next(self, size):
        return None if size is None else size + (-size % self.multiple)

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable("keras_megan")
class CropToScale(keras.layers.Layer):
    """Crops an upsampled image to exactly `scale` times a reference's size.

    Call arguments:
        inputs: (N, at least scale*H, at least scale*W, C).
        reference: (..., H, W, C'), only its size is used.

    Output shape: (N, scale*H, scale*W, C).

    Args:
        scale: a positive integer.
    """

    def __init__(self, scale: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale = int(scale)

    def call(self, inputs, reference):
        height, width = (self.scale * size for size in ops.shape(reference)[-3:-1])
        if inputs.shape[1:3] == (height, width):
            return inputs
        return inputs[:, :height, :width]

    def compute_output_shape(self, inputs_shape, reference_shape):
        height, width = (
            None if size is None else self.scale * size
            for size in reference_shape[-3:-1]
        )
        return (inputs_shape[0], height, width, inputs_shape[-1])

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
