"""Gradients on every backend, by an optimizer that only adds them up.

Keras gives no backend-independent way to ask for gradients, but its training step hands
them to the optimizer. `GradientRecorder` is an optimizer that leaves the weights alone
and adds up what it is handed.
"""

import keras
import numpy as np

from keras_megan.net2net.rewriting.apply import copy_of


class GradientRecorder(keras.optimizers.Optimizer):
    """Adds up the gradients of each variable and changes nothing."""

    def __init__(self, **kwargs):
        super().__init__(learning_rate=0.0, name="gradient_recorder", **kwargs)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.sums = [
            self.add_variable_from_reference(reference_variable=v, name="sum")
            for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        total = self.sums[self._get_variable_index(variable)]
        self.assign_add(total, keras.ops.cast(gradient, total.dtype))


def summed_gradients(graph, data, loss, batch_size=32):
    """Returns the gradient of a loss, summed over all batches.

    Args:
        graph: The `ChannelGraph` of the model.
        data: Pair (inputs, targets).
        loss: A Keras loss, or its name.
        batch_size: Batch size.

    Returns:
        Dict from the id of a trainable variable of the model to an array.
    """
    copy, pairs = copy_of(graph)
    recorder = GradientRecorder()
    copy.compile(optimizer=recorder, loss=loss)
    inputs, targets = data
    copy.fit(inputs, targets, batch_size=batch_size, epochs=1, shuffle=False, verbose=0)
    old_of = {id(new): old for old, new in pairs}
    result = {}
    for variable, total in zip(copy.trainable_variables, recorder.sums, strict=True):
        if id(variable) in old_of:
            value = keras.ops.convert_to_numpy(total.value)
            result[id(old_of[id(variable)])] = np.asarray(value, dtype=np.float64)
    return result
