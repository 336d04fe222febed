"""New frames from large neighbours: known motion, any time, oracles by plain loops."""

import keras
import numpy as np
import pytest

from keras_megan import MEGAN
from keras_megan.layers import (
    LargeAlignment,
    LargeInterpolation,
    LeftShare,
    MotionAtTime,
    PixelShuffle,
    PixelUnshuffle,
    StillNetwork,
)
from keras_megan.layers.mobile_operations import mobile_operations
from keras_megan.layers.pixels.bilinear_upsampling import BilinearUpsampling


def _keys(distance):
    x = abs(distance)
    if x <= 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def _sampled(image, y, x):
    """One pixel by the definition: clamped position, mirrored image, 4x4 taps."""
    height, width, channels = image.shape
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)

    def mirrored(index, size):
        return -1 - index if index < 0 else min(index, 2 * size - 1 - index)

    total = np.zeros(channels)
    for row in range(int(np.floor(y)) - 1, int(np.floor(y)) + 3):
        for column in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            weight = _keys(y - row) * _keys(x - column)
            total += weight * image[mirrored(row, height), mirrored(column, width)]
    return total


def test_large_alignment_equals_a_plain_loop(rng):
    large = rng.uniform(size=(2, 16, 20, 3)).astype("float32")
    flow = rng.uniform(-3, 3, size=(2, 4, 5, 2)).astype("float32")
    received = np.asarray(LargeAlignment(reach=2)(large, flow))
    offsets = np.asarray(BilinearUpsampling(4)(np.clip(flow, -2, 2))) * 4
    for n, y, x in np.ndindex(2, 16, 20):
        dy, dx = offsets[n, y, x]
        expected = _sampled(large[n].astype("float64"), y + dy, x + dx)
        np.testing.assert_allclose(received[n, y, x], expected, atol=2e-5)


def test_whole_pixels_move_exactly_and_what_is_not_a_number_does_no_harm(rng):
    large = rng.uniform(size=(1, 24, 24, 3)).astype("float32")
    flow = np.full((1, 6, 6, 2), 0.75, "float32")  # three large pixels
    moved = np.asarray(LargeAlignment()(large, flow))
    np.testing.assert_allclose(moved[:, :-4, :-4], large[:, 3:-1, 3:-1], atol=1e-6)
    assert LargeAlignment()(large, flow * np.nan).shape == large.shape


def test_a_flow_of_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"expected a flow of shape"):
        LargeAlignment()(np.zeros((1, 8, 8, 3)), np.zeros((1, 2, 2, 4)))


def test_it_says_that_mobile_gpus_cannot():
    with mobile_operations(), pytest.raises(ValueError, match="moved by gathers"):
        LargeAlignment()(np.zeros((1, 8, 8, 3)), np.zeros((1, 2, 2, 2)))


def test_unshuffling_undoes_shuffling(rng):
    features = rng.normal(size=(2, 3, 5, 48)).astype("float32")
    back = PixelUnshuffle(4)(PixelShuffle(4)(features))
    np.testing.assert_array_equal(back, features)


def test_shares_of_both_sides_add_up_and_prefer_who_sees_the_pixel(rng):
    logits = rng.normal(size=(1, 6, 8, 1)).astype("float32")
    flow = rng.uniform(-4, 4, size=(1, 6, 8, 4)).astype("float32")
    left = np.asarray(LeftShare()(logits, flow))
    swapped = np.concatenate([flow[..., 2:], flow[..., :2]], axis=-1)
    np.testing.assert_allclose(
        left + np.asarray(LeftShare()(-logits, swapped)), 1.0, atol=1e-6
    )
    outside = np.zeros((1, 6, 8, 4), "float32")
    outside[..., 0] = -20.0  # the left frame sees nothing
    assert np.asarray(LeftShare()(logits * 0, outside)).max() < 0.01


def test_at_one_half_the_field_stays_as_it_is(rng):
    flow = rng.normal(size=(3, 6, 8, 4)).astype("float32")
    logits = rng.normal(size=(3, 6, 8, 1)).astype("float32")
    context = rng.normal(size=(3, 6, 8, 5)).astype("float32")
    received = MotionAtTime(4)(flow, logits, context, np.full((1, 3), 0.5, "float32"))
    for new, old in zip(received, (flow, logits, context), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("time", [0.25, 0.8])
def test_even_motion_is_found_at_any_time(time):
    velocity = np.array([2.0, -3.0], "float32")
    flow = np.concatenate([-velocity / 2, velocity / 2])
    flow = np.broadcast_to(flow, (1, 12, 14, 4)).astype("float32")
    zeros = np.zeros((1, 12, 14, 1), "float32")
    flow, logits, _ = MotionAtTime(4)(flow, zeros, zeros, np.array([[time]]))
    np.testing.assert_allclose(
        np.asarray(flow)[..., :2],
        np.broadcast_to(-time * velocity, (1, 12, 14, 2)),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        np.asarray(flow)[..., 2:],
        np.broadcast_to((1 - time) * velocity, (1, 12, 14, 2)),
        atol=1e-5,
    )
    share = 1 / (1 + np.exp(-np.asarray(logits)))
    np.testing.assert_allclose(share, 1 - time, atol=1e-5)


def test_a_panned_scene_is_interpolated_to_rounding(rng):
    # Large enough that the border does not matter inside.
    scene = rng.uniform(size=(1, 96, 96, 3)).astype("float32")
    left, middle, right = (scene[:, k : k + 64, 8:72] for k in (4, 8, 12))
    # Four large pixels down the scene per half step: one small one.
    flow = np.zeros((1, 16, 16, 4), "float32")
    flow[..., 0], flow[..., 2] = 1.0, -1.0
    zeros = np.zeros((1, 16, 16, 1), "float32")
    between = LargeInterpolation(0, reach=3)(left, right, flow, zeros, zeros)
    np.testing.assert_allclose(np.asarray(between)[:, 8:-8], middle[:, 8:-8], atol=1e-5)


def test_a_new_still_network_is_bilinear_upsampling(rng):
    images = rng.uniform(size=(2, 6, 7, 3)).astype("float32")
    np.testing.assert_array_equal(
        StillNetwork(8, 2)(images), BilinearUpsampling(4)(images)
    )


# === In the network ===================================================================
def _model(**options):
    return MEGAN(
        **{
            "filters": 8,
            "num_frames": 3,
            "extraction_blocks": 1,
            "alignment": "window",
            "alignment_options": {"levels": 2, "reach": 2, "motion_filters": 8},
            "memory": None,
            "non_local_blocks": 0,
            "fusion_blocks": 0,
            "still_blocks": 1,
            "correction_filters": 8,
            **options,
        }
    )


def _trained(model, rng):
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.1))
    return model


def test_given_frames_are_enlarged_by_themselves(rng):
    model = _trained(_model(), rng)
    frames = rng.uniform(size=(1, 3, 9, 11, 3)).astype("float32")
    other = frames.copy()
    other[:, 2] = 0.0
    given, changed = (np.asarray(model(x))[:, 0] for x in (frames, other))
    np.testing.assert_array_equal(given, changed)


@pytest.mark.slow
@pytest.mark.parametrize("trunk", [{}, {"memory": "bank", "descriptor_size": 4}])
def test_at_times_one_half_is_the_model_and_given_frames_never_change(rng, trunk):
    model = _trained(_model(**trunk), rng)
    frames = rng.uniform(size=(2, 3, 9, 11, 3)).astype("float32")
    plain = np.asarray(model(frames))
    assert plain.shape == (2, 5, 36, 44, 3)
    half = model.at_times([frames, np.full((2, 2), 0.5, "float32")])
    np.testing.assert_allclose(half, plain, atol=1e-6)
    early = np.asarray(model.at_times([frames, np.array([[0.2, 0.5]] * 2)]))
    if not trunk:
        np.testing.assert_allclose(early[:, 0::2], plain[:, 0::2], atol=1e-6)
        np.testing.assert_allclose(early[:, 3], plain[:, 3], atol=1e-6)
    assert np.abs(early[:, 1] - plain[:, 1]).max() > 1e-3


def test_a_network_without_stills_says_that_it_has_no_other_times():
    with pytest.raises(ValueError, match="need a network with still_blocks"):
        _ = MEGAN(
            filters=8, num_frames=2, fusion_blocks=0, reconstruction_blocks=0
        ).at_times


def test_stills_need_the_window_and_known_options():
    with pytest.raises(ValueError, match='needs alignment="window"'):
        _model(alignment="deformable")
    with pytest.raises(ValueError, match="offset_groups"):
        _model(alignment_options={"offset_groups": 2})


@pytest.mark.slow
def test_it_saves_loads_and_grows_exactly(rng, tmp_path):
    model = _trained(_model(), rng)
    frames = rng.uniform(size=(1, 3, 8, 12, 3)).astype("float32")
    expected = np.asarray(model(frames))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(frames), expected)
    deeper = model.deepen(still_blocks=1, extraction_blocks=1)
    assert deeper.config["still_blocks"] == 2
    np.testing.assert_allclose(deeper(frames), expected, atol=1e-6)
    with pytest.raises(ValueError, match="no part that fusion_blocks=1"):
        model.deepen(fusion_blocks=1)
