"""Insertions: layers that a plan puts behind a call, with weights that do nothing."""

import dataclasses

import keras
import numpy as np


@dataclasses.dataclass(eq=False)
class Insertion:
    """Layers to be put behind a call, applied one after the other.

    Attributes:
        after: Name of the call.
        layers: List of serialised layers (`keras.saving.serialize_keras_object`).
        values: One list per layer with one entry per weight, in the layer's order:
            ``"identity"``, ``"zeros"``, a list of numbers, or None to keep what the
            layer was initialised with.
        residual: Whether the input is added to what the last layer gives.
    """

    after: str
    layers: list
    values: list
    residual: bool = False

    @property
    def name(self):
        return ", ".join(layer["config"]["name"] for layer in self.layers)

    def __str__(self):
        kinds = ", ".join(layer["class_name"] for layer in self.layers)
        form = "residual " if self.residual else ""
        return f"inserted after {self.after}: {form}{kinds}"

    def to_dict(self):
        """Returns plain data."""
        return {
            "after": self.after,
            "layers": self.layers,
            "values": self.values,
            "residual": self.residual,
        }

    @classmethod
    def from_dict(cls, values):
        """Makes an insertion from what `to_dict` gives."""
        return cls(**values)


def filled(layer, weight, value):
    """Returns the value of an inserted layer's weight; see `Insertion`."""
    shape = tuple(weight.shape)
    if value == "identity":
        return identity_kernel(layer, shape)
    if value == "zeros":
        return np.zeros(shape)
    return np.asarray(value, dtype="float64").reshape(shape)


def identity_kernel(layer, shape):
    """Returns the kernel with which a layer gives its input back.

    A convolution's has a one at (size - 1) // 2 of every spatial axis, which is where
    'same' padding of Keras centres kernels of odd and even size.
    """
    kernel = np.zeros(shape)
    depthwise = isinstance(
        layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D
    )
    centre = tuple((size - 1) // 2 for size in shape[:-2])
    if depthwise:
        kernel[centre] = 1.0
        return kernel
    outputs = np.arange(shape[-1])
    kernel[(*centre, outputs % shape[-2], outputs)] = 1.0
    return kernel
