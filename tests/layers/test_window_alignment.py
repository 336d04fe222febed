"""Window alignment is plain bilinear sampling inside its reach."""

import numpy as np
import pytest
import tensorflow as tf

from keras_megan.layers import OcclusionBlend, WindowAlignment
from keras_megan.layers.mobile_operations import mobile_operations


@pytest.fixture(params=["gathers", "products"], autouse=True)
def way(request):
    """Every test here holds for both ways of sampling."""
    with mobile_operations(request.param == "products"):
        yield request.param


def bilinear_sample(features, offsets):
    """The definition as a plain loop in float64, zeros outside the image."""
    batch, height, width, _ = features.shape
    sampled = np.zeros(features.shape)
    for n, y, x in np.ndindex(batch, height, width):
        at_y, at_x = y + float(offsets[n, y, x, 0]), x + float(offsets[n, y, x, 1])
        for row in (int(np.floor(at_y)), int(np.floor(at_y)) + 1):
            for column in (int(np.floor(at_x)), int(np.floor(at_x)) + 1):
                if 0 <= row < height and 0 <= column < width:
                    weight = (1 - abs(at_y - row)) * (1 - abs(at_x - column))
                    sampled[n, y, x] += weight * features[n, row, column]
    return sampled


@pytest.mark.parametrize(
    ("reach", "height", "width"),
    [(12, 9, 37), (3, 20, 16), (20, 5, 50), (16, 5, 33), (1, 3, 3), (12, 1, 1)],
)
def test_equals_bilinear_sampling_inside_the_reach(rng, reach, height, width):
    features = rng.normal(size=(2, height, width, 5)).astype("float32")
    offsets = rng.uniform(-reach, reach, size=(2, height, width, 2)).astype("float32")
    sampled = WindowAlignment(reach)(features, offsets)
    np.testing.assert_allclose(
        sampled, bilinear_sample(features, offsets), atol=1e-5, rtol=0
    )


def test_the_default_reach_is_twelve_pixels():
    assert WindowAlignment().reach >= 12


def test_zero_offsets_copy_exactly(rng):
    features = rng.normal(size=(2, 7, 21, 4)).astype("float32")
    sampled = WindowAlignment(12)(features, np.zeros((2, 7, 21, 2), "float32"))
    np.testing.assert_array_equal(sampled, features)


def test_whole_offsets_shift(rng):
    features = rng.normal(size=(1, 9, 20, 2)).astype("float32")
    offsets = np.broadcast_to(np.float32([2, -3]), (1, 9, 20, 2))
    sampled = np.asarray(WindowAlignment(4)(features, offsets))
    np.testing.assert_array_equal(sampled[:, :-2, 3:], features[:, 2:, :-3])
    assert not sampled[:, -2:].any() and not sampled[:, :, :3].any()


def test_offsets_beyond_the_reach_are_clipped(rng):
    features = rng.normal(size=(1, 9, 20, 2)).astype("float32")
    far = rng.choice([-50.0, 50.0], size=(1, 9, 20, 2)).astype("float32")
    np.testing.assert_allclose(
        WindowAlignment(3)(features, far),
        bilinear_sample(features, np.clip(far, -3, 3)),
        atol=1e-5,
    )


def test_offsets_of_another_shape_and_a_reach_of_nothing_are_refused(rng):
    with pytest.raises(ValueError, match=r"\(dy, dx\).*Received.*8, 3"):
        WindowAlignment(3)(np.zeros((1, 8, 8, 2)), np.zeros((1, 8, 8, 3)))
    with pytest.raises(ValueError, match=">= 1. Received: 0"):
        WindowAlignment(0)


def test_an_offset_that_is_no_number_gives_none(rng):
    features = rng.normal(size=(1, 9, 20, 2)).astype("float32")
    offsets = np.zeros((1, 9, 20, 2), "float32")
    offsets[0, 4, 5] = np.nan
    sampled = np.asarray(WindowAlignment(3)(features, offsets))
    wrong = np.isnan(sampled).any(axis=-1)
    assert wrong[0, 4, 5] and wrong.sum() == 1


def test_both_ways_have_the_same_gradients(rng):
    features = tf.constant(rng.normal(size=(2, 9, 20, 3)), tf.float32)
    offsets = tf.constant(rng.uniform(-2.9, 2.9, size=(2, 9, 20, 2)), tf.float32)
    weights = tf.constant(rng.normal(size=(2, 9, 20, 3)), tf.float32)
    found = []
    for mobile in (False, True):
        with mobile_operations(mobile), tf.GradientTape() as tape:
            tape.watch([features, offsets])
            target = tf.reduce_sum(WindowAlignment(3)(features, offsets) * weights)
        found.append(tape.gradient(target, [features, offsets]))
    for gathered, multiplied in zip(*found, strict=True):
        np.testing.assert_allclose(gathered, multiplied, atol=1e-4)


def test_blend_ignores_the_side_whose_sample_left_the_image(rng):
    left = rng.normal(size=(1, 6, 20, 3)).astype("float32")
    right = rng.normal(size=(1, 6, 20, 3)).astype("float32")
    # Two pixels to the right in the left frame: its last two columns are outside.
    flow = np.zeros((1, 6, 20, 4), "float32")
    flow[..., 1] = 2.0
    moved = np.asarray(WindowAlignment(3)(left, flow[..., :2]))
    even = np.zeros((1, 6, 20, 1), "float32")
    blended = np.asarray(OcclusionBlend()(moved, right, even, flow))
    np.testing.assert_allclose(blended[:, :, -2:], right[:, :, -2:], atol=1e-6)
    np.testing.assert_allclose(
        blended[:, :, :-2], (left[:, :, 2:] + right[:, :, :-2]) / 2, atol=1e-6
    )
