"""Importances: each against what it is defined by."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.pruning.importances.importance import ImportanceError
from tests.net2net.helpers import random_inputs, randomize, run


@pytest.fixture
def model():
    x = entry = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="a")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(12, 3, activation="relu", name="b")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomize(keras.Model(entry, layers.Dense(3, name="label")(x)))


def kept(plan, layer):
    return plan.index_map(plan.graph.width(layer)).source.tolist()


def scores_of(importance, model, layer):
    graph = net2net.ChannelGraph(model)
    return importance.scores(graph)[graph.width(layer).groups[0]]


def test_the_smallest_filters_go(model):
    kernel = model.get_layer("b").kernel
    value = kernel.numpy()
    value[..., [1, 5, 6]] *= 1e-3
    kernel.assign(value)
    plan = net2net.prune(model, widths={"b": 9}, importance=net2net.FilterNorm(2))
    assert kept(plan, "b") == [0, 2, 3, 4, 7, 8, 9, 10, 11]
    assert kept(plan, "a") == list(range(8))


def test_batch_norm_scale_decides_where_there_is_one(model):
    gamma = np.linspace(1, 2, 8)[::-1].copy()
    model.get_layer("norm").gamma.assign(gamma)
    plan = net2net.prune(model, ratio=0.5, importance=net2net.BatchNormScale())
    assert kept(plan, "a") == [0, 1, 2, 3]


def test_activation_density_is_the_share_of_non_zero_activations(model):
    bias = np.zeros(12)
    bias[[2, 7]] = -1e6  # Never active.
    bias[[3]] = 1e6  # Always active.
    model.get_layer("b").bias.assign(bias)
    images = random_inputs(model, batch=5)
    importance = net2net.ActivationDensity(images, batch_size=2)
    graph = net2net.ChannelGraph(model)
    density = importance.densities(graph)[graph.width("b").groups[0]]
    inner = keras.Model(model.input, model.get_layer("b").output)
    expected = np.mean(run(inner, images)[0] != 0, axis=(0, 1, 2))
    np.testing.assert_allclose(density, expected, atol=1e-12)
    assert density[2] == density[7] == 0 and density[3] == 1
    plan = net2net.prune(graph, widths={"b": 10}, importance=importance)
    assert set(range(12)) - set(kept(plan, "b")) == {2, 7}


def test_density_as_the_target_keeps_the_active_share(model):
    images = random_inputs(model, batch=5)
    importance = net2net.ActivationDensity(images)
    plan = net2net.prune(model, ratio="density", importance=importance)
    for group, values in importance.densities(plan.graph).items():
        size = plan.sizes.get(group, group.size)
        assert size == max(1, round(group.size * float(values.mean())))


def labelled(model, count=6):
    x = random_inputs(model, batch=count)
    return x, np.random.default_rng(0).normal(size=(count, 3)).astype("float32")


@pytest.mark.parametrize("batch_size", [6, 2])
def test_taylor_is_the_change_of_the_loss_by_finite_differences(model, batch_size):
    x, y = labelled(model)
    importance = net2net.Taylor((x, y), "mse", batch_size=batch_size)
    received = scores_of(importance, model, "a")

    def loss(part):
        output = run(model, x[part])[0].astype("float64")
        return float(np.mean((output - y[part]) ** 2))

    # What reads the units of "a" is the kernel of "b", behind the normalisation.
    kernel, step = model.get_layer("b").kernel, 1e-2
    original = kernel.numpy()
    expected = np.zeros(8)
    for unit in range(8):
        for start in range(0, 6, batch_size):
            losses = []
            for sign in (1, -1):
                changed = original.copy()
                changed[:, :, unit] *= 1 + sign * step
                kernel.assign(changed)
                losses.append(loss(slice(start, start + batch_size)))
            change = (losses[0] - losses[1]) / (2 * step)
            expected[unit] += batch_size / 6 * change**2
    kernel.assign(original)
    expected = np.sqrt(expected)
    np.testing.assert_allclose(received, expected / expected.mean(), rtol=0.02)


def test_the_hessian_of_a_linear_model_is_known():
    # One layer of units read by one weight each, squared loss: the gradient of a weight
    # is 2 (output - y) * activation, from which the Fisher information follows.
    entry = keras.Input((3,))
    hidden = layers.Dense(4, use_bias=False, name="a")
    output = layers.Dense(1, use_bias=False)
    model = randomize(keras.Model(entry, output(hidden(entry))))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    y = np.random.default_rng(1).normal(size=(5, 1)).astype("float32")
    importance = net2net.HessianDiagonal((x, y), "mse", batch_size=1)
    received = scores_of(importance, model, "a")
    first, second = hidden.kernel.numpy(), output.kernel.numpy()
    error = 2 * (x @ first @ second - y)
    expected = np.mean(np.square(error * (x @ first)), axis=0) * second[:, 0] ** 2 / 2
    for index in range(3):
        gradient = error * x[:, index : index + 1] * second[:, 0]
        expected += np.mean(gradient**2, axis=0) * first[index] ** 2 / 2
    np.testing.assert_allclose(received, expected / expected.mean(), rtol=1e-4)


def test_gradients_of_frozen_layers_count_as_well(model):
    data = labelled(model)
    expected = scores_of(net2net.Taylor(data, "mse"), model, "a")
    model.trainable = False
    received = scores_of(net2net.Taylor(data, "mse"), model, "a")
    np.testing.assert_allclose(received, expected, rtol=1e-6)
    assert not model.trainable_weights


def test_the_loss_may_come_from_the_compiled_model(model):
    data = labelled(model)
    with pytest.raises(ImportanceError, match="Taylor needs a loss"):
        net2net.prune(model, 0.5, importance=net2net.Taylor(data))
    model.compile("adam", "mse")
    np.testing.assert_array_equal(
        scores_of(net2net.Taylor(data), model, "a"),
        scores_of(net2net.Taylor(data, "mse"), model, "a"),
    )
    with pytest.raises(ImportanceError, match="needs targets"):
        net2net.prune(model, 0.5, importance=net2net.Taylor(data[0]))
    with pytest.raises(ImportanceError, match="'nonsense' is not a Keras loss"):
        net2net.Taylor(data, "nonsense")


def test_group_norm_counts_everything_that_goes_with_a_unit(model):
    a, norm, b = (model.get_layer(name) for name in ("a", "norm", "b"))
    squares = np.sum(a.kernel.numpy() ** 2, axis=(0, 1, 2)) + a.bias.numpy() ** 2
    squares += norm.gamma.numpy() ** 2 + norm.beta.numpy() ** 2
    squares += np.sum(b.kernel.numpy() ** 2, axis=(0, 1, 3))
    expected = np.sqrt(squares)
    received = scores_of(net2net.GroupNorm(), model, "a")
    np.testing.assert_allclose(received, expected / expected.mean(), rtol=1e-6)


def test_lamp_divides_by_all_at_least_as_large(model):
    squares = scores_of(net2net.GroupNorm(), model, "b") ** 2
    expected = [s / squares[squares >= s].sum() for s in squares]
    received = scores_of(net2net.LAMP(), model, "b")
    np.testing.assert_allclose(received, expected, rtol=1e-6)
    assert received.max() == 1
    plan = net2net.prune(model, ratio=0.9, importance="lamp", max_ratio=1.0)
    assert plan.width("a") >= 1 and plan.width("b") >= 1


@pytest.mark.parametrize("name", ["group_norm", "filter_norm", "batch_norm_scale"])
def test_scores_compare_between_groups(model, name):
    for values in (
        net2net.IMPORTANCES[name]().scores(net2net.ChannelGraph(model)).values()
    ):
        np.testing.assert_allclose(values.mean(), 1)


def test_names_stand_for_importances(model):
    by_name = net2net.prune(model, ratio=0.5, importance="filter_norm")
    by_instance = net2net.prune(model, ratio=0.5, importance=net2net.FilterNorm())
    by_class = net2net.prune(model, ratio=0.5, importance=net2net.FilterNorm)
    assert kept(by_name, "b") == kept(by_instance, "b") == kept(by_class, "b")


def test_an_importance_of_ones_own_gets_a_name(model, monkeypatch):
    monkeypatch.setattr(
        "keras_megan.net2net.pruning.importances.importance.IMPORTANCES",
        dict(net2net.IMPORTANCES),
    )

    @net2net.register_importance("last_first")
    class LastFirst(net2net.Importance):
        def scores(self, graph):
            return {group: -np.arange(group.size) for group in graph.groups}

    plan = net2net.prune(model, {"a": 3}, importance="last_first")
    assert kept(plan, "a") == [0, 1, 2]


def test_an_importance_that_forgets_a_group_is_named(model):
    class Forgetful(net2net.Importance):
        def scores(self, graph):
            return {}

    with pytest.raises(ImportanceError, match="Forgetful gives no scores for 'a.filt"):
        net2net.prune(model, ratio=0.5, importance=Forgetful())
