"""Inserted layers change nothing, bit for bit."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.channels.channel_graph import UnknownLayerError
from keras_megan.net2net.plan import PlanError
from tests.net2net.helpers import largest_difference, random_inputs, randomize, run


@pytest.fixture
def model():
    x = entry = keras.Input((8, 7, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="rectified")(x)
    x = layers.Conv2D(6, 1, activation="gelu", name="smooth")(x)
    x = layers.ReLU(6.0, name="clipped")(x)
    x = layers.Dense(5, activation="relu", name="dense")(layers.Flatten()(x))
    return randomize(keras.Model(entry, layers.Dense(2, name="label")(x)))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, (3, 4)])
@pytest.mark.parametrize("kind", ["identity", "depthwise"])
def test_identity_kernels_of_odd_and_even_size_are_exact(model, size, kind):
    plan = net2net.deepen(model, after="rectified", kind=kind, kernel_size=size)
    inputs = random_inputs(model)
    assert largest_difference(run(model, inputs), run(plan.apply(), inputs)) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"after": "rectified", "groups": 2},
        {"after": "rectified", "count": 3, "use_bias": False},
        {"after": "smooth"},
        {"after": "smooth", "kind": "residual"},
        {"after": "clipped"},
        {"after": "dense"},
        {"after": "dense", "kind": "residual"},
    ],
)
def test_insertions_are_exact_after_any_layer(model, options):
    deeper = net2net.deepen(model, **options).apply()
    inputs = random_inputs(model)
    assert largest_difference(run(model, inputs), run(deeper, inputs)) == 0
    assert net2net.count_params(deeper) > net2net.count_params(model)


@pytest.mark.parametrize(
    ("shape", "name"), [((9, 3), "Conv1D"), ((4, 4, 4, 3), "Conv3D")]
)
def test_convolutions_of_other_ranks(shape, name):
    entry = keras.Input(shape)
    x = layers.Dense(4, activation="relu", name="before")(entry)
    model = randomize(keras.Model(entry, layers.Dense(2)(layers.Flatten()(x))))
    deeper = net2net.deepen(model, after="before").apply()
    inputs = random_inputs(model)
    assert largest_difference(run(model, inputs), run(deeper, inputs)) == 0
    assert type(deeper.get_layer("before_deeper")).__name__ == name


def test_the_activation_is_repeated_only_where_that_changes_nothing(model):
    found = {}
    for name in ("rectified", "smooth", "clipped"):
        deeper = net2net.deepen(model, after=name).apply()
        layer = deeper.get_layer(f"{name}_deeper")
        found[name] = layer.activation.__name__
    assert found == {"rectified": "relu", "smooth": "linear", "clipped": "relu6"}


def test_batch_norm_undoes_the_statistics_of_the_data(model):
    data = random_inputs(model, batch=16)
    deeper = net2net.deepen(model, after="rectified", batch_norm=data).apply()
    assert largest_difference(run(model, data), run(deeper, data)) <= 1e-6
    norm = deeper.get_layer("rectified_deeper_bn")
    features = keras.Model(model.input, model.get_layer("rectified").output)
    mean = run(features, data)[0].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean.numpy(), mean, rtol=1e-4)
    # In training mode it is the identity for these data, not for others.
    same = largest_difference(run(model, data), run(deeper, data, training=True))
    other = random_inputs(model, batch=16, seed=9)
    different = largest_difference(run(model, other), run(deeper, other, training=True))
    assert same <= 1e-5 < 1e-3 < different


def test_inserted_layers_learn(model):
    deeper = net2net.deepen(model, after="smooth", kind="residual").apply()
    before = [w.numpy() for w in deeper.get_layer("smooth_deeper_b").weights]
    deeper.compile("sgd", "mse")
    x = random_inputs(model, batch=4)
    deeper.fit(x, np.ones((4, 2)), verbose=0)
    after = [w.numpy() for w in deeper.get_layer("smooth_deeper_b").weights]
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))


def test_deeper_models_are_saved_and_widened(model, tmp_path):
    deeper = net2net.deepen(model, after="rectified", count=2).apply()
    wider = net2net.widen(deeper, {"rectified_deeper_1": 7}).apply()
    wider.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    inputs = random_inputs(model)
    assert largest_difference(run(model, inputs), run(again, inputs)) <= 1e-6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"after": "rectifier"}, UnknownLayerError, "Did you mean 'rectified'"),
        ({"after": "dense", "kind": "depthwise"}, PlanError, "rank 2"),
        ({"after": "dense", "kind": "magic"}, PlanError, "kind must be"),
        ({"after": "dense", "count": 0}, PlanError, "at least 1"),
    ],
)
def test_impossible_insertions_are_refused(model, options, error, message):
    with pytest.raises(error, match=message):
        net2net.deepen(model, **options)
