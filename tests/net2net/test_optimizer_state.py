"""The optimizer's state follows the plan.

The oracle for the formulas is differentiation: the gradients of the rewritten model are
computed, and must be what the formula makes of the original's gradients.
"""

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.optimizer_state import (
    OptimizerTransferError,
    gradient_power,
)
from keras_megan.net2net.pruning.importances.data import Data
from keras_megan.net2net.pruning.importances.gradients import gradients_per_batch
from tests.net2net.helpers import random_inputs, randomize, run
from tests.net2net.motifs import MOTIFS

pytestmark = pytest.mark.slow


def data_for(model, batch=4):
    x = random_inputs(model, batch)
    shape = run(model, x)[0].shape
    return x, np.random.default_rng(5).normal(size=shape).astype("float32")


def gradients_of(graph, data):
    (batch,) = gradients_per_batch(graph, Data(data), "mse")
    return batch[1]


def small_model():
    x = entry = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(layers.Add()([x, y]))
    return randomize(keras.Model(entry, layers.Dense(3)(layers.Flatten()(x))))


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("residual_block", "random"),
        ("batch_norm", "random"),
        ("gru", "random"),
        ("multi_head_attention", "random"),
        ("raw_kernels", "random"),
        ("conv2d_grouped", "random"),
        ("depthwise_multiplier", "random"),
        ("flatten_then_dense", "random"),
        ("residual_block", "first"),
        ("batch_norm", "first"),
        ("gru", "first"),
        # Through statistics over channels, copies of unequal share get gradients that
        # no formula gives; with equal shares they do.
        ("layer_norm", "equal"),
        ("rms_norm", "equal"),
        ("softmax_over_channels", "equal"),
    ],
)
def test_gradients_of_the_wide_model_are_what_the_formula_says(name, shares):
    model = randomize(MOTIFS[name]())
    data = data_for(model)
    graph = net2net.ChannelGraph(model)
    old = gradients_of(graph, data)
    plan = net2net.widen(graph, factor=2 if shares == "equal" else 1.5, shares=shares)
    wide = plan.apply(noise=0.0)
    new = gradients_of(net2net.ChannelGraph(wide), data)
    checked = 0
    scale = max(np.max(np.abs(g)) for g in new.values())
    for before, after in plan.pairs(wide):
        if id(before) in old:
            expected = gradient_power(plan, before, old[id(before)], 1)
            error = np.max(np.abs(expected - new[id(after)]))
            assert error <= 2e-5 * scale, before.path
            checked += 1
    assert checked >= 4


def test_slots_of_copies_that_do_not_count_yet_are_numbers():
    model = randomize(MOTIFS["multi_head_attention"]())
    x, y = data_for(model)
    plan = net2net.widen(model, factor=1.5, shares="first")
    wide = plan.apply(noise=1.0)
    for each in (model, wide):
        each.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(x, y, verbose=0)
    net2net.transfer_optimizer(model.optimizer, wide.optimizer, plan, wide)
    assert all(np.all(np.isfinite(slot.numpy())) for slot in slots(wide.optimizer))


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01, epsilon=1e-12),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.0, epsilon=1e-12),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True, epsilon=1e-12),
    "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01, epsilon=1e-12)
    ),
}


def slots(optimizer):
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return [v for v in inner.variables if len(v.shape) > 0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_training_goes_on_as_the_masked_training_would(name):
    """After pruning dead units, the next steps are those of the unpruned model."""
    model = small_model()
    first = model.layers[1]
    dead = [1, 3]
    # Units that are read with zeros and written with zeros stay zero while training.
    for layer in (first, model.layers[2]):
        kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
        kernel[..., dead], bias[dead] = 0, 0
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)
    kernel = model.layers[2].kernel.numpy()
    kernel[:, :, dead] = 0
    model.layers[2].kernel.assign(kernel)
    norm, label = model.layers[4], model.layers[6]
    for vector in (norm.gamma, norm.beta):
        value = vector.numpy()
        value[dead] = 0
        vector.assign(value)
    kernel = label.kernel.numpy().reshape(36, 4, 3)
    kernel[:, dead] = 0
    label.kernel.assign(kernel.reshape(144, 3))
    x, y = data_for(model, 8)
    model.compile(OPTIMIZERS[name](), "mse")
    model.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0)
    importance = {"conv2d" if first.name == "conv2d" else first.name: [1, 0, 1, 0]}
    plan = net2net.prune(model, {first.name: 2}, importance=importance)
    small = plan.apply()
    small.compile(OPTIMIZERS[name](), "mse")
    net2net.transfer_optimizer(model.optimizer, small.optimizer, plan, small)
    for each in (model, small):
        each.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0)
    for before, after in plan.pairs(small):
        np.testing.assert_allclose(
            plan.new_value(before), after.numpy(), rtol=2e-3, atol=2e-5
        )


@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_transferred_slots_are_those_of_a_model_wide_from_the_start(name):
    """Slots after widening equal the slots that the wide model's gradients make."""
    model = small_model()
    data = x, y = data_for(model, 4)
    plan = net2net.widen(model, factor=1.5, shares="random")
    wide = plan.apply()
    model.compile(OPTIMIZERS[name](), "mse")
    model.optimizer.build(model.trainable_variables)
    wide.compile(OPTIMIZERS[name](), "mse")
    wide.optimizer.build(wide.trainable_variables)
    # One step each from zero state: slots hold the gradients and their squares.
    for each in (model, wide):
        each.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    received = OPTIMIZERS[name]()
    received.build(wide.trainable_variables)
    net2net.transfer_optimizer(model.optimizer, received, plan, wide)
    assert int(received.iterations.numpy()) == 1
    compared = 0
    for a, b in zip(slots(wide.optimizer), slots(received), strict=True):
        scale = max(1e-12, np.max(np.abs(a.numpy())))
        np.testing.assert_allclose(b.numpy() / scale, a.numpy() / scale, atol=1e-4)
        compared += 1
    assert compared >= len(wide.trainable_variables)
    assert data is not None


def test_a_fresh_optimizer_is_built_for_the_student():
    model = small_model()
    x, y = data_for(model)
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    plan = net2net.deepen(model, after=model.layers[1].name)
    deeper = plan.apply()
    optimizer = net2net.transfer_optimizer(
        model.optimizer, keras.optimizers.Adam(1e-3), plan, deeper
    )
    deeper.compile(optimizer, "mse")
    deeper.fit(x, y, verbose=0)
    assert int(optimizer.iterations.numpy()) == 2


def test_refusals():
    model = small_model()
    model.compile("adam", "mse")
    model.fit(*data_for(model), verbose=0)
    plan = net2net.widen(model, factor=2)
    wide = plan.apply()
    with pytest.raises(OptimizerTransferError, match="one kind"):
        net2net.transfer_optimizer(model.optimizer, keras.optimizers.SGD(), plan, wide)
    unbuilt = keras.optimizers.Adam()
    with pytest.raises(OptimizerTransferError, match="no state yet"):
        net2net.transfer_optimizer(unbuilt, keras.optimizers.Adam(), plan, wide)
    ftrl = keras.optimizers.Ftrl()
    with pytest.raises(OptimizerTransferError, match="Ftrl"):
        net2net.transfer_optimizer(ftrl, keras.optimizers.Ftrl(), plan, wide)
    with pytest.raises(net2net.Net2NetError, match="not a model that this plan makes"):
        net2net.transfer_optimizer(
            model.optimizer, keras.optimizers.Adam(), plan, small_model()
        )


def test_what_a_transfer_needs_is_had_again_after_saving_and_loading(tmp_path):
    model = small_model()
    model.compile("adam", "mse")
    model.fit(*data_for(model), verbose=0)
    plan = net2net.widen(model, factor=1.5)
    wide = plan.apply()
    plan.save(tmp_path / "plan.json")
    wide.save(tmp_path / "wide.keras")
    expected = net2net.transfer_optimizer(
        model.optimizer, keras.optimizers.Adam(), plan, wide
    )
    plan = net2net.Plan.load(tmp_path / "plan.json", model)
    wide = keras.models.load_model(tmp_path / "wide.keras")
    received = net2net.transfer_optimizer(
        model.optimizer, keras.optimizers.Adam(), plan, wide
    )
    for a, b in zip(slots(expected), slots(received), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    narrow = plan.inverse(wide).apply()
    for a, b in zip(model.weights, narrow.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
