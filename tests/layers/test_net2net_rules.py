"""MEGAN's leaves under net2net: growing exact, pruning as masking, counts by hand."""

import keras
import numpy as np
import pytest

from keras_megan import MEGAN, layers, net2net
from keras_megan.net2net.counting import macs
from keras_megan.net2net.tracing.graph import trace
from tests.networks import SMALL_VARIANTS

pytestmark = pytest.mark.slow

VARIANTS = {
    **{name: SMALL_VARIANTS[name] for name in ("deformable", "window", "recurrent")},
    "stills": {
        "alignment": "window",
        "alignment_options": {"levels": 2, "reach": 2},
        "memory": None,
        "non_local_blocks": 0,
        "still_blocks": 1,
        "correction_filters": 8,
        "fusion_blocks": 0,
    },
    "stills that see their neighbours": {
        "alignment": "window",
        "alignment_options": {"levels": 2, "reach": 2},
        "memory": None,
        "non_local_blocks": 0,
        "still_blocks": 2,
        "neighbours": {"before": [0, 1], "moved_filters": 4, "hidden_filters": 6},
        "fusion_blocks": 0,
    },
    "stills with a trunk": {
        "alignment": "window",
        "alignment_options": {"levels": 2, "reach": 2},
        "still_blocks": 1,
        "correction_filters": 8,
    },
}

#: A layer whose channels nothing else shares.
INNER = {
    "stills": "extract_0/conv_1",
    "stills that see their neighbours": "extract_0/conv_1",
}


@pytest.fixture
def frames(rng):
    return rng.uniform(size=(1, 3, 8, 12, 3)).astype("float32")


def _model(variant, rng):
    options = {"fusion_blocks": 1, **VARIANTS[variant]}
    model = MEGAN(
        filters=16,
        num_frames=3,
        extraction_blocks=1,
        descriptor_size=4,
        reconstruction_blocks=1,
        **options,
    )
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.08))
    return model


def _inner(variant):
    return INNER.get(variant, "fusion_0/frame_conv")


def _assert_same(student, teacher, frames):
    expected = np.asarray(teacher(frames))
    received = np.asarray(student(frames))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shares", ["equal", "random"])
def test_widening_every_group_keeps_the_function(variant, shares, rng, frames):
    teacher = _model(variant, rng)
    student = net2net.widen(teacher, factor=1.5, shares=shares).apply()
    assert student.count_params() > 1.5 * teacher.count_params()
    _assert_same(student, teacher, frames)


@pytest.mark.parametrize("variant", VARIANTS)
def test_widening_one_group_gives_a_functional_model_that_saves(
    variant, rng, frames, tmp_path
):
    teacher = _model(variant, rng)
    student = net2net.widen(teacher, {_inner(variant): 21}).apply()
    assert type(student) is not MEGAN
    _assert_same(student, teacher, frames)
    student.save(tmp_path / "student.keras")
    loaded = keras.saving.load_model(tmp_path / "student.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(frames), student(frames))


@pytest.mark.parametrize("variant", VARIANTS)
def test_pruning_channels_that_nothing_mixes_equals_masking_them(variant, rng, frames):
    teacher = _model(variant, rng)
    name = _inner(variant)
    block, layer = name.split("/")
    conv = getattr(teacher.get_layer(block), layer)
    plan = net2net.prune(teacher, {name: conv.filters - 6})
    index_map = plan.index_map(plan.graph.width(name))
    gone = np.setdiff1d(np.arange(conv.filters), index_map.source)
    assert len(gone) == 6
    kernel, bias = conv.get_weights()
    pruned = plan.apply()
    kernel[..., gone], bias[gone] = 0, 0
    conv.set_weights([kernel, bias])
    _assert_same(pruned, teacher, frames)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pruning_half_of_everything_halves_the_widths(variant, rng, frames):
    teacher = _model(variant, rng)
    small = net2net.prune(teacher, ratio=0.5).apply()
    shape = (3, 8, 12, 3)
    assert net2net.count_macs(small, shape) < 0.5 * net2net.count_macs(teacher, shape)
    assert np.all(np.isfinite(small(frames)))


def test_geometry_is_frozen_with_a_reason(rng):
    teacher = _model("window", rng)
    with pytest.raises(ValueError, match="geometry"):
        net2net.widen(teacher, {"interpolate/window/motion/fine_head": 8})


def _macs(layer, *shapes):
    inputs = [keras.Input(shape[1:], batch_size=shape[0]) for shape in shapes]
    model = keras.Model(inputs, layer(*inputs))
    calls = trace(model, macs.is_counted, [shape[1:] for shape in shapes])
    return sum(macs.macs_by_call(calls).values())


def test_window_alignment_counts_its_products():
    # 20 columns are 2 blocks of 16; each pixel: 5 rows of a 20-wide strip, 3 channels.
    layer = layers.WindowAlignment(2)
    assert _macs(layer, (1, 6, 20, 3), (1, 6, 20, 2)) == 6 * 32 * 5 * 20 * 3


def test_deformable_convolution_counts_offsets_samples_and_kernel():
    layer = layers.DeformableConv2D(5, 3, offset_groups=2)
    per_pixel = 9 * 4 * (3 * 2 * 9) + 4 * 9 * 4 + 9 * 4 * 5
    assert _macs(layer, (1, 6, 7, 4)) == 6 * 7 * per_pixel


def test_full_spatial_attention_counts_both_products():
    shape = (1, 6, 7, 4)
    layer = layers.SpatialAttention("full")
    assert _macs(layer, shape, shape, (1, 6, 7, 5)) == 42 * 42 * (4 + 5)


def test_correlation_counts_one_product_per_displacement():
    shape = (1, 6, 7, 4)
    assert _macs(layers.BilateralCorrelation(2), shape, shape) == 6 * 7 * 25 * 4
