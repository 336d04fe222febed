"""The non-local block against the textbook formula."""

import numpy as np
import pytest

from keras_megan.layers import NonLocalResidualBlock, SpatialAttention


def _softmax(scores):
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


def _pool(maps, bins):
    """(H, W, C) -> (bins*bins, C), adaptive averages by loops."""
    height, width, _ = maps.shape
    return np.array(
        [
            maps[
                i * height // bins : -(-(i + 1) * height // bins),
                j * width // bins : -(-(j + 1) * width // bins),
            ].mean(axis=(0, 1))
            for i in range(bins)
            for j in range(bins)
        ]
    )


def _attention(queries, keys, values):
    scores = queries.reshape(-1, queries.shape[-1]) @ keys.T
    weights = _softmax(scores / np.sqrt(queries.shape[-1]))
    return (weights @ values).reshape(*queries.shape[:2], -1)


def test_full_keys_equal_the_textbook_formula(rng):
    queries, keys = rng.normal(size=(2, 3, 5, 7, 4)).astype("float32")
    values = rng.normal(size=(3, 5, 7, 6)).astype("float32")
    received = np.asarray(SpatialAttention("full")(queries, keys, values))
    for n in range(3):
        flat = (keys[n].reshape(-1, 4), values[n].reshape(-1, 6))
        np.testing.assert_allclose(
            received[n], _attention(queries[n], *flat), atol=1e-5
        )


@pytest.mark.parametrize("size", [(5, 7), (16, 12), (1, 2)])
def test_pyramid_keys_are_averages_over_grids(rng, size):
    queries, keys = rng.normal(size=(2, 2, *size, 4)).astype("float32")
    values = rng.normal(size=(2, *size, 6)).astype("float32")
    bins = (1, 3, 6)
    received = np.asarray(SpatialAttention("pyramid", bins)(queries, keys, values))
    for n in range(2):
        tokens = [
            np.concatenate([_pool(maps[n], b) for b in bins]) for maps in (keys, values)
        ]
        np.testing.assert_allclose(
            received[n], _attention(queries[n], *tokens), atol=1e-5
        )


def test_attention_reaches_the_whole_frame(rng):
    features = rng.normal(size=(1, 12, 12, 4)).astype("float32")
    block = NonLocalResidualBlock(4, "full")
    block(features)
    block.set_weights([rng.normal(size=w.shape) * 0.3 for w in block.get_weights()])
    far = features.copy()
    far[0, 11, 11] += 3.0
    change = np.abs(np.asarray(block(far)) - np.asarray(block(features)))
    assert change[0, 0, 0].max() > 1e-6


def test_a_new_block_is_a_plain_residual_block(rng):
    features = rng.normal(size=(2, 6, 6, 4)).astype("float32")
    block = NonLocalResidualBlock(4)
    received = block(features)
    expected = features + block.conv_2(block.conv_1(features))
    np.testing.assert_allclose(received, expected, atol=1e-6)


def test_an_unknown_pool_is_refused():
    with pytest.raises(ValueError, match="pool must be one of.*Received: pool='max'"):
        NonLocalResidualBlock(4, "max")


def test_averaging_before_convolving_is_averaging_after(rng):
    block = NonLocalResidualBlock(6)
    inputs = rng.normal(size=(2, 16, 24, 6)).astype("float32")
    block(inputs)
    for weight in block.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.3))
    residual = block.conv_2(block.conv_1(inputs))
    after = SpatialAttention("pyramid")
    attended = after(block.theta(residual), block.phi(residual), block.g(residual))
    expected = inputs + residual + block.project(attended)
    np.testing.assert_allclose(block(inputs), expected, atol=2e-5)
