"""DeformableConv2D against a plain float64 loop, finite differences and shifts."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_megan.layers.motion.deformable_conv2d import (
    deformable_conv2d,
)

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="uses a tf.function"
)


def bilinear_pixel(image, y, x):
    """One (H, W, C) image at (y, x), zeros outside; float64."""
    height, width, channels = image.shape
    value = np.zeros(channels)
    if not (-1 < y < height and -1 < x < width):
        return value
    top, left = int(np.floor(y)), int(np.floor(x))
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                value += weight * image[row, column]
    return value


def dense_loop(inputs, offsets, masks, kernel, bias=None, dilation_rate=(1, 1)):
    """The definition, pixel by pixel and tap by tap, in float64."""
    inputs, offsets, masks, kernel = (
        np.asarray(a, "float64") for a in (inputs, offsets, masks, kernel)
    )
    batch, height, width, channels = inputs.shape
    kernel_height, kernel_width, _, filters = kernel.shape
    groups = offsets.shape[3]
    size = channels // groups
    first_y = -((kernel_height - 1) * dilation_rate[0] // 2)
    first_x = -((kernel_width - 1) * dilation_rate[1] // 2)
    outputs = np.zeros((batch, height, width, filters))
    for n, i, j, g, ky, kx in np.ndindex(
        batch, height, width, groups, kernel_height, kernel_width
    ):
        tap = ky * kernel_width + kx
        dy, dx = offsets[n, i, j, g, tap]
        part = slice(g * size, (g + 1) * size)
        sample = bilinear_pixel(
            inputs[n, :, :, part],
            i + first_y + ky * dilation_rate[0] + dy,
            j + first_x + kx * dilation_rate[1] + dx,
        )
        outputs[n, i, j] += masks[n, i, j, g, tap] * sample @ kernel[ky, kx, part]
    return outputs if bias is None else outputs + np.asarray(bias, "float64")


def random_case(
    shape=(2, 7, 5, 6), groups=3, kernel_size=(3, 3), filters=4, spread=3.0, seed=0
):
    random = np.random.default_rng(seed)
    taps = kernel_size[0] * kernel_size[1]
    arrays = (
        random.normal(size=shape),
        random.normal(size=(*shape[:3], groups, taps, 2)) * spread,
        random.uniform(size=(*shape[:3], groups, taps)),
        random.normal(size=(*kernel_size, shape[3], filters)) / 8,
        random.normal(size=filters),
    )
    return [a.astype("float32") for a in arrays]


@pytest.mark.parametrize(
    ("options", "dilation_rate"),
    [
        ({}, (1, 1)),
        ({"groups": 1, "shape": (1, 6, 9, 2)}, (1, 1)),
        ({"groups": 6, "kernel_size": (1, 1)}, (1, 1)),
        ({"kernel_size": (2, 5)}, (1, 1)),
        ({"kernel_size": (3, 2), "spread": 0.3}, (2, 3)),
        ({"shape": (1, 1, 1, 3)}, (1, 1)),
        ({"shape": (3, 8, 8, 3), "spread": 40.0}, (1, 1)),
    ],
)
def test_equals_the_dense_loop_on_unbounded_offsets(options, dilation_rate):
    case = random_case(**options)
    expected = dense_loop(*case, dilation_rate=dilation_rate)
    actual = ops.convert_to_numpy(deformable_conv2d(*case, dilation_rate=dilation_rate))
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-5
    assert np.abs(expected).max() > 0.1


def test_fraction_keeps_its_precision_far_from_the_origin():
    """At column 2000 a float32 position resolves 1e-4 of a pixel only."""
    inputs, offsets, masks, kernel, bias = random_case(shape=(1, 1, 2100, 1), groups=1)
    inputs *= 100
    offsets[..., 0] = 0
    actual = deformable_conv2d(inputs, offsets, masks, kernel, bias)
    expected = dense_loop(inputs, offsets, masks, kernel, bias)
    assert np.abs(ops.convert_to_numpy(actual) - expected).max() <= 3e-5


def test_zero_offsets_with_mask_one_half_are_half_a_convolution():
    inputs, offsets, masks, kernel, _ = random_case(kernel_size=(3, 4))
    offsets[:], masks[:] = 0, 0.5
    actual = deformable_conv2d(inputs, offsets, masks, kernel, None)
    expected = 0.5 * ops.conv(inputs, kernel, padding="same")
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(("dy", "dx"), [(1, 0), (-2, 3), (0, -4)])
def test_integer_offsets_shift_the_image(dy, dx):
    inputs, offsets, masks, kernel, bias = random_case()
    height, width = inputs.shape[1:3]
    offsets[:], masks[:] = (dy, dx), 1
    wide = np.pad(inputs, ((0, 0), (5, 5), (5, 5), (0, 0)))
    wide = ops.conv(wide, kernel, padding="same") + bias
    expected = wide[:, 5 + dy : 5 + dy + height, 5 + dx : 5 + dx + width]
    actual = deformable_conv2d(inputs, offsets, masks, kernel, bias)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_samples_fade_out_within_one_pixel_of_the_border():
    inputs = np.ones((1, 3, 3, 1), "float32")
    kernel = np.ones((1, 1, 1, 1), "float32")
    masks = np.ones((1, 3, 3, 1, 1), "float32")
    for offset, expected in ((-0.25, 0.75), (-0.999, 0.001), (-1.0, 0), (-1.5, 0)):
        offsets = np.full((1, 3, 3, 1, 1, 2), (offset, 0), "float32")
        actual = deformable_conv2d(inputs, offsets, masks, kernel, None)
        np.testing.assert_allclose(actual[0, 0, :, 0], [expected] * 3, atol=1e-6)
        lower = deformable_conv2d(inputs, -offsets, masks, kernel, None)
        np.testing.assert_allclose(lower[0, 2, :, 0], [expected] * 3, atol=1e-6)


@pytest.mark.parametrize("huge", [1e4, 3e9, 3.4e38, np.inf])
def test_huge_offsets_read_zeros_and_disturb_nothing(huge):
    inputs, offsets, masks, kernel, bias = random_case()
    random = np.random.default_rng(1)
    far = random.uniform(size=masks.shape) < 0.5
    direction = np.where(random.uniform(size=far.shape) < 0.5, -1, 1)
    axis = random.integers(2, size=far.shape)
    offsets_far = offsets.copy()
    for component in (0, 1):
        chosen = far & (axis == component)
        offsets_far[..., component][chosen] = huge * direction[chosen]
    actual = deformable_conv2d(inputs, offsets_far, masks, kernel, bias)
    expected = dense_loop(inputs, offsets, np.where(far, 0, masks), kernel, bias)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@needs_tensorflow
def test_gradients_equal_finite_differences_of_the_dense_loop():
    import tensorflow as tf

    case = [a.astype("float64") for a in random_case((2, 4, 3, 4), 2, (2, 3), 3, 1.5)]
    # A fraction near 0 or 1 would put the two sides of the difference into
    # different cells, where the bilinear interpolation has a kink.
    whole = np.floor(case[1])
    case[1] = whole + np.clip(case[1] - whole, 0.05, 0.95)
    random = np.random.default_rng(2)
    target = random.normal(size=(2, 4, 3, 3))

    tensors = [tf.constant(a) for a in case]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = tf.reduce_sum(deformable_conv2d(*tensors) * target)
    gradients = tape.gradient(loss, tensors)

    for position, gradient in enumerate(gradients):
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert gradient.shape == case[position].shape
        # Central differences along random directions test all entries at once.
        for _ in range(4):
            direction = random.normal(size=gradient.shape).clip(-2, 2)
            both = []
            for step in (1e-5, -1e-5):
                moved = list(case)
                moved[position] = case[position] + step * direction
                both.append((dense_loop(*moved) * target).sum())
            expected = (both[0] - both[1]) / 2e-5
            assert abs(expected) > 1e-3
            np.testing.assert_allclose(
                (gradient * direction).sum(), expected, rtol=1e-6, atol=1e-7
            )


@needs_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_function_equals_the_eager_one(jit_compile):
    import tensorflow as tf

    case = random_case()
    compiled = tf.function(deformable_conv2d, jit_compile=jit_compile)
    np.testing.assert_allclose(compiled(*case), deformable_conv2d(*case), atol=1e-5)


def test_float16_features_keep_float32_positions():
    inputs, offsets, masks, kernel, bias = random_case(shape=(1, 3, 300, 2), groups=1)
    offsets[..., 0] /= 5
    offsets[..., 1] *= 30
    half = inputs.astype("float16")
    actual = deformable_conv2d(half, offsets, masks, kernel, bias)
    assert keras.backend.standardize_dtype(actual.dtype) == "float16"
    expected = dense_loop(half, offsets, masks, kernel, bias)
    # A float16 offset of 100 pixels resolves 1/16 pixel: an error of about 0.02.
    np.testing.assert_allclose(actual, expected, atol=4e-3)


OTHER_BACKEND = """
import sys
import numpy as np
from keras import ops
from keras_megan.layers.motion.deformable_conv2d import deformable_conv2d

case = np.load(sys.argv[1])
arrays = [case[name] for name in ("inputs", "offsets", "masks", "kernel", "bias")]
np.save(sys.argv[2], ops.convert_to_numpy(deformable_conv2d(*arrays)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_equal_the_dense_loop(tmp_path, backend):
    pytest.importorskip(backend)
    case = random_case(spread=6.0)
    case[1][0, 0, 0, 0, 0] = np.inf, -3e38
    names = ("inputs", "offsets", "masks", "kernel", "bias")
    np.savez(tmp_path / "case.npz", **dict(zip(names, case, strict=True)))
    subprocess.run(
        [
            sys.executable,
            "-c",
            OTHER_BACKEND,
            str(tmp_path / "case.npz"),
            str(tmp_path / "outputs.npy"),
        ],
        check=True,
        env={**os.environ, "KERAS_BACKEND": backend},
        timeout=300,
    )
    outputs = np.load(tmp_path / "outputs.npy")
    assert np.abs(outputs - dense_loop(*case)).max() <= 1e-5
