"""Averages before 1x1 convolutions: the same numbers from fewer pixels."""

import numpy as np
import pytest
import tensorflow as tf

from export.flatbuffer import read_graph
from export.pool_first import pool_first
from export.runtime import run_on_cpu
from tests.export.tiny_graphs import constant, convert

IMAGES = (2, 8, 12, 6)


def outputs(flatbuffer, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(flatbuffer)
    image = np.random.default_rng(0).normal(size=IMAGES).astype("float32")
    return run_on_cpu(path, [image])


def pixelwise(x, channels=5, bias=True, **options):
    made = tf.nn.conv2d(x, constant(1, 1, x.shape[-1], channels), 1, "SAME", **options)
    return made + constant(channels) if bias else made


def average(x, window=4):
    return tf.nn.avg_pool2d(x, window, window, "VALID")


def sizes(flatbuffer, name):
    operations = read_graph(flatbuffer).operations
    return [op.outputs[0].shape for op in operations if op.name == name]


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("bias", [False, True])
def test_exchanged_they_compute_the_same(bias, half, tmp_path):
    def forward(x):
        return average(pixelwise(x, bias=bias))

    whole = convert(forward, IMAGES, half=half)
    made = pool_first(whole)
    assert sizes(whole, "CONV_2D") == [(2, 8, 12, 5)]
    assert sizes(made, "CONV_2D") == [(2, 2, 3, 5)]
    (old,), (new,) = outputs(whole, tmp_path), outputs(made, tmp_path)
    assert np.ptp(old) > 0.1
    np.testing.assert_allclose(new, old, atol=2e-6)


def test_averages_of_the_same_features_are_shared(tmp_path):
    def forward(x):
        first, second = pixelwise(x, 5), pixelwise(x, 7)
        return average(first), average(first, 2), average(second)

    whole = convert(forward, IMAGES)
    made = pool_first(whole)
    assert sorted(sizes(made, "AVERAGE_POOL_2D")) == [(2, 2, 3, 6), (2, 4, 6, 6)]
    for old, new in zip(outputs(whole, tmp_path), outputs(made, tmp_path), strict=True):
        np.testing.assert_allclose(new, old, atol=2e-6)


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: average(tf.nn.relu(pixelwise(x))),
        lambda x: tf.nn.relu(average(tf.nn.conv2d(x, constant(3, 3, 6, 5), 1, "SAME"))),
        lambda x: average(tf.nn.conv2d(x, constant(1, 1, 6, 5), 2, "VALID")),
        lambda x: average(tf.nn.conv2d(x, constant(1, 1, 3, 4), 1, "SAME")),  # groups
        lambda x: tf.nn.avg_pool2d(pixelwise(x), 3, 3, "SAME"),
        lambda x: tf.nn.max_pool2d(pixelwise(x), 4, 4, "VALID"),
        lambda x: (average(pixelwise(x)), pixelwise(x)),  # someone reads the pixels
        lambda x: tf.sigmoid(average(pixelwise(x)) + pixelwise(x)[:, :2, :3]),
    ],
)
def test_all_else_is_left_as_it_is(forward):
    file = convert(forward, IMAGES)
    assert pool_first(file) is file


# The converter expects ranges for inputs that stay float32, too.
@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
def test_8_bits_are_left_as_they_are():
    file = convert(
        lambda x: average(pixelwise(x)), IMAGES, calibrate=[constant(*IMAGES)]
    )
    assert pool_first(file) is file
