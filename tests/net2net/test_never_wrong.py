"""What used to be wrong without a word: masks, overridden helpers, chance.

Every test compares the outputs themselves, not what the library says of them.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_megan import net2net
from keras_megan.net2net.rewriting.apply import VerificationError
from tests.net2net.helpers import (
    difference,
    largest_difference,
    random_inputs,
    randomize,
    readout,
    run,
)

FACTOR = 1.5


def register(cls):
    return keras.saving.register_keras_serializable("net2net_never_wrong")(cls)


def padded_tokens(model, batch=4):
    tokens = random_inputs(model, batch=batch)
    tokens[:, 0] = 3
    tokens[:, 3:] = 0
    return tokens


# === Masks ============================================================================
@register
class Block(layers.Layer):
    """Attention inside a layer that hands masks on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.attention = layers.MultiHeadAttention(2, 3)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, x):
        return x + self.attention(x, x)


@register
class ZeroMask(layers.Layer):
    """Makes a mask of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x):
        return 1.0 * x

    def compute_mask(self, x, mask=None):
        return ops.any(ops.greater(x, 0.3), axis=-1)


def masked_models():
    def embedded():
        entry = keras.Input((6,), dtype="int32")
        return entry, layers.Embedding(7, 4, mask_zero=True)(entry)

    entry, x = embedded()
    yield "additive", keras.Model(entry, readout(layers.AdditiveAttention()([x, x])))
    entry, x = embedded()
    yield "block", keras.Model(entry, readout(Block()(layers.Dense(4)(x))))
    entry, x = embedded()
    yield "blocks", keras.Model(entry, readout(layers.LSTM(3)(Block()(Block()(x)))))
    entry = keras.Input((6, 3))
    x = ZeroMask()(layers.Dense(4)(entry))
    yield "own mask", keras.Model(entry, readout(layers.GRU(3)(x)))
    # One head becomes two; the axis that attends, number 1 as well, must stay.
    entry, x = embedded()
    yield "one head", keras.Model(entry, readout(x + SharpAttention(1, 2)(x, x)))


@pytest.mark.parametrize("index", range(5), ids=lambda i: f"masked{i}")
def test_masks_are_kept(index):
    name, model = list(masked_models())[index]
    randomize(model)
    inputs = random_inputs(model, 4) if name == "own mask" else padded_tokens(model)
    error, _ = difference(model, inputs)
    assert error <= 2e-6, name


# === Helpers that subclasses override =================================================
@register
class StandardizedConv(layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        kernel = kernel / (0.1 + ops.std(kernel, axis=(0, 1, 2), keepdims=True))
        return super().convolution_op(inputs, kernel)


@register
class ScaledAttention(layers.MultiHeadAttention):
    def _compute_attention(self, query, key, value, *args, **kwargs):
        scores = ops.einsum(self._dot_product_equation, key, query)
        scores = ops.softmax(3.0 * scores - ops.mean(scores), axis=-1)
        return ops.einsum(self._combine_equation, scores, value), scores


@register
class SharpAttention(layers.MultiHeadAttention):
    def _compute_attention(self, query, key, value, *args, **kwargs):
        scores = ops.einsum(self._dot_product_equation, key, query)
        scores = ops.softmax(2.0 * scores, axis=-1)
        return ops.einsum(self._combine_equation, scores, value), scores


@register
class ResidualLSTM(layers.LSTM):
    def inner_loop(self, sequences, initial_state, mask, training=False):
        last, outputs, states = super().inner_loop(
            sequences, initial_state, mask=mask, training=training
        )
        return last + ops.std(last), outputs, states


def overriding_models():
    entry = keras.Input((6, 6, 3))
    x = StandardizedConv(4, 3)(layers.Conv2D(4, 1)(entry))
    yield keras.Model(entry, readout(layers.Conv2D(5, 1)(x)))
    entry = keras.Input((5, 3))
    x = layers.Dense(4)(entry)
    yield keras.Model(entry, readout(ScaledAttention(2, 3)(x, x)))
    entry = keras.Input((5, 3))
    x = layers.Dense(4)(entry)
    yield keras.Model(entry, readout(ResidualLSTM(4)(x)))
    # With one head, a bias has an axis of one position that becomes wider.
    entry = keras.Input((5, 3))
    x = layers.Dense(4)(entry)
    yield keras.Model(entry, readout(ScaledAttention(1, 3)(x, x)))


@pytest.mark.parametrize("index", range(4), ids=["conv", "attention", "lstm", "head"])
def test_subclasses_that_override_a_helper(index):
    model = randomize(list(overriding_models())[index])
    error, _ = difference(model, random_inputs(model))
    assert error <= 5e-6


def spread(x):
    return x / (1 + ops.std(x, axis=-1, keepdims=True))


# === Activations in cells =============================================================
@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.LSTM(4, activation="softmax"),
        lambda: layers.GRU(4, recurrent_activation="softmax"),
        lambda: layers.Bidirectional(layers.LSTM(4, recurrent_activation="softmax")),
        lambda: layers.TimeDistributed(layers.Dense(4, activation="softmax")),
        lambda: layers.TimeDistributed(layers.Dense(4, activation=spread)),
    ],
    ids=["lstm", "gru", "bidirectional", "time_distributed", "own_function"],
)
def test_activations_that_mix_units(layer):
    entry = keras.Input((5, 3))
    model = randomize(keras.Model(entry, readout(layer()(layers.Dense(4)(entry)))))
    error, _ = difference(model, random_inputs(model))
    assert error <= 5e-6


# === Chance ===========================================================================
@register
class Sampling(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(5)

    def call(self, x):
        noise = keras.random.normal(ops.shape(x), seed=self.seed_generator)
        return x + noise


@register
class BayesianDense(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.seed_generator = keras.random.SeedGenerator(5)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x):
        noise = keras.random.normal(self.kernel.shape, seed=self.seed_generator)
        return ops.matmul(x, self.kernel + noise)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@pytest.mark.parametrize("layer", [Sampling, lambda: BayesianDense(4)])
@pytest.mark.parametrize("batch", [None, 4])
def test_random_numbers_stay_random(layer, batch):
    entry = keras.Input((5,), batch_size=batch)
    x = layers.Dense(4)(entry)
    x = layers.Dense(6, activation="tanh", name="free")(layer()(x))
    model = randomize(keras.Model(entry, layers.Dense(2)(x)))
    wide = net2net.widen(model, {"free": 9}).apply()
    inputs = random_inputs(model, batch=4)
    draws = [run(wide, inputs)[0] for _ in range(2)]
    assert np.max(np.abs(draws[0] - draws[1])) > 1e-3


# === Quantised kernels ================================================================
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have")
def test_quantised_layers_are_left_alone():
    entry = keras.Input((8,))
    x = layers.Dense(16, activation="relu", name="kept")(entry)
    model = randomize(keras.Model(entry, layers.Dense(4)(layers.Dense(16)(x))))
    model.quantize("int8")
    plan = net2net.widen(model, factor=FACTOR)
    assert not plan.maps and "quantised" in str(plan)
    inputs = random_inputs(model)
    assert largest_difference(run(model, inputs), run(plan.apply(), inputs)) <= 1e-6


# === Normalisation by the variance ====================================================
@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")
def test_layer_normalization_with_rms_scaling():
    entry = keras.Input((5,))
    x = layers.LayerNormalization(rms_scaling=True)(layers.Dense(4)(entry))
    model = randomize(keras.Model(entry, readout(x)))
    error, _ = difference(model, random_inputs(model))
    assert error <= 2e-6


# === The way back =====================================================================
def product_model():
    entry = keras.Input((5,))
    x = layers.Dense(4)(entry) * layers.Dense(4)(entry)
    return keras.Model(entry, layers.Dense(2)(ops.sum(x, axis=-1, keepdims=True)))


def normalized_model():
    entry = keras.Input((5,))
    x = layers.RMSNormalization()(layers.Dense(4)(entry))
    return keras.Model(entry, layers.Dense(2)(x))


@pytest.mark.parametrize("make", [product_model, normalized_model])
@pytest.mark.parametrize("shares", ["first", "random", "equal"])
def test_the_way_back_is_exact_or_refused(make, shares):
    model = randomize(make())
    plan = net2net.widen(model, factor=FACTOR, shares=shares)
    wide = plan.apply()
    inputs = random_inputs(model)
    try:
        narrow = plan.inverse(wide).apply()
    except VerificationError as error:
        assert "cannot be undone" in str(error)
        return
    assert largest_difference(run(model, inputs), run(narrow, inputs)) <= 5e-6


# === The net under all of it ==========================================================
@register
class Centred(layers.Layer):
    """Mixes its channels; the rule that is registered below says it does not."""

    def call(self, x):
        return x - 0.5 * ops.sum(x, axis=-1, keepdims=True)


def test_a_wrong_rule_is_found_by_apply_itself(monkeypatch):
    from keras_megan.net2net.rules.base import RULES

    monkeypatch.setattr(RULES, "_entries", dict(RULES._entries))
    net2net.register_rule(Centred)(lambda site: site.inputs[0])
    entry = keras.Input((5,))
    x = Centred(name="centred")(layers.Dense(4, name="before")(entry))
    model = randomize(keras.Model(entry, readout(x)))
    plan = net2net.widen(model, factor=FACTOR)
    with pytest.raises(net2net.Net2NetError, match="first layer .* is 'centred'"):
        plan.apply()
    inputs = random_inputs(model)
    wrong = run(plan.apply(verify=False), inputs)
    assert largest_difference(run(model, inputs), wrong) > 0.01


def test_pruning_is_compared_with_masking(monkeypatch):
    from keras_megan.net2net.rules.base import RULES

    monkeypatch.setattr(RULES, "_entries", dict(RULES._entries))
    net2net.register_rule(layers.LayerNormalization)(lambda site: site.inputs[0])
    entry = keras.Input((5,))
    norm = layers.LayerNormalization(center=False, scale=False)
    x = norm(layers.Dense(4, name="before")(entry))
    model = randomize(keras.Model(entry, layers.Dense(2)(x)))
    with pytest.raises(net2net.Net2NetError, match="pruned units at zero"):
        net2net.prune(model, ratio=0.5).apply()


def test_rounding_is_judged_by_rounding_not_by_a_constant():
    """A network that makes a thousand times as much of rounding passes all the same."""
    x = entry = keras.Input((6,))
    for _ in range(6):
        x = layers.Dense(6, use_bias=False)(x)
        x = x - layers.Dense(6, use_bias=False)(x)
    model = randomize(keras.Model(entry, layers.Dense(1)(x)))
    # The outputs nearly cancel, so that what is left is mostly rounding.
    last = model.layers[-1]
    kernel = last.kernel.numpy()
    batch = random_inputs(model, batch=1)
    before = keras.Model(entry, last.input)(batch).numpy()[0]
    kernel[-1] = -np.sum(before[:-1] * kernel[:-1, 0]) / before[-1]
    last.kernel.assign(kernel)
    last.bias.assign([0.0])
    net2net.widen(model, factor=1.5, shares="random").apply()


def test_apply_leaves_the_plan_and_the_model_alone():
    model = randomize(product_model())
    plan = net2net.widen(model, FACTOR)
    before, weights = plan.to_dict(), model.get_weights()
    first, second = plan.apply(), plan.apply()
    assert plan.to_dict() == before
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
