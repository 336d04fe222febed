"""Divided convolutions compute the same, and only those are divided that gain."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from export.divide import divide
from export.flatbuffer import read_graph
from export.runtime import run_on_cpu
from export.slim import slim
from tests.export.tiny_graphs import constant, convert

IMAGES = (2, 9, 8, 32)


def outputs(flatbuffer, tmp_path, shape=IMAGES):
    path = tmp_path / "model.tflite"
    path.write_bytes(flatbuffer)
    image = np.random.default_rng(0).normal(size=shape).astype("float32")
    return run_on_cpu(path, [image])


def filters_of(flatbuffer):
    """Output channels of all convolutions, in order."""
    operations = read_graph(flatbuffer).operations
    return [op.outputs[0].shape[-1] for op in operations if op.name == "CONV_2D"]


def a_network():
    """Convolutions of 48 and 40 channels, one with two users, one in the middle."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(IMAGES[1:], batch_size=IMAGES[0])
    shared = layers.Conv2D(48, 3, padding="same", activation="relu")
    x = shared(inputs)
    y = shared(inputs[:, ::-1])
    x = layers.Conv2D(40, 3, strides=2, bias_initializer="normal")(x + y)
    return keras.Model(inputs, layers.Conv2D(64, 3)(x))


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_parts_compute_what_the_whole_computes(half, tmp_path):
    model = a_network()
    whole = convert(lambda x: model(x, training=False), IMAGES, half=half)
    divided = divide(whole)
    assert filters_of(whole) == [48, 48, 40, 64]
    assert filters_of(divided) == [32, 16, 32, 16, 32, 8, 64]
    for made in (divided, slim(divided)):
        for old, new in zip(
            outputs(whole, tmp_path), outputs(made, tmp_path), strict=True
        ):
            np.testing.assert_array_equal(new, old)
    assert np.ptp(outputs(whole, tmp_path)[0]) > 0.1
    # Shared weights stay shared, and the whole ones are gone.
    assert len(slim(divided)) < len(slim(whole)) + 2500


def test_the_activation_goes_with_every_part(tmp_path):
    weights = constant(3, 3, 32, 48)

    def forward(x):
        return tf.nn.relu6(tf.nn.conv2d(x, weights, 1, "SAME"))

    (found,) = outputs(divide(convert(forward, IMAGES)), tmp_path)
    assert found.min() == 0 and found.max() == 6
    for part in (found[..., :32], found[..., 32:]):
        assert 0.1 < np.mean(part == 0) < 0.9


@pytest.mark.parametrize(
    ("inputs", "channels", "taps", "groups"),
    [
        (32, 64, 3, 1),  # fills the lanes
        (32, 56, 3, 1),  # more than half of the lanes left over
        (32, 16, 3, 1),  # there is a narrow kernel for all of it
        (32, 48, 1, 1),  # too little arithmetic
        (32, 48, 3, 2),  # in groups
    ],
)
def test_what_would_not_gain_is_left_as_it_is(inputs, channels, taps, groups):
    weights = constant(taps, taps, inputs // groups, channels)
    file = convert(lambda x: tf.nn.conv2d(x, weights, 1, "SAME"), (1, 8, 8, inputs))
    assert divide(file) is file


def test_no_lanes_no_division():
    model = a_network()
    file = convert(lambda x: model(x, training=False), IMAGES)
    assert divide(file, 0) is file
    assert filters_of(divide(file, 16)) == [48, 48, 32, 8, 64]


# The converter expects ranges for inputs that stay float32, too.
@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
def test_weights_in_8_bits_are_left_as_they_are():
    model = a_network()
    samples = [constant(*IMAGES)]
    file = convert(lambda x: model(x, training=False), IMAGES, calibrate=samples)
    assert divide(file) is file
