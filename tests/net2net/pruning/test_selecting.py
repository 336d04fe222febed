"""Selecting layers: by name, path, pattern, type and instance."""

import re

import keras
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.channels.channel_graph import UnknownLayerError
from keras_megan.net2net.pruning.selecting import groups_of


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(6, name="first")
        self.second = layers.Dense(8, name="second")

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 6))

    def call(self, x):
        return x + self.second(self.first(x))


@pytest.fixture
def model():
    entry = keras.Input((5, 4))
    x = layers.Dense(8, name="stem")(entry)
    x = Block(name="one")(x)
    x = Block(name="two")(x)
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    x = attention(layers.LayerNormalization(name="norm")(x), x)
    x = layers.Dense(7, name="head_a")(x)
    return keras.Model(entry, layers.Dense(2, name="label")(x), name="net")


def names(model, selector):
    graph = net2net.ChannelGraph(model)
    return {group.name for group in groups_of(graph, selector)}


STREAM, ONE, TWO = "stem.units", "one/first.units", "two/first.units"
HEADS = {"attention.num_heads", "attention.key_dim", "attention.value_dim"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("stem", {STREAM}),
        ("one/first", {ONE}),
        ("one", {ONE, STREAM}),
        ("first", {ONE, TWO}),
        ("*/first", {ONE, TWO}),
        ("o*", {ONE, STREAM}),
        ("head_?", {"head_a.units"}),
        (re.compile("^two/f"), {TWO}),
        (Block, {ONE, TWO, STREAM}),
        (layers.LayerNormalization, {STREAM}),
        ("norm", {STREAM}),
        (["stem", "two/first"], {STREAM, TWO}),
        (("stem",), {STREAM}),
        ((), set()),
        ("label", set()),
    ],
)
def test_selectors_mean_what_they_say(model, selector, expected):
    assert names(model, selector) == expected


def test_a_layer_itself_is_a_selector(model):
    assert names(model, model.get_layer("stem")) == {STREAM}
    assert names(model, model.get_layer("two")) == {TWO, STREAM}
    assert names(model, [model.get_layer("two").first]) == {TWO}


def test_several_widths_are_one_layers(model):
    found = names(model, "attention")
    assert found and found <= HEADS
    one = names(model, "attention.num_heads")
    assert one == {"attention.num_heads"} and one < found


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("stm", "Model 'net' has no layer 'stm'. Did you mean 'stem'"),
        ("nothing*", r"no layer 'nothing\*'"),
        (re.compile("nothing"), "no layer 'nothing' with channels"),
        (layers.Conv2D, "no layer 'Conv2D'"),
        (3, r"selected by .*received 3 \(int\)"),
    ],
)
def test_what_selects_nothing_is_named(model, selector, message):
    with pytest.raises(UnknownLayerError, match=message):
        names(model, selector)


@pytest.mark.parametrize("keep", ["stem", ["stem"], {"stem"}, "st*"])
def test_kept_layers_stay(model, keep):
    plan = net2net.prune(model, ratio=0.5, keep=keep)
    assert plan.width("stem") == 8 and plan.width("one/first") < 6


def test_a_foreign_layer_is_refused(model):
    with pytest.raises(UnknownLayerError, match="no layer 'other'"):
        net2net.prune(model, 0.5, keep=layers.Dense(3, name="other"))
