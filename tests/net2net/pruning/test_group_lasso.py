"""Group lasso: the proximal operator, and units that fall silent."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from tests.net2net.helpers import largest_difference, randomize, run


@pytest.fixture
def model():
    x = entry = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="a")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    x = layers.Dense(5, activation="relu", name="b")(x)
    return randomize(keras.Model(entry, layers.Dense(3, name="label")(x)))


def lasso_on(model, **options):
    callback = net2net.GroupLasso(**options)
    callback.set_model(model)
    callback.on_train_begin()
    return callback


def test_each_unit_is_shortened_by_the_same_length_in_proportion(model):
    a, norm = model.get_layer("a"), model.get_layer("norm")
    old = [v.numpy() for v in (*a.weights, norm.gamma, norm.beta)]
    behind = model.get_layer("b").kernel.numpy()
    lasso_on(model, keep="b").shrink(0.05)
    squares = sum(np.sum(v**2, axis=tuple(range(v.ndim - 1))) for v in old)
    norms = np.sqrt(squares)
    factor = np.maximum(norms - 0.05 * np.sqrt(27 + 3), 0) / norms
    for variable, value in zip((*a.weights, norm.gamma, norm.beta), old, strict=True):
        np.testing.assert_allclose(variable.numpy(), value * factor, rtol=1e-5)
    np.testing.assert_array_equal(model.get_layer("b").kernel.numpy(), behind)


def test_the_gates_of_a_recurrent_unit_count_together():
    lstm = layers.LSTM(4, name="lstm")
    sequence = keras.Input((5, 3))
    model = randomize(keras.Model(sequence, layers.Dense(2)(lstm(sequence))))
    cell, old = lstm.cell, [v.numpy() for v in lstm.weights]
    lasso_on(model).shrink(0.03)
    gates = [v.reshape(-1, 4, 4) for v in old]  # (inputs, gate, unit)
    norms = np.sqrt(sum(np.sum(g**2, axis=(0, 1)) for g in gates))
    weights = 4 * (3 + 4 + 1)
    factor = np.maximum(norms - 0.03 * np.sqrt(weights), 0) / norms
    expected = (gates[0] * factor).reshape(3, 16)
    np.testing.assert_allclose(cell.kernel.numpy(), expected, rtol=1e-5)


def test_training_with_it_empties_units_whose_pruning_is_exact(model):
    random = np.random.default_rng(0)
    x = random.normal(size=(32, 6, 6, 3)).astype("float32")
    y = random.normal(size=(32, 3)).astype("float32")
    for variable in (
        *model.get_layer("a").weights,
        *model.get_layer("norm").weights[:2],
    ):
        variable.assign(variable.numpy() * [1, 0.05, 1, 1])
    model.compile(keras.optimizers.SGD(1e-4), "mse")
    lasso = net2net.GroupLasso(strength=50.0, keep="b")
    model.fit(x, y, batch_size=4, epochs=4, callbacks=[lasso], verbose=0)
    assert lasso.silent >= 1
    graph = net2net.ChannelGraph(model)
    size = graph.width("a").size
    plan = net2net.prune(graph, {"a": max(1, size - lasso.silent)})
    difference = largest_difference(run(model, x), run(plan.apply(), x))
    assert lasso.silent < size and difference < 1e-5


def test_a_strength_is_above_zero():
    with pytest.raises(ValueError, match="strength must be above zero"):
        net2net.GroupLasso(0)
