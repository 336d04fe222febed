"""LMGA against a dense loop over nodes, and what its memories promise."""

import keras
import numpy as np
import pytest

from keras_megan.layers import ChannelGraphAttention, MemoryGraphAggregation

FRAMES, SIZE = 3, 4


def _describe(channel_map):
    """Averages of a (H, W) map over SIZE x SIZE bins, standardised."""
    height, width = channel_map.shape
    bins = np.zeros((SIZE, SIZE))
    for i in range(SIZE):
        for j in range(SIZE):
            rows = slice(i * height // SIZE, -(-(i + 1) * height // SIZE))
            columns = slice(j * width // SIZE, -(-(j + 1) * width // SIZE))
            bins[i, j] = channel_map[rows, columns].mean()
    bins -= bins.mean()
    return (bins / np.sqrt((bins**2).mean() + 1e-5)).ravel()


def _softmax(scores):
    scores = np.exp(scores - scores.max())
    return scores / scores.sum()


def _nodes_read(memory, t):
    """The (frame, channel) nodes that frame t may read."""
    frames = range(FRAMES) if memory == "bank" else [t]
    return [(tau, j) for tau in frames for j in range(2)]


def _dense(queries, keys, values, memory, log_count):
    """(T, H, W, 2) each: the equations of the module, one node at a time."""
    mixed = np.zeros(values.shape)
    for t in range(FRAMES):
        nodes = _nodes_read(memory, t)
        for i in range(2):
            query = _describe(queries[t, :, :, i])
            edges = _softmax(
                np.array(
                    [
                        query @ _describe(keys[tau, :, :, j]) / SIZE - log_count[j]
                        for tau, j in nodes
                    ]
                )
            )
            for edge, (tau, j) in zip(edges, nodes, strict=True):
                mixed[t, :, :, i] += edge * values[tau, :, :, j]
    return mixed


@pytest.mark.parametrize("memory", ["bank", "intra"])
@pytest.mark.parametrize("size", [(8, 8), (7, 13), (3, 5)])
def test_attention_equals_a_dense_loop_over_nodes(rng, memory, size):
    clips = rng.normal(size=(3, 2, FRAMES, *size, 2)).astype("float32")
    layer = ChannelGraphAttention(FRAMES, memory, SIZE)
    queries, keys, values = clips.reshape(3, 2 * FRAMES, *size, 2)
    layer(queries, keys, values)
    log_count = np.log([1.0, 3.0]).astype("float32")
    layer.log_count.assign(log_count)
    received = np.asarray(layer(queries, keys, values)).reshape(2, FRAMES, *size, 2)
    for clip in range(2):
        expected = _dense(*clips[:, clip], memory, log_count)
        np.testing.assert_allclose(received[clip], expected, atol=1e-5)


def test_recurrent_memory_equals_a_loop_over_time(rng):
    queries, keys, values = rng.normal(size=(3, FRAMES, 8, 8, 2)).astype("float32")
    layer = ChannelGraphAttention(FRAMES, "recurrent", SIZE)
    layer(queries, keys, values)
    kernel = rng.normal(size=(2, 2 * SIZE**2)) * 0.3
    bias = np.array([0.3, -0.2])
    layer.gate_kernel.assign(kernel)
    layer.gate_bias.assign(bias)

    stored = {t: [] for t in range(FRAMES)}
    for direction, order in enumerate((range(FRAMES), reversed(range(FRAMES)))):
        for node in range(2):
            key, value = None, None
            for t in list(order) if direction == 0 else range(FRAMES - 1, -1, -1):
                new_key, new_value = _describe(keys[t, ..., node]), values[t, ..., node]
                if key is None:
                    key, value = new_key, new_value
                else:
                    score = np.r_[key, new_key] @ kernel[direction] + bias[direction]
                    update = 1 / (1 + np.exp(-score))
                    key = (1 - update) * key + update * new_key
                    value = (1 - update) * value + update * new_value
                stored[t].append((key, value))
    expected = np.zeros(values.shape)
    for t in range(FRAMES):
        for i in range(2):
            query = _describe(queries[t, ..., i])
            edges = _softmax(np.array([query @ key / SIZE for key, _ in stored[t]]))
            expected[t, ..., i] = sum(
                edge * value for edge, (_, value) in zip(edges, stored[t], strict=True)
            )
    np.testing.assert_allclose(layer(queries, keys, values), expected, atol=1e-5)


@pytest.mark.parametrize("memory", ["bank", "recurrent", "intra"])
def test_copying_a_channel_with_log_count_changes_nothing(rng, memory):
    """What makes net2net's widening exact: copies share their unit's attention."""
    queries, keys, values = rng.normal(size=(3, FRAMES, 8, 8, 2)).astype("float32")
    source = [0, 1, 1, 0, 1]
    narrow = ChannelGraphAttention(FRAMES, memory, SIZE)
    wide = ChannelGraphAttention(FRAMES, memory, SIZE)
    expected = np.asarray(narrow(queries, keys, values))
    copies = [part[..., source] for part in (queries, keys, values)]
    wide(*copies)
    for old, new in zip(narrow.trainable_weights, wide.trainable_weights, strict=True):
        new.assign(old)
    wide.log_count.assign(np.log([2.0, 3.0])[source])
    np.testing.assert_allclose(wide(*copies), expected[..., source], atol=2e-6)


def test_a_bank_frame_reads_every_frame_and_an_intra_frame_only_itself(rng):
    values = rng.normal(size=(FRAMES, 8, 8, 2)).astype("float32")
    changed = values.copy()
    changed[2] += 1.0
    for memory, other_frames_change in (("bank", True), ("intra", False)):
        layer = ChannelGraphAttention(FRAMES, memory, SIZE)
        before = np.asarray(layer(values, values, values))[0]
        after = np.asarray(layer(values, values, changed))[0]
        assert (np.abs(before - after).max() > 1e-3) == other_frames_change


def test_a_new_layer_is_the_identity(rng):
    features = rng.normal(size=(2 * FRAMES, 8, 8, 4)).astype("float32")
    layer = MemoryGraphAggregation(4, FRAMES, descriptor_size=SIZE)
    np.testing.assert_array_equal(layer(features), features)


def test_gate_and_projection_follow_the_equations(rng):
    features = rng.normal(size=(FRAMES, 8, 8, 4)).astype("float32")
    layer = MemoryGraphAggregation(4, FRAMES, descriptor_size=SIZE)
    layer(features)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])

    def conv(name, inputs):
        kernel, *bias = getattr(layer, name).get_weights()
        return inputs @ kernel[0, 0] + sum(bias)

    read = np.asarray(
        layer.attention(*(conv(n, features) for n in ("theta", "phi", "g")))
    )
    gate = 1 / (1 + np.exp(-conv("gate", np.concatenate([features, read], -1))))
    expected = features + conv("project", gate * read)
    np.testing.assert_allclose(layer(features), expected, atol=1e-4)


def test_an_unknown_memory_is_refused():
    with pytest.raises(ValueError, match="Received: memory='none'"):
        MemoryGraphAggregation(4, FRAMES, "none")
    assert keras.saving.get_registered_object("keras_megan>MemoryGraphAggregation")


def test_averaging_before_convolving_is_averaging_after(rng):
    layer = MemoryGraphAggregation(5, 3, descriptor_size=4)
    inputs = rng.normal(size=(6, 8, 12, 5)).astype("float32")
    layer(inputs)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.3))
    read = layer.attention(layer.theta(inputs), layer.phi(inputs), layer.g(inputs))
    gate = layer.gate(np.concatenate([inputs, read], axis=-1))
    expected = inputs + np.asarray(layer.project(gate * read))
    np.testing.assert_allclose(layer(inputs), expected, atol=2e-5)
