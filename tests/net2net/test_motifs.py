"""Widening keeps the function and pruning equals masking, for every motif.

The oracle is the original model itself, run in float64, so that a wrong formula cannot
hide in rounding. For pruning it is the original with the pruned units set to zero.

With KERAS_BACKEND=jax or torch, as in .ci/backends, the tests run there, in float32, to
which Keras rounds some operations on these backends whatever is asked of it. JAX, which
compiles every operation anew for every shape, runs one motif for each kind of layer
that it computes in a way of its own.
"""

import keras
import numpy as np
import pytest

from keras_megan import net2net
from tests.net2net.helpers import (
    largest_difference,
    masked_copy,
    random_inputs,
    randomize,
    run,
)
from tests.net2net.motifs import MOTIFS

pytestmark = pytest.mark.slow

ON_JAX = (
    "residual_block",
    "slices",
    "conv2d_grouped",
    "conv2d_transposed",
    "depthwise_multiplier",
    "separable",
    "depth_to_space",
    "batch_norm",
    "layer_norm",
    "group_norm",
    "softmax_over_channels",
    "einsum_dense",
    "embedding",
    "transformer_block",
    "group_query_attention",
    "gru",
    "lstm",
    "raw_kernels",
)
NAMES = ON_JAX if keras.backend.backend() == "jax" else tuple(MOTIFS)
IN_DOUBLE = keras.backend.backend() == "tensorflow"
# Keras's attention multiplies by 1 / sqrt(size) rounded to float32; what is made up for
# is exact to the rounding of that product.
EXACT = 1e-12 if IN_DOUBLE else 1e-5
WIDENINGS = (
    {"factor": 1.5, "shares": "equal"},
    {"factor": 2, "shares": "random"},
    {"factor": 1.7, "shares": "random", "choice": "random", "seed": 3},
)


@pytest.fixture
def precise():
    """Runs a test in float64 where the backend can."""
    before = keras.config.floatx()
    if IN_DOUBLE:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", NAMES)
def test_widening_keeps_the_function(name, precise):
    model = randomize(MOTIFS[name]())
    inputs = random_inputs(model)
    weights = model.get_weights()
    expected = run(model, inputs)
    graph = net2net.ChannelGraph(model)
    for options in WIDENINGS:
        plan = net2net.widen(graph, **options)
        assert plan.maps, "nothing was widened"
        wide = plan.apply()
        assert largest_difference(expected, run(wide, inputs)) <= EXACT
        assert net2net.count_params(wide) >= plan.parameters
    assert all(map(np.array_equal, weights, model.get_weights()))
    assert largest_difference(expected, run(model, inputs)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_copies_that_do_not_count_may_be_anything(name, precise):
    model = randomize(MOTIFS[name]())
    inputs = random_inputs(model)
    expected = run(model, inputs)
    plan = net2net.widen(model, factor=1.7)
    assert plan.noise == 1.0
    noisy = plan.apply()
    assert largest_difference(expected, run(noisy, inputs)) <= max(EXACT, 1e-7)
    alike = {group for layout in plan.graph.alike for group in layout.groups}
    if not set(plan.maps) - alike:
        return  # All copies are heard, so they have no noise.
    quiet = plan.apply(noise=0.0)
    changed = zip(quiet.get_weights(), noisy.get_weights(), strict=True)
    assert any(np.max(np.abs(a - b)) > 0 for a, b in changed)


@pytest.mark.parametrize("name", NAMES)
def test_pruning_equals_masking_or_says_why_not(name, precise):
    model = randomize(MOTIFS[name]())
    inputs = random_inputs(model)
    plan = net2net.prune(model, ratio=0.4, scope="local")
    small = plan.apply()
    masked = run(masked_copy(plan), inputs)
    assert net2net.count_params(small) < net2net.count_params(model)
    if plan.warnings:
        return
    assert largest_difference(masked, run(small, inputs)) <= EXACT


@pytest.mark.parametrize("name", ["residual_block", "squeeze_and_excite", "lstm"])
def test_single_precision_is_exact_to_rounding(name):
    model = randomize(MOTIFS[name]())
    inputs = random_inputs(model)
    wide = net2net.widen(model, factor=1.5).apply()
    assert largest_difference(run(model, inputs), run(wide, inputs)) <= 1e-6


@pytest.mark.parametrize("name", ["batch_norm", "dense_concatenation"])
def test_training_mode_of_batch_norm_is_exact_too(name, precise):
    model = randomize(MOTIFS[name]())
    inputs = random_inputs(model, batch=4)
    wide = net2net.widen(model, factor=1.5, shares="random").apply()
    expected = run(model, inputs, training=True)
    assert largest_difference(expected, run(wide, inputs, training=True)) <= EXACT


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "softmax_over_channels"])
def test_widening_twice_keeps_the_function(name, precise):
    model = randomize(MOTIFS[name]())
    inputs = random_inputs(model)
    once = net2net.widen(model, factor=1.5, shares="random").apply()
    plan = net2net.widen(once, factor=1.4, shares="random", choice="random")
    twice = plan.apply()
    assert largest_difference(run(model, inputs), run(twice, inputs)) <= EXACT


@pytest.mark.parametrize(
    "name",
    [
        "composite_layers",
        "nested_models",
        "raw_kernels",
        "softmax_over_channels",
        "layer_norm",
        "slices",
        "split_unevenly",
        "two_inputs_two_outputs",
        "bidirectional_concat",
        "transformer_block",
        "constant_per_channel",
    ],
)
def test_saved_models_come_back(name, tmp_path):
    model = randomize(MOTIFS[name]())
    inputs = random_inputs(model)
    for plan in (
        net2net.widen(model, factor=1.5),
        net2net.prune(model, ratio=0.4, scope="local"),
    ):
        new = plan.apply()
        path = tmp_path / "model.keras"
        new.save(path)
        again = keras.models.load_model(path, safe_mode=True)
        assert largest_difference(run(new, inputs), run(again, inputs)) == 0
