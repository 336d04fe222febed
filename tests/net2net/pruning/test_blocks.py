"""Whole blocks: which may go, which do least, and what is left."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.plan import PlanError
from tests.net2net.helpers import largest_difference, random_inputs, randomize, run


def residual(x, name, filters=6, layer=None):
    y = layers.Conv2D(4, 3, padding="same", activation="relu", name=f"{name}_a")(x)
    y = layers.Conv2D(filters, 3, padding="same", name=f"{name}_b")(y)
    return layers.ReLU()(layers.Add(name=name)([x, y]))


def network(names=("one", "two", "three")):
    entry = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="stem")(entry)
    for name in names:
        x = residual(x, name)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(entry, layers.Dense(3, name="label")(x), name="net")


@pytest.fixture
def model():
    return randomize(network())


def without(model, names):
    """The network built without these blocks, with the weights of the others."""
    left = [n for n in ("one", "two", "three") if n not in names]
    smaller = network(left)
    for layer in smaller.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return smaller


@pytest.mark.parametrize("names", [["two"], ["one", "three"], ["one", "two", "three"]])
def test_the_model_without_a_block_is_the_one_built_without_it(model, names):
    x = random_inputs(model)
    plan = net2net.remove_blocks(model, names)
    small, expected = plan.apply(), without(model, names)
    assert largest_difference(run(expected, x), run(small, x)) < 1e-6
    assert plan.parameters == small.count_params() == expected.count_params()
    assert {layer.name for layer in small.layers if layer.weights} == {
        layer.name for layer in expected.layers if layer.weights
    }


def test_blocks_are_found_by_their_additions(model):
    assert net2net.residual_blocks(model) == ["one", "two", "three"]


def test_what_is_used_elsewhere_or_changes_the_shape_is_no_block():
    entry = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, padding="same")(entry)
    inner = layers.Conv2D(6, 3, padding="same")(x)
    tapped = layers.Add(name="tapped")([x, layers.ReLU()(inner)])
    shortcut = layers.Conv2D(4, 1)(tapped)
    changed = layers.Add(name="changed")(
        [shortcut, layers.Conv2D(4, 3, padding="same")(tapped)]
    )
    model = keras.Model(entry, [changed, layers.GlobalAveragePooling2D()(inner)])
    assert net2net.residual_blocks(model) == []
    with pytest.raises(PlanError, match="no residual block"):
        net2net.remove_blocks(model, "tapped")


def test_blocks_of_a_transformer_go_in_halves():
    entry = keras.Input((5, 8))
    x = entry
    for index in range(2):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(2, 4, name=f"attention{index}")(y, y)
        x = layers.Add(name=f"mix{index}")([x, y])
        y = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add(name=f"feed{index}")([x, layers.Dense(8)(y)])
    model = randomize(keras.Model(entry, layers.Dense(2)(x)))
    assert net2net.residual_blocks(model) == ["mix0", "feed0", "mix1", "feed1"]
    small = net2net.remove_blocks(model, "*1").apply()
    assert net2net.residual_blocks(small) == ["mix0", "feed0"]
    inner = keras.Model(entry, model.get_layer("feed0").output)
    x = random_inputs(model)
    expected = model.layers[-1](run(inner, x)[0])
    assert largest_difference([np.asarray(expected)], run(small, x)) < 1e-6


def test_influence_is_what_a_block_turns(model):
    kernel, bias = model.get_layer("two_b").weights
    kernel.assign(kernel.numpy() * 1e-3)
    bias.assign(bias.numpy() * 1e-3)
    x = random_inputs(model, batch=5)
    influence = net2net.block_influence(model, x, batch_size=2)
    entry = keras.Model(model.input, model.get_layer("one").output)
    before = np.maximum(run(entry, x)[0], 0).reshape(5, -1)
    after = keras.Model(model.input, model.get_layer("two").output)
    after = run(after, x)[0].reshape(5, -1)
    cosine = np.sum(before * after, axis=1)
    cosine /= np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    np.testing.assert_allclose(influence["two"], np.mean(1 - cosine), atol=1e-6)
    assert min(influence, key=influence.get) == "two"
    for depth in (1, 0.34):
        plan = net2net.remove_blocks(model, depth=depth, data=x)
        assert plan.removed == ["two"] and not plan.preserves_function
    assert "remove 1 blocks: two" in str(plan) and "parameters" in str(plan)


def test_a_plan_is_kept_as_data(model):
    plan = net2net.remove_blocks(model, "two")
    values = json.loads(json.dumps(plan.to_dict()))
    again = net2net.Plan.from_dict(values, model)
    assert again.removed == ["two"]
    x = random_inputs(model)
    assert largest_difference(run(plan.apply(), x), run(again.apply(), x)) == 0
    with pytest.raises(PlanError, match="not a plan that removes blocks"):
        type(plan).from_dict({"version": 1}, model)


def test_the_optimizers_state_goes_along(model):
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(1)
    plan = net2net.remove_blocks(model, "two")
    small = plan.apply()
    adam = keras.optimizers.Adam()
    net2net.transfer_optimizer(model.optimizer, adam, plan, small)
    assert int(adam.iterations) == 1
    small.compile(adam, "mse")
    small.fit(np.ones((2, 6, 6, 3)), np.ones((2, 3)), verbose=0)
    assert int(adam.iterations) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either blocks"),
        ({"blocks": "on"}, "No residual block 'on'; there are one"),
        ({"depth": 1}, "depth needs data"),
        ({"depth": 4, "data": 0}, "4 blocks cannot go; the model has 3"),
        ({"depth": 1.5, "data": 0}, "depth must be a number of blocks"),
        ({"depth": True, "data": 0}, "depth must be a number of blocks"),
    ],
)
def test_what_cannot_go_is_named(model, options, message):
    with pytest.raises(PlanError, match=message):
        net2net.remove_blocks(model, **options)
