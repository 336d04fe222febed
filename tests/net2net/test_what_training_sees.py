"""What training sees of a rebuilt model: penalties, frozen layers, closures."""

import keras
import numpy as np
from keras import layers

from keras_megan import net2net
from tests.net2net.helpers import difference, random_inputs, randomize, readout


def register(cls):
    return keras.saving.register_keras_serializable("net2net_training_sees")(cls)


@register
class Regularized(layers.Layer):
    def build(self, shape):
        self.gain = self.add_weight(
            shape=(shape[-1],), name="gain", regularizer="l2", constraint="non_neg"
        )

    def call(self, x):
        return x * self.gain


def test_regularizers_and_constraints_of_own_weights_stay():
    entry = keras.Input((5,))
    model = randomize(
        keras.Model(entry, readout(Regularized()(layers.Dense(4)(entry))))
    )
    for classes in (1.5, {"free": 8}):
        wide = net2net.widen(model, classes).apply()
        assert len(wide.losses) == len(model.losses) == 1
        constrained = [w for w in wide.weights if w.constraint is not None]
        assert len(constrained) == 1


@register
class ActiveBlock(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(4)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x) * 2.0


def test_activity_regularizers_of_composite_layers_stay():
    entry = keras.Input((5,))
    x = ActiveBlock(activity_regularizer="l2")(layers.Dense(4)(entry))
    model = randomize(keras.Model(entry, readout(x)))
    inputs = random_inputs(model)
    error, wide = difference(model, inputs)
    model(inputs), wide(inputs)
    assert error <= 2e-6 and len(wide.losses) == len(model.losses) == 1
    np.testing.assert_allclose(model.losses[0], wide.losses[0], rtol=1e-5)


def test_frozen_wrappers_stay_frozen():
    entry = keras.Input((5, 4))
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    x = attention(entry, entry)
    x = layers.Bidirectional(layers.LSTM(3), name="both")(x)
    model = randomize(keras.Model(entry, layers.Dense(2)(x)))
    for name in ("attention", "both"):
        model.get_layer(name).trainable = False
    wide = net2net.widen(model, factor=1.5).apply()
    assert len(wide.trainable_weights) == len(model.trainable_weights) == 2


def test_variables_of_a_closure_are_not_trained():
    outside = keras.Variable(np.arange(4.0, dtype="float32"), trainable=True)
    entry = keras.Input((5,))
    scaled = layers.Lambda(lambda x: x * outside, output_shape=(4,))
    x = scaled(layers.Dense(4)(entry))
    model = randomize(keras.Model(entry, readout(x)))
    error, wide = difference(model, random_inputs(model))
    assert error <= 2e-6
    assert len(wide.trainable_weights) == len(model.trainable_weights)
