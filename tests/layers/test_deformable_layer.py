"""The layer DeformableConv2D: its parameters, its offsets, saving and training."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_megan.layers.motion.deformable_conv2d import (
    DeformableConv2D,
    deformable_conv2d,
)
from tests.layers.test_deformable_conv2d import dense_loop, random_case

needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="uses a tf.function"
)


def trained(layer, *inputs):
    """`layer` built and given random weights everywhere, so that offsets are real."""
    layer(*inputs)
    random = np.random.default_rng(3)
    for weight in layer.weights:
        weight.assign(random.normal(size=weight.shape).astype("float32") * 0.3)
    return layer


def test_layer_has_the_counted_parameters():
    layer = DeformableConv2D(64)
    layer.build((None, None, None, 64))
    assert layer.count_params() == 161_560
    assert layer.offset_kernel.shape == (3, 3, 64, 216)
    limit = 1 / np.sqrt(9 * 64)
    kernel = ops.convert_to_numpy(layer.kernel)
    assert 0.98 * limit < np.abs(kernel).max() <= limit
    assert abs(kernel.std() * np.sqrt(3) / limit - 1) < 0.02
    for weight in (layer.bias, layer.offset_kernel, layer.offset_bias):
        assert not np.any(ops.convert_to_numpy(weight))


def test_new_layer_is_half_a_convolution():
    inputs = random_case(shape=(1, 5, 6, 16))[0]
    layer = DeformableConv2D(3)
    actual = layer(inputs)
    expected = 0.5 * ops.conv(inputs, layer.kernel, padding="same")
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("dilation_rate", [1, 2])
def test_offset_channels_are_ordered_as_documented(dilation_rate):
    """An independent reading of the channel order, then the dense loop."""
    inputs = random_case(shape=(1, 5, 6, 4))[0]
    guide = random_case(shape=(1, 5, 6, 3), seed=5)[0]
    layer = trained(
        DeformableConv2D(2, offset_groups=2, dilation_rate=dilation_rate), inputs, guide
    )
    predicted = ops.conv(
        guide, layer.offset_kernel, padding="same", dilation_rate=dilation_rate
    )
    predicted = ops.convert_to_numpy(predicted + layer.offset_bias)
    groups, taps = 2, 9
    offsets = np.zeros((1, 5, 6, groups, taps, 2))
    masks = np.zeros((1, 5, 6, groups, taps))
    for g, k in np.ndindex(groups, taps):
        for axis in (0, 1):
            channel = g * 2 * taps + 2 * k + axis
            offsets[..., g, k, axis] = predicted[..., channel]
        logit = predicted[..., 2 * groups * taps + g * taps + k]
        masks[..., g, k] = 1 / (1 + np.exp(-logit.astype("float64")))
    expected = dense_loop(
        inputs, offsets, masks, layer.kernel, layer.bias, (dilation_rate,) * 2
    )
    assert np.abs(offsets).max() > 2
    np.testing.assert_allclose(layer(inputs, guide), expected, atol=1e-5)


def test_config_round_trip():
    layer = DeformableConv2D(
        6, (3, 5), 2, (1, 2), "relu", False, "he_normal", name="align"
    )
    copy = DeformableConv2D.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.get_config()["kernel_size"] == (3, 5)
    assert copy.activation is keras.activations.relu
    copy.build((None, 4, 4, 2))
    assert copy.bias is None and len(copy.weights) == 3


@pytest.mark.parametrize("with_guide", [False, True])
def test_keras_file_round_trip_in_safe_mode(tmp_path, with_guide):
    shapes = [(None, None, 8), (None, None, 3)][: 1 + with_guide]
    symbols = [keras.Input(shape) for shape in shapes]
    layer = DeformableConv2D(5, activation="tanh")
    model = keras.Model(symbols, layer(*symbols))
    arrays = [random_case(shape=(1, 5, 7, s[-1]))[0] for s in shapes]
    trained(layer, *arrays)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    expected = ops.convert_to_numpy(model(arrays))
    assert expected.std() > 0.01
    np.testing.assert_allclose(loaded(arrays), expected, atol=1e-6)


def test_symbolic_shape_equals_actual_shape_for_unknown_sizes():
    symbol = keras.Input((None, None, 8))
    model = keras.Model(symbol, DeformableConv2D(5)(symbol))
    assert model.output_shape == (None, None, None, 5)
    for shape in ((1, 5, 7, 8), (3, 2, 9, 8)):
        outputs = model.predict(np.ones(shape, "float32"), verbose=0)
        assert outputs.shape == (*shape[:3], 5)
        assert DeformableConv2D(5).compute_output_shape(shape) == outputs.shape


def test_unknown_sizes_give_the_same_values_as_known_ones():
    inputs = random_case(shape=(2, 7, 5, 8))[0]
    symbol = keras.Input((None, None, 8))
    layer = DeformableConv2D(5)
    model = keras.Model(symbol, layer(symbol))
    trained(layer, inputs)
    expected = layer(inputs)
    np.testing.assert_allclose(model.predict(inputs, verbose=0), expected, atol=1e-5)


def test_training_moves_every_weight():
    random = np.random.default_rng(4)
    inputs = random.normal(size=(2, 6, 6, 8)).astype("float32")
    layer = DeformableConv2D(4)
    model = keras.Sequential([keras.Input((6, 6, 8)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = [ops.convert_to_numpy(w).copy() for w in layer.weights]
    model.fit(inputs, random.normal(size=(2, 6, 6, 4)), epochs=1, verbose=0)
    for weight, old in zip(layer.weights, before, strict=True):
        change = np.abs(ops.convert_to_numpy(weight) - old)
        # Every slice along the last axis, i.e. each offset and mask channel too.
        assert change.reshape(-1, change.shape[-1]).max(axis=0).min() > 0, weight.name


def test_mixed_float16_computes_in_half_and_stays_close():
    inputs = random_case(shape=(1, 5, 6, 8))[0]
    full = trained(DeformableConv2D(4), inputs)
    half = DeformableConv2D(4, dtype="mixed_float16")
    half.build(inputs.shape)
    half.set_weights([w * 0.3 for w in full.get_weights()])
    full.set_weights(half.get_weights())
    outputs = half(inputs)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    assert half.kernel.dtype == "float32"
    np.testing.assert_allclose(outputs, full(inputs), atol=2e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 0}, "filters and offset_groups must be positive"),
        ({"filters": 4, "offset_groups": -1}, "must be positive integers"),
        ({"filters": 4, "kernel_size": (3, 0)}, "kernel_size must be"),
        ({"filters": 4, "dilation_rate": "2"}, "dilation_rate must be"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeformableConv2D(**arguments)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="10 channels, 8 groups"):
        DeformableConv2D(4).build((None, 8, 8, 10))
    with pytest.raises(ValueError, match=r"guide must have the inputs' N, H, W"):
        DeformableConv2D(4).build((None, 8, 8, 8), (None, 8, 9, 8))
    with pytest.raises(ValueError, match="with known channels"):
        DeformableConv2D(4).build((None, 8, 8))
    inputs, offsets, masks, kernel, bias = random_case()
    with pytest.raises(ValueError, match="with the same channels"):
        deformable_conv2d(inputs[..., 1:], offsets, masks, kernel, bias)
    with pytest.raises(ValueError, match=r"offsets must have shape .* 9, 2"):
        deformable_conv2d(inputs, offsets[..., 1:, :], masks, kernel, bias)
    with pytest.raises(ValueError, match=r"masks must have shape .* 3, 9"):
        deformable_conv2d(inputs, offsets, masks[..., 1:, :], kernel, bias)
    with pytest.raises(ValueError, match=r"offsets must have the inputs' N, H, W"):
        deformable_conv2d(inputs, offsets[:, 1:], masks, kernel, bias)
    with pytest.raises(ValueError, match="6 channels, 4 groups"):
        more = np.repeat(offsets[:, :, :, :1], 4, 3), np.repeat(masks[..., :1, :], 4, 3)
        deformable_conv2d(inputs, *more, kernel, bias)
