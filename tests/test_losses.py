"""Charbonnier: its values, both reductions, its gradient, serialisation."""

import math

import keras
import numpy as np
import pytest

from keras_megan.losses import Charbonnier


def dense_sum(a, b, epsilon_squared=1e-6):
    return math.fsum(
        math.sqrt((float(x) - float(y)) ** 2 + epsilon_squared)
        for x, y in zip(a.ravel(), b.ravel(), strict=True)
    )


@pytest.fixture
def frames():
    random = np.random.default_rng(0)
    return random.random((2, 2, 3, 5, 6, 3)).astype(np.float32)


def test_sum_adds_all_values_of_the_batch_as_published(frames):
    value = float(Charbonnier(reduction="sum")(*frames))
    assert value == pytest.approx(dense_sum(*frames), rel=1e-6)


def test_default_is_the_mean_over_all_values(frames):
    value = float(Charbonnier()(*frames))
    assert value == pytest.approx(dense_sum(*frames) / frames[0].size, rel=1e-6)


def test_zero_error_costs_a_thousandth():
    zeros = np.zeros((1, 2, 2, 3), np.float32)
    assert float(Charbonnier()(zeros, zeros)) == pytest.approx(1e-3, rel=1e-5)


def test_frame_weights_broadcast(frames):
    weight = np.zeros((2, 3, 1, 1, 1), np.float32)
    weight[:, 1] = 1.0
    value = float(Charbonnier(reduction="sum")(*frames, sample_weight=weight))
    assert value == pytest.approx(dense_sum(*frames[:, :, 1]), rel=1e-5)


@pytest.mark.slow
def test_training_reaches_the_median_as_an_absolute_error_does():
    # One outlier in five: a squared error would settle at 0.2.
    targets = np.array([0, 0, 0, 0, 1], np.float32)[:, None]
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.Adam(0.05), Charbonnier())
    model.fit(np.ones((5, 1), np.float32), targets, 5, epochs=60, verbose=0)
    assert abs(float(layer.kernel[0, 0])) < 0.1


def test_survives_serialisation():
    loss = Charbonnier(1e-4, reduction="sum")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, Charbonnier)
    assert again.get_config() == loss.get_config()
    assert again.epsilon_squared == 1e-4 and again.reduction == "sum"


def test_epsilon_must_be_positive():
    with pytest.raises(ValueError, match="epsilon_squared > 0"):
        Charbonnier(0.0)
