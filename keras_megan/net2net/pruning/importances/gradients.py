"""Gradients on every backend, by an optimizer that only writes them down.

Keras gives no backend-independent way to ask for gradients, but its training step hands
them to the optimizer. `GradientRecorder` is an optimizer that leaves the weights alone
and keeps what it is handed.

The network runs as in inference. In training mode a batch normalisation behind a
convolution makes the loss blind to the size of each filter, so that the products of
weights and gradients, which importances live on, would be zero up to rounding.
"""

import warnings

import keras
import numpy as np

from keras_megan.net2net.rewriting.apply import copy_of


class GradientRecorder(keras.optimizers.Optimizer):
    """Keeps the last gradient of each variable and changes nothing."""

    def __init__(self, **kwargs):
        super().__init__(learning_rate=0.0, name="gradient_recorder", **kwargs)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.gradients = [
            self.add_variable_from_reference(reference_variable=v, name="gradient")
            for v in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        kept = self.gradients[self._get_variable_index(variable)]
        self.assign(kept, keras.ops.cast(gradient, kept.dtype))


class _AsInInference(keras.Model):
    """A network that runs as in inference while it is trained on."""

    def __init__(self, network):
        super().__init__(name="as_in_inference")
        self.network = network

    def call(self, inputs):
        return self.network(inputs, training=False)


def gradients_per_batch(graph, data, loss):
    """Yields the gradient of a loss for every batch.

    Args:
        graph: The `ChannelGraph` of the model.
        data: A `keras_megan.net2net.pruning.importances.data.Data` with targets.
        loss: A Keras loss.

    Yields:
        (number of samples, dict from the id of a variable of the model to an array);
        frozen variables are there as well.
    """
    copy, pairs = copy_of(graph)
    for layer in copy._flatten_layers(include_self=False):
        layer.trainable = True
    recorder = GradientRecorder()
    network = _AsInInference(copy)
    network.compile(optimizer=recorder, loss=loss)
    old_of = {id(new): old for old, new in pairs}
    for batch in data.for_model(graph):
        with warnings.catch_warnings():
            # Weights that the loss does not depend on have the gradient zero.
            warnings.filterwarnings("ignore", message="Gradients do not exist")
            network.train_on_batch(batch.inputs, batch.targets, batch.weights)
        result = {}
        for variable, kept in zip(
            network.trainable_variables, recorder.gradients, strict=True
        ):
            if id(variable) in old_of:
                value = keras.ops.convert_to_numpy(kept.value)
                result[id(old_of[id(variable)])] = np.asarray(value, dtype=np.float64)
        yield batch.size, result
