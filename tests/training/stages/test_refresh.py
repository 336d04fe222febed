"""Refreshed networks: what is mixed, with what, and what stays."""

import keras
import numpy as np
import pytest
from keras import layers

from training.errors import TrainingError
from training.stages import changes
from training.stages.refresh import refresh


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, kernel_initializer="he_normal", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    inner = keras.Sequential([layers.Dense(5, name="inner")], name="block")
    model = keras.Model(inputs, layers.Dense(2, name="logits")(inner(x)))
    for variable in model.variables:  # as if trained
        variable.assign(variable + 0.1)
    return model


def values(model):
    return {v.path: np.array(v) for v in model.variables}


def test_kernels_are_mixed_with_fresh_ones_from_their_initializers(model):
    before = values(model)
    refresh(model, 0.4, seed=7)
    after = values(model)
    kernels = ["conv/kernel", "depthwise/kernel", "inner/kernel", "logits/kernel"]
    drawn = {}
    for path, value in after.items():
        name = "/".join(path.split("/")[-2:])
        if name in kernels:
            drawn[name] = (value - 0.4 * before[path]) / 0.6
        else:
            np.testing.assert_array_equal(value, before[path])
    assert sorted(drawn) == sorted(kernels)
    expected = keras.initializers.HeNormal(seed=7)((3, 3, 3, 4))
    np.testing.assert_allclose(drawn["conv/kernel"], expected, atol=1e-6)
    # Glorot's bounds: the square root of 6 over fan-in and fan-out.
    fans_of = {"inner": 4 + 5, "logits": 5 + 2, "depthwise": 9 * (4 + 1)}
    for name, fans in fans_of.items():
        assert (
            0.5 < np.abs(drawn[f"{name}/kernel"]).max() / np.sqrt(6 / fans) <= 1 + 1e-5
        )


def test_keeping_all_changes_nothing_and_keeping_nothing_is_all_fresh(model):
    before = values(model)
    refresh(model, 1.0)
    for path, value in values(model).items():
        np.testing.assert_allclose(value, before[path], rtol=1e-6)
    refresh(model, 0.0, seed=3)
    once = values(model)
    for variable in model.trainable_variables:
        variable.assign(variable * 5.0)
    refresh(model, 0.0, seed=3)
    again = values(model)
    for path in once:
        if path.endswith("kernel"):
            np.testing.assert_array_equal(again[path], once[path])
    refresh(model, 0.0, seed=4)
    other = values(model)
    assert not np.allclose(other["conv/kernel"], once["conv/kernel"])


def test_layers_with_several_kernels_have_all_of_them_mixed():
    inputs = keras.Input((6, 8, 3))
    x = layers.SeparableConv2D(4, 3, name="separable")(inputs)
    x = layers.GRU(5, name="recurrent")(layers.Reshape((-1, 4))(x))
    model = keras.Model(inputs, x)
    before = values(model)
    refresh(model, 0.5, seed=1)
    after = values(model)
    mixed = {
        path.split("/")[-1] for path in after if np.any(after[path] != before[path])
    }
    assert mixed == {
        "depthwise_kernel",
        "pointwise_kernel",
        "kernel",
        "recurrent_kernel",
    }


def test_refreshing_is_a_change_that_a_stage_can_make(model):
    change = changes.refresh(0.25)
    assert change.describe() == "refresh keep=0.25"
    before = values(model)
    changed = change.apply(model, None, seed=1)
    assert changed.model is model and changed.plan is None
    expected = keras.initializers.HeNormal(seed=1)((3, 3, 3, 4))
    mixed = 0.25 * before["conv/kernel"] + 0.75 * np.array(expected)
    np.testing.assert_allclose(values(model)["conv/kernel"], mixed, atol=1e-6)


@pytest.mark.parametrize("keep", [-0.1, 1.5])
def test_a_share_outside_0_to_1_is_refused(model, keep):
    with pytest.raises(TrainingError, match="from 0 to 1; received"):
        changes.refresh(keep).apply(model, None)


def test_a_network_without_random_weights_is_refused():
    model = keras.Sequential([keras.Input((3,)), layers.ReLU()])
    with pytest.raises(TrainingError, match="no randomly initialised weights"):
        refresh(model, 0.5)
