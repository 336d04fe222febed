"""bfloat16 convolutions where they are asked for and the CPU computes them."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from training.engine.precision import bfloat16_convolutions

CPU_INFO = Path("/proc/cpuinfo")


def cpu_computes_bfloat16() -> bool:
    text = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    return "avx512_bf16" in text or "amx_bf16" in text


def test_only_convolutions_called_inside_the_context_use_bfloat16(rng):
    if not cpu_computes_bfloat16():
        pytest.skip("this CPU does not compute bfloat16")
    images = tf.constant(rng.normal(size=(2, 16, 16, 32)), tf.float32)
    kernel = tf.constant(rng.normal(size=(3, 3, 32, 32)), tf.float32)
    convolve = tf.function(lambda: tf.nn.conv2d(images, kernel, 1, "SAME"))
    exact = tf.nn.conv2d(
        tf.cast(images, tf.float64), tf.cast(kernel, tf.float64), 1, "SAME"
    )

    def error(result):
        return float(np.abs(result - tf.cast(exact, tf.float32)).max())

    before = error(convolve())
    with bfloat16_convolutions():
        inside = error(convolve())
    after = error(convolve())
    assert before == after < 1e-3
    # 8 bits of mantissa over sums of 288 products.
    assert 1e-2 < inside < 1.0


def test_bfloat16_is_not_used_unless_asked_for(rng):
    images = tf.constant(rng.normal(size=(1, 8, 8, 8)), tf.float32)
    kernel = tf.constant(rng.normal(size=(3, 3, 8, 8)), tf.float32)
    convolve = tf.function(lambda: tf.nn.conv2d(images, kernel, 1, "SAME"))
    with bfloat16_convolutions(False):
        inside = convolve()
    np.testing.assert_array_equal(inside, convolve())


def test_arithmetic_around_the_convolutions_stays_float32(rng):
    """A displacement of 11.03 pixels, as bfloat16, would be 11.0."""
    images = tf.zeros((1, 8, 8, 8))
    kernel = tf.constant(rng.normal(size=(3, 3, 8, 1)), tf.float32)
    flow = tf.constant(rng.uniform(8, 12, size=(1, 8, 8, 1)), tf.float32)
    move = tf.function(lambda: tf.nn.conv2d(images, kernel, 1, "SAME") + flow)
    with bfloat16_convolutions():
        moved = move()
    np.testing.assert_array_equal(moved, flow)
