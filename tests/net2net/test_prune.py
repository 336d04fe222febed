"""Pruning: which units go, how many, and down to which budget."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.importance import ImportanceError
from keras_megan.net2net.plan import PlanError
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


def resnet18(entry_size=224):
    def block(x, filters, size, stride, relu=True):
        x = layers.ZeroPadding2D(size // 2)(x) if size > 1 else x
        x = layers.Conv2D(filters, size, stride, use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU()(x) if relu else x

    entry = keras.Input((entry_size, entry_size, 3))
    x = layers.MaxPooling2D(3, 2, "same")(block(entry, 64, 7, 2))
    for stage, filters in enumerate((64, 128, 256, 512)):
        for index in range(2):
            stride = 2 if stage and not index else 1
            y = block(block(x, filters, 3, stride), filters, 3, 1, relu=False)
            x = block(x, filters, 1, 2, relu=False) if stride == 2 else x
            x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(entry, layers.Dense(1000)(layers.GlobalAveragePooling2D()(x)))


def trainable(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


def published_gmac(model):
    """What the counter behind the published figures adds to convolutions and dense.

    Two per output of a batch normalisation, one per output of a ReLU and per input of a
    pooling.
    """
    extra = 0
    for layer in model.layers:
        size = int(np.prod(layer.output.shape[1:]))
        if isinstance(layer, layers.BatchNormalization):
            extra += 2 * size
        elif isinstance(layer, layers.ReLU):
            extra += size
        elif isinstance(layer, layers.MaxPooling2D | layers.GlobalAveragePooling2D):
            extra += int(np.prod(layer.input.shape[1:]))
    return (net2net.count_macs(model) + extra) / 1e9


def test_resnet18_at_half_gives_the_published_figures():
    # Torch-Pruning's README: 1.822 -> 0.487 GMAC, 11.69 -> 3.06 M parameters.
    model = resnet18()
    small = net2net.prune(model, ratio=0.5, round_to=8).apply()
    assert round(trainable(model) / 1e6, 3) == 11.690
    assert round(trainable(small) / 1e6, 3) == 3.056
    assert round(published_gmac(model), 3) == 1.822
    assert round(published_gmac(small), 3) == 0.487


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


def test_taylor_equals_weight_times_gradient_by_finite_differences(model):
    x = random_inputs(model, batch=4)
    y = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    graph = net2net.ChannelGraph(model)
    scores = net2net.Taylor((x, y), "mse").scores(graph)
    score = scores[graph.width("b").groups[0]]
    kernel, bias = model.get_layer("b").kernel, model.get_layer("b").bias

    def loss():
        return float(
            np.mean((run(model, x, training=True)[0].astype("float64") - y) ** 2)
        )

    def derivative(variable, unit):
        # d loss / d t of W[..., unit] * (1 + t) is the sum of weight * gradient.
        original, step, losses = variable.numpy(), 1e-2, []
        for sign in (1, -1):
            changed = original.copy()
            changed[..., unit] *= 1 + sign * step
            variable.assign(changed)
            losses.append(loss())
        variable.assign(original)
        return abs(losses[0] - losses[1]) / (2 * step)

    expected = np.zeros(12)
    for variable in (kernel, bias):
        part = np.array([derivative(variable, unit) for unit in range(12)])
        expected += part / part.mean()
    np.testing.assert_allclose(score, expected / expected.mean(), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("share", [0.7, 0.3])
def test_budgets_are_met_and_used(model, scope, share):
    macs, parameters = net2net.count_macs(model), net2net.count_params(model)
    plan = net2net.prune(model, macs=macs * share, scope=scope)
    assert macs * share * 0.7 <= net2net.count_macs(plan.apply()) <= macs * share
    plan = net2net.prune(model, parameters=parameters * share, scope=scope)
    assert net2net.count_params(plan.apply()) == plan.parameters <= parameters * share


def test_global_scope_takes_more_from_weak_layers(model):
    kernel = model.get_layer("a").kernel
    scale = np.ones(8)
    scale[2:] = 1e-4
    kernel.assign(kernel.numpy() * scale)
    model.get_layer("a").bias.assign(np.zeros(8))
    plan = net2net.prune(model, ratio=0.3, scope="global")
    assert plan.width("a") == 2 and plan.width("b") == 12


def test_no_layer_goes_below_one_channel_or_its_multiple(model):
    assert net2net.prune(model, ratio=0.99).width("a") == 1
    plan = net2net.prune(model, ratio=0.6, round_to=4)
    assert (plan.width("a"), plan.width("b")) == (4, 8)


def test_kept_layers_stay(model):
    plan = net2net.prune(model, ratio=0.5, keep=["a"])
    assert plan.width("a") == 8 and plan.width("b") == 6


def test_scores_by_name(model):
    plan = net2net.prune(model, {"b": 2}, importance={"b": np.arange(12)})
    assert kept(plan, "b") == [10, 11]


def test_layer_norm_is_named_as_inexact():
    x = entry = keras.Input((5,))
    x = layers.LayerNormalization(name="norm")(layers.Dense(6)(x))
    model = keras.Model(entry, layers.Dense(2)(x))
    plan = net2net.prune(model, ratio=0.5)
    assert plan.warnings == ["norm: layer normalisation mixes its channels"]
    assert "note: norm" in str(plan)


# === Refusals =========================================================================
@pytest.mark.parametrize("ratio", [0, 1, -0.2, 1.5, float("nan"), "half"])
def test_ratio_outside_is_refused(model, ratio):
    with pytest.raises(PlanError, match="between 0 and 1"):
        net2net.prune(model, ratio=ratio)


def test_targets_exclude_each_other(model):
    with pytest.raises(PlanError, match="exactly one"):
        net2net.prune(model)
    with pytest.raises(PlanError, match="exactly one"):
        net2net.prune(model, ratio=0.5, macs=100)


def test_budget_out_of_reach_is_refused(model):
    with pytest.raises(PlanError, match="cannot be reached"):
        net2net.prune(model, macs=10)


def test_widening_by_pruning_is_refused(model):
    with pytest.raises(PlanError, match="Use widen"):
        net2net.prune(model, {"a": 9})


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"b": np.ones(11)}, r"'b.filters' must have shape \(12,\)"),
        ({"b": np.full(12, np.nan)}, "finite"),
        ([1, 2], "received list"),
    ],
)
def test_wrong_importance_data_is_refused(model, scores, message):
    with pytest.raises(ImportanceError, match=message):
        net2net.prune(model, ratio=0.5, importance=scores)
