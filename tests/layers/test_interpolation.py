"""Alignment and interpolation: counts, symmetry and known motion."""

import numpy as np
import pytest

from keras_megan.layers import (
    BilateralCorrelation,
    FeaturePyramid,
    FrameInterpolation,
    PyramidAlignment,
)


def test_both_directions_at_64_channels_have_the_counted_parameters():
    align = PyramidAlignment(64)
    pyramid = [(1, 16 >> level, 16 >> level, 64) for level in range(3)]
    align.build(pyramid, pyramid)
    assert 2 * align.count_params() == 2_224_016


def test_pyramid_levels_halve_and_pad_both_sides(rng):
    features = rng.normal(size=(1, 8, 8, 3)).astype("float32")
    pyramid = FeaturePyramid(5, 3, convolutions=1)
    shapes = [tuple(level.shape) for level in pyramid(features)]
    assert shapes == [(1, 8, 8, 3), (1, 4, 4, 5), (1, 2, 2, 5)]
    # With padding 1 on both sides output (0, 0) is centred on input (0, 0).
    kernel, bias = pyramid.level_layers[0][1].get_weights()
    window = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))[0, :3, :3]
    first = np.tensordot(window, kernel, 3) + bias
    expected = np.where(first > 0, first, 0.1 * first)
    np.testing.assert_allclose(pyramid(features)[1][0, 0, 0], expected, atol=1e-5)


def test_correlation_is_highest_at_the_velocity_of_an_even_motion(rng):
    scene = rng.normal(size=(1, 30, 30, 8)).astype("float32")
    velocity = (1, -2)
    left = scene[:, 6:26, 6:26]
    right = scene[:, 6 - 2 : 26 - 2, 6 + 4 : 26 + 4]
    # The scene moves by 2*velocity from left to right: left(p - v) = right(p + v).
    scores = np.asarray(BilateralCorrelation(2)(left, right))[0, 5:-5, 5:-5]
    best = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)])[
        scores.argmax(-1)
    ]
    np.testing.assert_array_equal(best, np.broadcast_to(velocity, best.shape))


def test_correlation_equals_a_plain_loop(rng):
    left, right = rng.normal(size=(2, 1, 5, 6, 3)).astype("float32")
    received = np.asarray(BilateralCorrelation(1)(left, right))

    def at(maps, y, x):
        if not (0 <= y < 5 and 0 <= x < 6):
            return np.zeros(3)
        around = maps[0, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        pixel = maps[0, y, x] - around.astype("float64").mean((0, 1))
        return pixel / np.sqrt((pixel**2).mean() + 1e-5)

    for y, x in np.ndindex(5, 6):
        expected = [
            (at(left, y - i, x - j) * at(right, y + i, x + j)).mean()
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        ]
        np.testing.assert_allclose(received[0, y, x], expected, atol=1e-5)


@pytest.mark.parametrize("alignment", ["deformable", "window"])
@pytest.mark.parametrize("clips", [1, 2])
def test_untrained_images_between_are_the_average_of_their_neighbours(
    rng, alignment, clips
):
    features = rng.normal(size=(clips * 3, 8, 8, 8)).astype("float32")
    images = rng.uniform(size=(clips * 3, 8, 8, 3)).astype("float32")
    layer = FrameInterpolation(8, 3, alignment, levels=3)
    between, images_between = layer(features, images)
    assert between.shape == (clips * 2, 8, 8, 8)
    clip = images.reshape(clips, 3, 8, 8, 3)
    expected = (clip[:, 1:] + clip[:, :-1]) / 2
    np.testing.assert_allclose(images_between, expected.reshape(-1, 8, 8, 3), atol=1e-7)


def test_a_known_motion_field_moves_images_to_the_middle(rng):
    """With the right flow both sides show the same frame: the true middle one."""
    scene = rng.uniform(size=(1, 20, 40, 3)).astype("float32")
    frames = np.concatenate([scene[:, 2:18, 4 + 2 * t : 20 + 2 * t] for t in range(3)])
    layer = FrameInterpolation(8, 2, "window", levels=3, reach=4)
    features = np.zeros((2, 16, 16, 8), "float32")
    layer(features, frames[[0, 2]])
    # Left frame: the middle's pixel lies 2 columns on; right frame: 2 columns back.
    layer.branch.motion.fine_head.bias.assign([0, 2, 0, -2])
    _, middle = layer(features, frames[[0, 2]])
    np.testing.assert_allclose(middle[0, :, 2:-2], frames[1, :, 2:-2], atol=1e-6)
    # At the borders one side left the image and the other shows the pixel alone.
    np.testing.assert_allclose(middle[0], frames[1], atol=1e-6)


def test_unknown_alignment_and_a_single_frame_are_refused():
    with pytest.raises(ValueError, match="Received: 'optical'"):
        FrameInterpolation(8, 3, "optical")
    with pytest.raises(ValueError, match="num_frames=1"):
        FrameInterpolation(8, 1)
