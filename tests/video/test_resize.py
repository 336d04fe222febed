"""Resizing against a per-pixel loop, known weights, and properties."""

import math

import cv2
import numpy as np
import pytest

from keras_megan.imaging.resize import (
    area_downscale,
    imresize,
    interleave_midpoints,
    resize_matrix,
    trilinear_upsample,
)


def cubic(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def triangle(x):
    return max(0.0, 1 - abs(x))


def slow_resize_1d(signal, output_length, scale, method, antialias):
    """Sample by sample: sums a kernel over a far mirrored extension of the signal."""
    kernel, radius = {"bicubic": (cubic, 2), "bilinear": (triangle, 1)}[method]
    stretch = 1 / scale if antialias and scale < 1 else 1.0
    n = len(signal)

    def mirrored(k):
        while not 0 <= k < n:
            k = -1 - k if k < 0 else 2 * n - 1 - k
        return signal[k]

    result = []
    for i in range(output_length):
        centre = (i + 0.5) / scale - 0.5
        low = math.floor(centre - radius * stretch) - 1
        high = math.ceil(centre + radius * stretch) + 1
        weights = [kernel((centre - k) / stretch) for k in range(low, high + 1)]
        values = [mirrored(k) for k in range(low, high + 1)]
        total = sum(w * v for w, v in zip(weights, values, strict=True))
        result.append(total / sum(weights))
    return np.array(result)


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("scale", [0.25, 0.5, 0.3, 1.0, 1.7, 4.0])
def test_equals_a_per_pixel_loop(scale, method, antialias):
    image = np.random.default_rng(1).random((13, 9, 2))
    resized = imresize(image, scale, method=method, antialias=antialias)
    height, width = math.ceil(13 * scale), math.ceil(9 * scale)
    assert resized.shape == (height, width, 2) and resized.dtype == np.float64
    for c in range(2):
        rows = np.stack(
            [
                slow_resize_1d(image[:, x, c], height, scale, method, antialias)
                for x in range(9)
            ],
            axis=1,
        )
        both = np.stack(
            [slow_resize_1d(row, width, scale, method, antialias) for row in rows]
        )
        np.testing.assert_allclose(resized[..., c], both, atol=1e-12)


def test_quarter_size_bicubic_weights_are_the_known_ones():
    # Sixteen taps at distances 1/8, 3/8, ... 15/8 of the stretched kernel.
    half = [cubic((2 * k + 1) / 8) / 4 for k in range(8)]
    row = resize_matrix(64, 16)[8]
    assert math.isclose(2 * sum(half), 1.0, abs_tol=1e-12)
    np.testing.assert_allclose(row[34:42], half, atol=1e-15)
    np.testing.assert_allclose(row[26:34], half[::-1], atol=1e-15)
    assert np.count_nonzero(row) == 16


def test_mirror_repeats_the_edge_pixel():
    image = np.random.default_rng(2).random((12, 12, 1))
    padded = np.pad(image, ((8, 8), (8, 8), (0, 0)), mode="symmetric")
    inner = imresize(padded, 0.25)[2:-2, 2:-2]
    np.testing.assert_allclose(imresize(image, 0.25), inner, atol=1e-12)


@pytest.mark.parametrize("lengths", [(64, 16), (7, 28), (5, 2), (1, 4), (3, 1)])
@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
def test_a_constant_stays_constant(lengths, method):
    matrix = resize_matrix(*lengths, method)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-12)
    assert matrix.shape == lengths[::-1] and not matrix.flags.writeable


def test_cubic_reproduces_parabolas_away_from_borders():
    x = np.arange(20.0)
    centres = (np.arange(80) + 0.5) / 4 - 0.5
    enlarged = resize_matrix(20, 80) @ (x * x - 3 * x)
    inner = slice(8, 72)
    np.testing.assert_allclose(
        enlarged[inner], (centres**2 - 3 * centres)[inner], atol=1e-10
    )


def test_antialiasing_suppresses_what_plain_bicubic_folds_back():
    stripes = np.tile(np.arange(64) % 2, (64, 1)).astype(np.float64)[..., None]
    inner = (slice(2, -2), slice(2, -2))  # the mirrored border breaks the pattern
    assert np.ptp(imresize(stripes, 0.3)[inner]) < 0.02
    assert np.ptp(imresize(stripes, 0.3, antialias=False)[inner]) > 0.5


def test_bytes_are_rounded_and_clipped_once():
    image = np.random.default_rng(3).choice([0, 255], (2, 16, 20, 3)).astype(np.uint8)
    exact = imresize(image.astype(np.float64), 0.5)
    assert exact.min() < 0 and exact.max() > 255
    resized = imresize(image, 0.5)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, np.rint(np.clip(exact, 0, 255)))


def test_bilinear_enlargement_equals_opencv():
    image = np.random.default_rng(4).random((9, 11, 3)).astype(np.float32)
    expected = cv2.resize(image, (44, 36), interpolation=cv2.INTER_LINEAR)
    resized = imresize(image, 4, method="bilinear")
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected, atol=2e-6)


def test_output_size_may_replace_the_scale():
    image = np.random.default_rng(5).random((8, 10, 1))
    np.testing.assert_array_equal(
        imresize(image, output_size=(4, 5)), imresize(image, 0.5)
    )
    assert imresize(image, output_size=(3, 17)).shape == (3, 17, 1)


def test_area_downscale_averages_squares():
    image = np.arange(30, dtype=np.uint8).reshape(5, 6, 1)
    expected = [[4, 6, 8], [16, 18, 20]]  # 3.5 and so on, halves up
    np.testing.assert_array_equal(area_downscale(image, 2)[..., 0], expected)
    floating = area_downscale(image.astype(np.float32), 2)
    np.testing.assert_array_equal(floating[0, :, 0], [3.5, 5.5, 7.5])
    big = np.random.default_rng(6).integers(0, 256, (12, 15, 3), np.uint8)
    by_opencv = cv2.resize(big, (5, 4), interpolation=cv2.INTER_AREA)
    assert np.abs(area_downscale(big, 3).astype(int) - by_opencv).max() <= 1
    np.testing.assert_array_equal(area_downscale(big, 1), big)


def test_trilinear_equals_opencv_in_space_and_the_midpoint_in_time():
    frames = np.random.default_rng(7).random((3, 6, 5, 3)).astype(np.float32)
    result = trilinear_upsample(frames)
    assert result.shape == (5, 24, 20, 3) and result.dtype == np.float32
    large = [cv2.resize(f, (20, 24), interpolation=cv2.INTER_LINEAR) for f in frames]
    np.testing.assert_allclose(result[0::2], large, atol=2e-6)
    for i in (0, 1):
        middle = (large[i] + large[i + 1]) / 2
        np.testing.assert_allclose(result[2 * i + 1], middle, atol=2e-6)


def test_one_frame_has_no_midpoints():
    frame = np.ones((1, 2, 2, 3), np.float32)
    assert interleave_midpoints(frame).shape == (1, 2, 2, 3)


def test_wrong_arguments_are_refused():
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="exactly one"):
        imresize(image)
    with pytest.raises(ValueError, match="exactly one"):
        imresize(image, 2, (16, 16))
    with pytest.raises(ValueError, match="finite scale above zero"):
        imresize(image, -1.0)
    with pytest.raises(ValueError, match=r"\(\.\.\., H, W, C\)"):
        imresize(image[0, :, 0], 2)
    with pytest.raises(TypeError, match="int32"):
        imresize(image.astype(np.int32), 2)
    with pytest.raises(ValueError, match="lanczos"):
        imresize(image, 2, method="lanczos")
    for factor in (0, 9):
        with pytest.raises(ValueError, match=f"factor={factor}"):
            area_downscale(image, factor)
    with pytest.raises(ValueError, match="floating frames"):
        trilinear_upsample(image[None])
