"""Recalibration: statistics of all samples together, and nothing else."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.pruning.importances.data import DataError
from tests.net2net.helpers import random_inputs, randomize, run


@pytest.fixture
def model():
    x = entry = keras.Input((6, 6, 3))
    x = layers.Conv2D(5, 3, name="first")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="norm1")(x))
    x = layers.Dropout(0.5, name="dropout")(x)
    x = layers.Conv2D(4, 3, name="second")(x)
    x = layers.BatchNormalization(name="norm2")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomize(keras.Model(entry, layers.Dense(3)(x)))


def statistics(layer):
    return layer.moving_mean.numpy(), layer.moving_variance.numpy()


def before(model, layer, x):
    inner = keras.Model(model.input, model.get_layer(layer).output)
    return run(inner, x)[0].reshape(-1, inner.output.shape[-1]).astype("float64")


@pytest.mark.parametrize("batch_size", [12, 5])
def test_the_first_normalisation_gets_the_mean_and_variance_of_all(model, batch_size):
    x = random_inputs(model, batch=12)
    assert net2net.recalibrate(model, x, batch_size) is model
    mean, variance = statistics(model.get_layer("norm1"))
    values = before(model, "first", x)
    np.testing.assert_allclose(mean, values.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(variance, values.var(axis=0), rtol=1e-4)


def test_later_ones_see_what_the_new_statistics_give(model):
    x = random_inputs(model, batch=12)
    net2net.recalibrate(model, x, batch_size=12)
    mean, variance = statistics(model.get_layer("norm2"))
    values = before(model, "second", x)  # In inference, with the new statistics.
    np.testing.assert_allclose(mean, values.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(variance, values.var(axis=0), rtol=2e-2)


def test_nothing_else_changes(model):
    others = [v for v in model.weights if "moving" not in v.path]
    values = [v.numpy() for v in others if "seed" not in v.path]
    norm, dropout = model.get_layer("norm1"), model.get_layer("dropout")
    norm.trainable = False
    momentum = norm.momentum
    old = statistics(norm)[0]
    net2net.recalibrate(model, random_inputs(model, batch=8))
    assert not np.allclose(statistics(norm)[0], old)
    assert (norm.momentum, norm.trainable, dropout.rate) == (momentum, False, 0.5)
    for variable, value in zip(others, values, strict=False):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_model_without_statistics_stays_as_it_is():
    entry = keras.Input((3,))
    model = keras.Model(entry, layers.Dense(2)(entry))
    assert net2net.recalibrate(model, np.ones((2, 3), "float32")) is model


def test_a_failure_on_the_way_leaves_the_settings(model):
    with pytest.raises(DataError, match="once"):
        net2net.recalibrate(model, iter([]))
    with pytest.raises(ValueError):
        net2net.recalibrate(model, np.ones((2, 6, 6, 4), "float32"))
    assert model.get_layer("norm1").momentum == 0.99
    assert model.get_layer("dropout").rate == 0.5
