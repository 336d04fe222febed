"""Random graphs of motifs: the same four promises hold for every one of them.

Widening keeps the function; taking the copies back out gives the original weights; a
plan survives JSON; pruning equals masking. Saving is tested on fewer examples.
"""

import json
import tempfile

import keras
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

from keras_megan import net2net
from tests.net2net import odd_graphs
from tests.net2net.helpers import (
    largest_difference,
    masked_copy,
    random_inputs,
    randomize,
    run,
)

WIDTHS = (2, 3, 4, 6)


class Choices:
    """Makes choices from a list of numbers, round and round.

    The models are built from plain numbers, not inside the strategy, because Keras
    draws random numbers of its own while building.
    """

    def __init__(self, numbers):
        self.numbers = numbers
        self.position = 0

    def __call__(self, options):
        number = self.numbers[self.position % len(self.numbers)]
        self.position += 1
        return options[number % len(options)]


def convolution(choose, tensors):
    x = choose(tensors)
    act = choose([None, "relu", "tanh"])
    return layers.Conv2D(choose(WIDTHS), 3, padding="same", activation=act)(x)


def addition(choose, tensors):
    x = choose(tensors)
    y = layers.Conv2D(x.shape[-1], 1)(choose(tensors))
    return x + y


def concatenation(choose, tensors):
    chosen = [choose(tensors) for _ in range(choose([2, 3]))]
    return ops.concatenate(chosen, axis=-1)


def excitation(choose, tensors):
    x = choose(tensors)
    s = ops.mean(x, axis=(1, 2), keepdims=True)
    s = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(
        layers.Conv2D(choose(WIDTHS), 1, activation="relu")(s)
    )
    return x * s


def normalization(choose, tensors):
    x = choose(tensors)
    return layers.ReLU()(layers.BatchNormalization()(x))


def depthwise(choose, tensors):
    x = choose(tensors)
    multiplier = choose([1, 2])
    return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier)(x)


def halves(choose, tensors):
    x = choose(tensors)
    if x.shape[-1] % 2:
        return ops.relu(x)
    a, b = ops.split(x, 2, axis=-1)
    return a * ops.sigmoid(b)


def part(choose, tensors):
    x = choose(tensors)
    start = choose(range(x.shape[-1] - 1)) if x.shape[-1] > 2 else 0
    return ops.concatenate([x[..., start:], ops.tanh(x)], axis=-1)


def shuffled_pixels(choose, tensors):
    x = choose(tensors)
    x = layers.Conv2D(4 * choose(WIDTHS), 1)(x)
    return layers.AveragePooling2D(2)(ops.depth_to_space(x, 2))


def mask(choose, tensors):
    x = choose(tensors)
    return x * layers.Conv2D(1, 1, activation="sigmoid")(x)


BLOCKS = [
    convolution,
    addition,
    concatenation,
    excitation,
    normalization,
    depthwise,
    halves,
    part,
    shuffled_pixels,
    mask,
]


def build(numbers):
    """A random graph of up to five blocks that end in one readout."""
    choose = Choices(numbers)
    entry = keras.Input((4, 4, 2))
    tensors = [layers.Conv2D(choose(WIDTHS), 3, padding="same")(entry)]
    for _ in range(choose([1, 2, 3, 4, 5])):
        tensors.append(choose(BLOCKS)(choose, tensors[-3:]))
    x = layers.Flatten()(layers.Conv2D(3, 2)(tensors[-1]))
    return randomize(keras.Model(entry, layers.Dense(3)(x)), choose(range(99)))


recipes = st.lists(st.integers(0, 999), min_size=12, max_size=30)
options = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@given(recipes, st.sampled_from([1.3, 1.5, 2.0]), st.integers(0, 99))
@options
def test_widening_and_back(recipe, factor, seed):
    model = build(recipe)
    inputs = random_inputs(model)
    plan = net2net.widen(model, factor=factor, seed=seed, choice="random")
    text = json.loads(json.dumps(plan.to_dict()))
    wide = net2net.Plan.from_dict(text, model).apply()
    assert largest_difference(run(model, inputs), run(wide, inputs)) <= 1e-5
    narrow = plan.inverse(wide).apply()
    for old, new in zip(model.weights, narrow.weights, strict=True):
        old, new = old.numpy(), new.numpy()
        assert old.shape == new.shape and abs(old - new).max() <= 1e-5 * abs(old).max()


@pytest.mark.filterwarnings("ignore:.*stays as it is:UserWarning")
@given(recipes, st.sampled_from([0.3, 0.5, 0.8]))
@options
def test_pruning_equals_masking(recipe, ratio):
    model = build(recipe)
    inputs = random_inputs(model)
    plan = net2net.prune(model, ratio=ratio, scope="local")
    assert not plan.warnings
    masked, small = masked_copy(model, plan), plan.apply()
    received = run(small, inputs)
    difference = largest_difference(run(masked, inputs), received)
    assert difference <= 1e-5


@given(recipes)
@settings(options, max_examples=5)
def test_saving(recipe):
    model = build(recipe)
    inputs = random_inputs(model)
    wide = net2net.widen(model, factor=1.5).apply()
    with tempfile.TemporaryDirectory() as folder:
        wide.save(f"{folder}/model.keras")
        again = keras.models.load_model(f"{folder}/model.keras", safe_mode=True)
    assert largest_difference(run(wide, inputs), run(again, inputs)) == 0


@pytest.mark.filterwarnings("ignore:.*does not support masking:UserWarning")
@given(recipes, st.sampled_from([1.5, 2.0]))
@settings(options, max_examples=12)
def test_what_is_hard_to_follow_is_exact_or_fixed(recipe, factor):
    choose = Choices(recipe)
    model = randomize(odd_graphs.build(choose), choose(range(99)))
    inputs = random_inputs(model, batch=3)
    inputs[:, 0], inputs[:, 3:] = 5, 0
    wide = net2net.widen(model, factor=factor).apply()
    assert largest_difference(run(model, inputs), run(wide, inputs)) <= 1e-5
