"""A layer that only composes other layers.

A composite's `call` is its whole definition: it wires Keras layers, leaves and
keras.ops together and computes nothing itself. Running it on symbolic tensors
therefore builds every inner layer with the right shapes and gives the shape of the
output, and no composite has to repeat its wiring for either. (net2net lays composites
out in the same way.)

Keras could trace `call` by itself, but on JAX it would take all unknown sizes for the
same number, and a pyramid has several.
"""

import keras


class Composite(keras.layers.Layer):
    """Base of the layers whose `call` only composes layers and keras.ops.

    A subclass creates its layers in `__init__`, passing `dtype=self.dtype_policy`, and
    gives `build` the signature Keras wants, with `self.lay_out(...)` as its body.
    """

    def lay_out(self, *shapes):
        """Calls the composite on symbolic tensors, which builds what is inside.

        Args:
            *shapes: the shapes of its call arguments; a list of shapes for an argument
                that is a list of tensors.

        Returns:
            The symbolic outputs.
        """
        return self.call(*(_symbolic(shape, self.compute_dtype) for shape in shapes))

    def compute_output_spec(self, *inputs):
        outputs = self.lay_out(*keras.tree.map_structure(_Shape, inputs))
        return keras.tree.map_structure(
            lambda output: keras.KerasTensor(output.shape, output.dtype), outputs
        )


class _Shape:
    """A shape that is one leaf of a structure."""

    def __init__(self, tensor):
        self.shape = tuple(tensor.shape)


def _symbolic(shape, dtype):
    if isinstance(shape, _Shape):
        return keras.KerasTensor(shape.shape, dtype)
    if shape and isinstance(shape[0], (list, tuple, _Shape)):
        return [_symbolic(inner, dtype) for inner in shape]
    return keras.KerasTensor(tuple(shape), dtype)
