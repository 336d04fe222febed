"""Plans: what they say, how they are kept, and what they refuse."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_megan import net2net
from keras_megan.net2net.channels.channel_graph import UnknownLayerError
from keras_megan.net2net.channels.index_map import MEAN
from keras_megan.net2net.plan import PlanError
from tests.net2net.helpers import largest_difference, random_inputs, randomize, run
from tests.net2net.motifs import MOTIFS, through


@pytest.fixture
def model():
    x = entry = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", name="first")(x)
    y = layers.Conv2D(4, 3, padding="same", name="second")(x)
    x = layers.Add()([x, y])
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Flatten()(layers.ReLU()(x))
    return randomize(keras.Model(entry, layers.Dense(3, name="label")(x)))


def test_the_whole_coupled_group_follows_one_name(model):
    plan = net2net.widen(model, {"second": 6})
    changed = {path: new for path, _, _, new, _ in plan.changes()}
    assert changed["first/kernel"] == (3, 3, 3, 6)
    assert changed["second/kernel"] == (3, 3, 6, 6)
    assert changed["norm/moving_variance"] == (6,)
    assert changed["label/kernel"] == (36 * 6, 3)
    assert plan.width("first") == 6 and plan.preserves_function


def test_the_printed_table_names_variable_shapes_and_role(model):
    text = str(net2net.widen(model, {"first": 6}))
    line = next(row for row in text.splitlines() if "label/kernel" in row)
    assert line.split() == "label/kernel 0 144, 3 -> 216, 3 reads".split()
    assert "first.filters: 4 -> 6 units" in text


def test_flattened_rows_are_position_major(model):
    plan = net2net.widen(model, {"first": 6}, shares="equal")
    new = plan.new_value(model.get_layer("label").kernel)
    old = model.get_layer("label").get_weights()[0]
    for position in (0, 17, 35):
        # Unit 5 is the second copy of unit 1; both count half.
        row = new[position * 6 + 5]
        np.testing.assert_allclose(row, old[position * 4 + 1] / 2, rtol=1e-6)
        row = new[position * 6 + 2]
        np.testing.assert_allclose(row, old[position * 4 + 2], rtol=1e-6)


def test_json_round_trip_gives_the_same_model(model, tmp_path):
    plan = net2net.widen(model, factor=1.5)
    path = tmp_path / "plan.json"
    plan.save(path)
    again = net2net.Plan.load(path, model)
    assert again.to_dict() == plan.to_dict()
    for a, b in zip(plan.apply().weights, again.apply().weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_a_deepening_plan_survives_json(model):
    plan = net2net.deepen(model, after="second", kind="residual")
    again = net2net.Plan.from_dict(json.loads(json.dumps(plan.to_dict())), model)
    inputs = random_inputs(model)
    assert largest_difference(run(model, inputs), run(again.apply(), inputs)) == 0


@pytest.mark.parametrize("name", ["dense_concatenation", "lstm", "split_unevenly"])
def test_inverse_gives_the_original_weights_back(name):
    model = randomize(MOTIFS[name]())
    plan = net2net.widen(model, factor=1.6, choice="random")
    wide = plan.apply()
    narrow = plan.inverse(wide).apply()
    for old, new in zip(model.weights, narrow.weights, strict=True):
        np.testing.assert_allclose(old.numpy(), new.numpy(), rtol=1e-6)


def test_noise_is_put_on_later_copies_only(model):
    plan = net2net.widen(model, {"first": 6}, shares="equal")
    exact, noisy = plan.apply(), plan.apply(noise=0.1)
    old, new = (m.get_layer("first").get_weights()[0] for m in (exact, noisy))
    np.testing.assert_array_equal(old[..., :4], new[..., :4])
    assert np.all(np.std(new[..., 4:] - old[..., 4:], axis=(0, 1, 2)) > 0)


def test_weights_of_copies_with_random_shares_differ_after_one_step(model):
    wide = net2net.widen(model, {"first": 8}).apply()
    x = random_inputs(model, batch=4)
    wide.compile("sgd", "mse")
    wide.fit(x, np.ones((4, 3)), verbose=0)
    kernel = wide.get_layer("first").get_weights()[0]
    assert np.max(np.abs(kernel[..., :4] - kernel[..., 4:])) > 1e-4


@pytest.mark.slow
def test_adam_keeps_copies_alike_unless_they_begin_noisy_and_without_a_say():
    x = entry = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", name="first")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Flatten()(layers.ReLU()(x))
    model = randomize(keras.Model(entry, layers.Dense(3, name="label")(x)))
    images = random_inputs(model, batch=64)
    targets = np.random.default_rng(0).normal(size=(64, 3))
    likeness = {}
    for shares, noise in (("random", 0.0), ("first", 1.0)):
        wide = net2net.widen(model, {"first": 8}, shares=shares).apply(noise=noise)
        assert largest_difference(run(model, images), run(wide, images)) < 1e-5
        wide.compile(keras.optimizers.Adam(1e-2), "mse")
        wide.fit(images, targets, epochs=20, verbose=0)
        kernel = wide.get_layer("first").get_weights()[0].reshape(27, 8)
        kernel /= np.linalg.norm(kernel, axis=0)
        likeness[shares] = np.median(np.sum(kernel[:, :4] * kernel[:, 4:], axis=0))
    assert likeness["random"] > 0.9 > 0.8 > likeness["first"]


# === Refusals =========================================================================
def test_unknown_layer_is_refused_with_near_names(model):
    with pytest.raises(UnknownLayerError, match="Did you mean 'second'"):
        net2net.widen(model, {"secnd": 6})


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"first": 3}, "widening cannot make it 3"),
        ({"first": 0}, "positive integer"),
        ({"first": 6.5}, "positive integer"),
        ({"label": 5}, "reaches the model output 'label'"),
        ({"first": 6, "second": 8}, "cannot have 6 and 8"),
    ],
)
def test_impossible_widths_are_refused(model, widths, message):
    with pytest.raises(PlanError, match=message):
        net2net.widen(model, widths)


def test_layer_without_width_is_refused_by_name(model):
    with pytest.raises(UnknownLayerError, match="'norm' .* has no width of its own"):
        net2net.widen(model, {"norm": 6})


@pytest.mark.parametrize("factor", [1, 0.5, float("nan"), "2"])
def test_senseless_factors_are_refused(model, factor):
    with pytest.raises(PlanError, match="above 1"):
        net2net.widen(model, factor=factor)


def test_widths_in_blocks_name_the_near_ones():
    model = through(layers.Conv2D(12, 3, groups=3, name="grouped"), before=6)
    with pytest.raises(PlanError, match="blocks of 3.*Near widths: 12, 15"):
        net2net.widen(model, {"grouped": 14})


def test_plan_of_another_model_is_refused(model):
    plan = net2net.widen(model, {"first": 6})
    with pytest.raises((PlanError, UnknownLayerError)):
        net2net.Plan.from_dict(plan.to_dict(), through(layers.ReLU()))


@pytest.mark.parametrize("text", ["{}", "not json", '{"version": 99}'])
def test_damaged_plan_files_are_refused(model, tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(PlanError):
        net2net.Plan.load(path, model)


# === Normalised streams of any width ==================================================
def stream(norm, activation=None):
    x = entry = keras.Input((4,), dtype="int32")
    x = layers.Embedding(7, 6, name="stream")(x)
    for _ in range(2):
        y = norm()(x)
        x = x + layers.Dense(6, activation)(layers.Dense(5, "gelu")(y))
    x = norm()(x)
    return keras.Model(entry, layers.Dense(2)(ops.mean(x, axis=1)))


@pytest.mark.parametrize(
    ("norm", "fill"),
    [(layers.LayerNormalization, "average"), (layers.RMSNormalization, "zero")],
)
@pytest.mark.parametrize("width", [7, 9, 14])
def test_normalised_stream_takes_any_width_with_plain_layers(norm, fill, width):
    model = randomize(stream(lambda: norm(epsilon=1e-2)))
    inputs = random_inputs(model)
    wide = net2net.widen(model, {"stream": width}, fill=fill).apply()
    assert largest_difference(run(model, inputs), run(wide, inputs)) <= 2e-6
    kinds = {type(layer).__name__ for layer in wide.layers}
    assert norm.__name__ in kinds and "BalancedNormalization" not in kinds


def test_layer_norm_keeps_its_epsilon_for_whole_copies_and_scales_it_otherwise():
    model = randomize(stream(lambda: layers.LayerNormalization(epsilon=1e-2)))
    epsilons = [
        next(
            layer.epsilon
            for layer in net2net.widen(model, {"stream": w}, fill="average")
            .apply()
            .layers
            if isinstance(layer, layers.LayerNormalization)
        )
        for w in (12, 9)
    ]
    assert epsilons[0] == 1e-2
    assert epsilons[1] == pytest.approx(1e-2 * 6 / 9)


def test_averages_are_refused_where_an_activation_would_break_them():
    model = stream(layers.LayerNormalization, activation="relu")
    with pytest.raises(PlanError, match="only copies survive"):
        net2net.widen(model, {"stream": 9}, fill="average")


def test_a_map_for_a_frozen_group_is_refused(model):
    graph = net2net.ChannelGraph(model)
    frozen = graph.width("label").groups[0]
    with pytest.raises(PlanError, match="cannot change: it reaches the model output"):
        net2net.Plan(graph, {frozen: net2net.IndexMap.keep(3, [0])})


def test_a_mean_unit_is_refused_where_units_are_positions_of_blocks(model):
    graph = net2net.ChannelGraph(model)
    group = graph.width("first").groups[0]
    index_map = net2net.IndexMap(4, [0, 1, 2, 3, MEAN], [1, 1, 1, 1, 0])
    with pytest.raises(PlanError, match="only copies"):
        net2net.Plan(graph, {group: index_map})
