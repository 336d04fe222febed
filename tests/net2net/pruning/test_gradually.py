"""Pruning in steps: how far each goes, what is called between, what stays."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.channels.channel_graph import UnknownLayerError
from keras_megan.net2net.plan import PlanError
from tests.net2net.helpers import randomize


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(16, name="first")
        self.second = layers.Dense(20, name="second")

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 16))

    def call(self, x):
        return keras.ops.relu(self.second(self.first(x)))


@pytest.fixture
def model():
    entry = keras.Input((4,))
    x = layers.Dense(20, name="stem", activation="relu")(entry)
    x = Block(name="block")(x)
    x = layers.Dense(30, name="wide", activation="relu")(x)
    return randomize(keras.Model(entry, layers.Dense(2)(x)))


def widths(network):
    return [layer.units for layer in network.layers if hasattr(layer, "units")]


def seen_by(model, *arguments, **options):
    steps = []

    def between(network, plan):
        steps.append(widths(network))
        assert plan.model is not network

    last = net2net.prune_gradually(model, between, *arguments, **options)
    assert widths(last) == steps[-1]
    return steps


def test_linear_steps_lose_the_same_each_time(model):
    steps = seen_by(model, 0.5, steps=5, schedule="linear", scope="local")
    assert [step[0] for step in steps] == [18, 16, 14, 12, 10]
    assert steps[-1] == [10, 8, 10, 15, 2]


def test_cubic_steps_lose_most_at_first(model):
    steps = seen_by(model, 0.5, steps=3, scope="local")
    lost = np.diff([20, *(step[0] for step in steps)])
    assert list(lost) == sorted(lost) and steps[-1][0] == 10


@pytest.mark.parametrize("kind", ["macs", "parameters"])
def test_budgets_are_gone_to_in_steps(model, kind):
    count = {"macs": net2net.count_macs, "parameters": net2net.count_params}[kind]
    start, costs = count(model), []
    net2net.prune_gradually(
        model,
        lambda network, plan: costs.append(count(network)),
        steps=2,
        schedule="linear",
        **{kind: start / 2},
    )
    assert 0.6 * start < costs[0] <= 0.75 * start and 0.4 * start < costs[1]
    assert costs[1] <= start / 2


@pytest.mark.parametrize("keep", ["block/first", ["stem", "block/first"]])
def test_what_is_kept_stays_through_all_steps(model, keep):
    # After the first step the block is laid out flat, and its layers have other names.
    steps = seen_by(model, 0.5, steps=3, keep=keep, scope="local")
    assert all(step[1] == 16 for step in steps)
    assert all((step[0] == 20) == (keep != "block/first") for step in steps)
    assert steps[-1][3] in (14, 15)  # Every step rounds.


def test_a_layer_itself_is_kept_through_all_steps(model):
    steps = seen_by(model, 0.5, steps=2, keep=model.get_layer("wide"), scope="local")
    assert [step[3] for step in steps] == [30, 30] and steps[-1][0] == 10


def test_the_function_may_give_another_model(model):
    copies = []

    def between(network, plan):
        copies.append(keras.models.clone_model(network))
        return copies[-1]

    last = net2net.prune_gradually(model, between, 0.5, steps=2, keep="stem")
    assert last is copies[-1] and widths(last)[0] == 20


def test_importances_are_measured_before_every_step(model):
    seen = []

    class Noted(net2net.GroupNorm):
        def scores(self, graph):
            seen.append(graph.model)
            return super().scores(graph)

    net2net.prune_gradually(
        model, lambda network, plan: None, 0.5, steps=3, importance=Noted()
    )
    assert seen[0] is model and len({id(network) for network in seen}) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of ratio, parameters, macs, latency; received none"),
        ({"ratio": 0.5, "macs": 100}, "received macs and ratio"),
        ({"ratio": 1.5}, "between 0 and 1"),
        ({"ratio": {"stem": 3}}, "in steps goes to"),
        ({"widths": {"stem": 3}}, "received widths"),
        ({"ratio": 0.5, "steps": 0}, "steps must be a positive integer"),
        ({"ratio": 0.5, "schedule": "quick"}, "'linear', 'cubic'"),
        ({"ratio": 0.5, "schedule": lambda p: 1 - p}, "rises from 0 to 1"),
        ({"ratio": 0.5, "importance": {"stem": np.ones(20)}}, "one model only"),
        ({"ratio": 0.5, "between": None}, "between must be a function"),
    ],
)
def test_what_makes_no_sense_is_refused(model, options, message):
    options = {"between": lambda network, plan: None, **options}
    with pytest.raises(PlanError, match=message):
        net2net.prune_gradually(model, **options)


def test_a_layer_that_is_not_there_is_named(model):
    with pytest.raises(UnknownLayerError, match="no layer 'stm'"):
        net2net.prune_gradually(model, print, 0.5, keep="stm")
