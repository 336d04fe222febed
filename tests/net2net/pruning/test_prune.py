"""Pruning: which units go, how many, and down to which budget."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.plan import PlanError
from keras_megan.net2net.pruning.importances.importance import ImportanceError
from tests.net2net.helpers import randomize


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


@pytest.mark.slow
def test_resnet18_at_half_gives_the_published_figures():
    # Torch-Pruning's README: 1.822 -> 0.487 GMAC, 11.69 -> 3.06 M parameters.
    model = resnet18()
    small = net2net.prune(model, ratio=0.5, scope="local", round_to=8).apply()
    assert round(trainable(model) / 1e6, 3) == 11.690
    assert round(trainable(small) / 1e6, 3) == 3.056
    assert round(published_gmac(model), 3) == 1.822
    assert round(published_gmac(small), 3) == 0.487


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
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
    norm = net2net.FilterNorm()
    plan = net2net.prune(model, ratio=0.3, importance=norm, scope="global")
    assert plan.width("a") == 2 and plan.width("b") == 12


def test_isomorphic_groups_compete_with_one_another_only():
    x = entry = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stream")(x)
    for index in range(2):
        y = layers.Conv2D(8, 3, padding="same", name=f"inner{index}")(x)
        y = layers.Conv2D(8, 3, padding="same", name=f"outer{index}")(layers.ReLU()(y))
        x = layers.Add()([x, y])
    model = keras.Model(entry, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    scores = {
        "stream": np.full(8, 1e-6),
        "inner0": np.full(8, 1.0),
        "inner1": np.full(8, 2.0),
    }
    plan = net2net.prune(model, 0.5, importance=scores, scope="isomorphic")
    widths = [plan.width(name) for name in ("stream", "inner0", "inner1")]
    assert widths == [4, 1, 8 - 1]
    plan = net2net.prune(model, 0.25, importance=scores, scope="global")
    assert plan.width("stream") == 2


def test_no_layer_goes_below_one_channel_or_its_multiple(model):
    plan = net2net.prune(model, ratio=0.99, scope="local")
    assert (plan.width("a"), plan.width("b")) == (1, 1)
    plan = net2net.prune(model, ratio=0.99, scope="global", max_ratio=1.0)
    assert (plan.width("a"), plan.width("b")) == (1, 1)
    plan = net2net.prune(model, ratio=0.9, scope="local", round_to=4)
    assert (plan.width("a"), plan.width("b")) == (4, 4)


def test_no_layer_loses_more_to_others_than_the_largest_ratio(model):
    weak = {"a": np.arange(8) * 1e-6, "b": np.arange(12) + 1.0}
    plan = net2net.prune(model, ratio=0.4, importance=weak, max_ratio=0.5)
    assert kept(plan, "a") == [4, 5, 6, 7] and plan.width("b") == 8


@pytest.mark.parametrize(
    ("size", "ratio", "round_to", "expected"),
    [
        (64, 0.45, 8, 32),  # 35.2 wanted: 32, not 40
        (64, 0.4, 8, 40),  # 38.4
        (12, 0.1, 8, 12),  # 10.8: the size it has is nearer than 8
        (12, 0.3, 8, 8),  # 8.4
        (12, 0.9, 8, 8),  # 1.2: never below one multiple
        (6, 0.9, 8, 6),  # no multiple fits
        (5, 0.5, 1, 3),  # 2.5: a tie keeps more
    ],
)
def test_sizes_are_rounded_to_the_nearest_multiple(size, ratio, round_to, expected):
    entry = keras.Input((3,))
    x = layers.Dense(size, name="wide")(entry)
    small = keras.Model(entry, layers.Dense(2)(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan = net2net.prune(small, ratio, scope="local", round_to=round_to)
    assert plan.width("wide") == expected


def test_a_budget_is_not_wasted_by_rounding():
    x = entry = keras.Input((16, 16, 3))
    for index in range(5):
        x = layers.Conv2D(32, 3, padding="same", name=f"conv{index}")(x)
    model = keras.Model(entry, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    macs = net2net.count_macs(model)
    plan = net2net.prune(model, macs=0.45 * macs, round_to=8, scope="local")
    # All five at 16 would be .27, all at 24 .57 of the multiply-adds.
    assert 0.4 < net2net.count_macs(plan.apply()) / macs <= 0.45


def test_layers_have_widths_and_ratios_of_their_own(model):
    plan = net2net.prune(model, {"a": 3, "b": 0.25})
    assert (plan.width("a"), plan.width("b")) == (3, 9)
    plan = net2net.prune(model, {model.get_layer("a"): 3})
    assert (plan.width("a"), plan.width("b")) == (3, 12)
    plan = net2net.prune(model, 0.5, ratios={"b": 0.75}, scope="local")
    assert (plan.width("a"), plan.width("b")) == (4, 3)
    plan = net2net.prune(model, ratios={layers.Conv2D: 0.25})
    assert (plan.width("a"), plan.width("b")) == (6, 9)
    plan = net2net.prune(model, 0.5, ratios={"b": 0})
    assert (plan.width("a"), plan.width("b")) == (4, 12)


def test_scores_by_name_leave_the_others_to_the_default(model):
    plan = net2net.prune(model, {"b": 2}, importance={"b": np.arange(12)})
    assert kept(plan, "b") == [10, 11]
    half = net2net.prune(model, 0.5, importance={"b": np.ones(12)}, scope="local")
    default = net2net.prune(model, 0.5, scope="local")
    assert kept(half, "a") == kept(default, "a") != [0, 1, 2, 3]


def test_a_saved_model_is_pruned_by_its_path(model, tmp_path):
    model.save(tmp_path / "model.keras")
    plan = net2net.prune(tmp_path / "model.keras", {"a": 3})
    assert plan.apply().get_layer("a").filters == 3
    assert net2net.prune(str(tmp_path / "model.keras"), {"a": 3}).width("a") == 3


def test_the_table_says_what_is_saved_and_the_short_form_is_short(model):
    plan = net2net.prune(model, 0.5, scope="local")
    small = plan.apply()
    old, new = net2net.count_params(model), net2net.count_params(small)
    assert f"  parameters: {old:,} -> {new:,}\n" in str(plan)
    old, new = net2net.count_macs(model), net2net.count_macs(small)
    assert f"  multiply-adds: {old:,} -> {new:,} ({new / old:.0%})\n" in str(plan)
    assert repr(plan).startswith(f"<Plan for '{model.name}': prune 50% of the units")
    assert "2 of 2 groups change" in repr(plan) and "\n" not in repr(plan)


def test_the_table_of_a_model_with_open_sizes_counts_parameters_alone():
    entry = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, name="a")(entry))
    text = str(net2net.prune(keras.Model(entry, layers.Dense(2)(x)), {"a": 4}))
    assert "parameters: 242 -> 122\n" in text and "multiply-adds" not in text


# === Nothing changes ==================================================================
def test_a_plan_that_changes_nothing_says_so(model):
    with pytest.warns(UserWarning, match="stays as it is.*already fit"):
        net2net.prune(model, ratio=0.01, scope="local")
    with pytest.warns(UserWarning, match="stays as it is"):
        plan = net2net.prune(model, macs=10 * net2net.count_macs(model))
    assert "nothing changes" in str(plan)
    with pytest.warns(UserWarning, match="all layers that could change are kept"):
        net2net.prune(model, 0.5, keep=layers.Conv2D)
    entry = keras.Input((3,))
    fixed = keras.Model(entry, layers.Dense(2)(entry))
    with pytest.warns(UserWarning, match="none of its channels may change"):
        net2net.prune(fixed, 0.5)


def test_layer_norm_is_named_as_inexact():
    x = entry = keras.Input((5,))
    x = layers.LayerNormalization(name="norm")(layers.Dense(6)(x))
    model = keras.Model(entry, layers.Dense(2)(x))
    plan = net2net.prune(model, ratio=0.5)
    assert plan.warnings == ["norm: layer normalisation mixes its channels"]
    assert "note: norm" in str(plan)


# === Refusals =========================================================================
@pytest.mark.parametrize("ratio", [0, 1, -0.2, 1.5, float("nan"), "half", True, [1]])
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
        ("taylr", "Did you mean 'taylor'"),
        ("taylor", r"give importance=net2net.Taylor\(data\)"),
        (net2net.ActivationDensity, r"ActivationDensity\(data\)"),
        ({"label": np.ones(3)}, "made of 0 groups"),
    ],
)
def test_wrong_importance_data_is_refused(model, scores, message):
    with pytest.raises(ImportanceError, match=message):
        net2net.prune(model, ratio=0.5, importance=scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 0.5, "scope": "layer"}, "scope must be one of .*'layer'"),
        ({"ratio": 0.5, "round_to": 0}, "round_to must be a positive integer"),
        ({"ratio": 0.5, "max_ratio": 0}, "max_ratio must be"),
        ({"ratio": {"a": 0}}, "width of 'a' must be a positive integer"),
        ({"ratio": {"a": 1.5}}, "ratio of 'a' must be"),
        ({"ratio": {"a": "wide"}}, "width of 'a' must be .* received 'wide'"),
        ({"ratio": {"label": 2}}, "'label' cannot change its width"),
        ({"ratio": {"label": 0.5}}, "'label' cannot lose units"),
        ({"ratio": {}}, "widths must name layers"),
        ({"ratio": 0.5, "ratios": ["a"]}, "ratios must be a dict"),
        ({"latency": 1.0, "measure": 3}, "measure must be a function"),
        ({"ratios": {"a": 1.0}}, "ratio of 'a' must be"),
        ({"macs": -1}, "macs must be a number above zero"),
        ({"parameters": "few"}, "parameters must be a number"),
        ({"ratio": "density"}, "needs an ActivationDensity"),
    ],
)
def test_arguments_that_make_no_sense_are_named(model, arguments, message):
    with pytest.raises(PlanError, match=message):
        net2net.prune(model, **arguments)


def test_two_layers_of_one_group_cannot_ask_for_different_sizes():
    entry = keras.Input((4,))
    x = layers.Add()(
        [layers.Dense(6, name="a")(entry), layers.Dense(6, name="b")(entry)]
    )
    both = keras.Model(entry, layers.Dense(2)(x))
    with pytest.raises(PlanError, match="'a' and 'b' belong to one group"):
        net2net.prune(both, {"a": 3, "b": 4})


@pytest.mark.parametrize(
    ("value", "message"),
    [(3, "received int"), ("nowhere.keras", "no saved model at 'nowhere.keras'")],
)
def test_what_is_not_a_model_is_refused(value, message):
    with pytest.raises(PlanError, match=message):
        net2net.prune(value, 0.5)
