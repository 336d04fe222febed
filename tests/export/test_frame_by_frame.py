"""Frame after frame gives the same numbers, and only where it can gain."""

import numpy as np
import pytest
import tensorflow as tf

from export.flatbuffer import read_graph
from export.frame_by_frame import MOST_COPIED, frame_by_frame
from export.runtime import run_on_cpu
from tests.export.tiny_graphs import constant, convert

FRAMES = (4, 6, 8, 12)
SMALL = 1  # bytes of cache: everything exceeds it


def same(whole, apart, tmp_path, shape=FRAMES):
    """Runs both on the same numbers, which have to be equal to the last bit."""
    image = np.random.default_rng(0).normal(size=shape).astype("float32")
    results = []
    for flatbuffer in (whole, apart):
        path = tmp_path / "model.tflite"
        path.write_bytes(flatbuffer)
        results.append(run_on_cpu(path, [image]))
    for old, new in zip(*results, strict=True):
        assert np.ptp(old) > 0.1
        np.testing.assert_array_equal(new, old)


def names(flatbuffer):
    return [operation.name for operation in read_graph(flatbuffer).operations]


def convolve(x, taps=3):
    kernel = constant(taps, taps, x.shape[-1], 12)
    return tf.nn.conv2d(x, kernel, 1, "SAME")


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_a_chain_is_written_once_for_each_frame(half, tmp_path):
    def forward(x):
        y = tf.nn.leaky_relu(convolve(x))
        return convolve(y) + x

    whole = convert(forward, FRAMES, half=half)
    apart = frame_by_frame(whole, SMALL)
    same(whole, apart, tmp_path)
    assert [n for n in names(apart) if n != "DEQUANTIZE"] == [
        *["SLICE", "CONV_2D", "LEAKY_RELU", "CONV_2D", "ADD"] * 4,
        "CONCATENATION",
    ]
    weights = read_graph(whole).weight_bytes
    assert read_graph(apart).weight_bytes < weights + 300


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: convolve(x) * x[:1],  # one for all frames
        lambda x: convolve(x) * constant(12),
        lambda x: convolve(x) * constant(4, 1, 1, 1),  # differs between frames
        lambda x: convolve(x) + tf.reshape(convolve(x)[:, 0, 0, 0], (4, 1, 1, 1)),
        lambda x: tf.concat([convolve(x), x], -1),
        lambda x: tf.concat([convolve(x), x], 1),
        lambda x: tf.concat([convolve(x), x], 0),
        lambda x: tf.concat([convolve(x)[2:3], x[:1], convolve(x)[-2:]], 0),
        lambda x: convolve(convolve(x)[1:3]),
        lambda x: convolve(x)[:, 1:3],
        lambda x: convolve(x)[::2],
        lambda x: convolve(x)[2],
        lambda x: tf.nn.avg_pool2d(convolve(x), 2, 2, "VALID"),
        lambda x: tf.nn.depth_to_space(convolve(x), 2),
        lambda x: tf.image.resize(convolve(x), (12, 16)),
        lambda x: tf.nn.softmax(tf.reshape(convolve(x), (4, 48, 12))),
        lambda x: tf.reshape(convolve(x), (2, 12, 96)),
        lambda x: tf.matmul(
            tf.reshape(convolve(x), (4, 48, 12)), tf.reshape(x, (4, 12, 48))
        ),
        lambda x: tf.matmul(tf.reshape(convolve(x), (4, 48, 12)), constant(12, 5)),
        lambda x: tf.reduce_mean(convolve(x), 0),
        lambda x: tf.reverse(convolve(x), [0]) + convolve(x),
        lambda x: tf.split(convolve(x), 2, 0)[1],
        lambda x: tf.gather(convolve(x), [3, 1]),
        lambda x: tf.pad(convolve(x), ((1, 0), (0, 0), (0, 0), (0, 0))) * 2.0,
        lambda x: (convolve(x), tf.sigmoid(x), convolve(x)[:1]),
    ],
)
def test_whatever_surrounds_it_the_numbers_stay(forward, tmp_path):
    whole = convert(forward, FRAMES)
    apart = frame_by_frame(whole, SMALL)
    assert names(apart).count("CONV_2D") > names(whole).count("CONV_2D")
    same(whole, apart, tmp_path)


def to_channels(x):
    return tf.reshape(tf.transpose(x, (1, 2, 0, 3)), (1, 6, 8, 48))


def to_frames(x):
    return tf.transpose(tf.reshape(x, (6, 8, 4, 12)), (2, 0, 1, 3))


def test_frames_become_channels_and_come_back_without_a_transposition(tmp_path):
    def forward(x):
        together = to_channels(convolve(x))
        mixed = tf.nn.conv2d(together, constant(1, 1, 48, 48), 1, "SAME")
        return convolve(to_frames(mixed))

    whole = convert(forward, FRAMES)
    apart = frame_by_frame(whole, SMALL)
    assert names(whole).count("TRANSPOSE") == 2
    assert "TRANSPOSE" not in names(apart)
    same(whole, apart, tmp_path)


@pytest.mark.parametrize(
    "forward",
    [
        # What lies between is an output, or read in another way, too.
        lambda x: tf.transpose(convolve(x), (1, 2, 0, 3)),
        lambda x: tf.reshape(tf.transpose(convolve(x), (1, 2, 0, 3)), (48, 48)),
        lambda x: (to_channels(convolve(x)), tf.transpose(convolve(x), (1, 2, 0, 3))),
        lambda x: to_frames(to_channels(convolve(x))) * 2.0,
        lambda x: tf.transpose(convolve(x), (0, 3, 1, 2)),
        lambda x: tf.reshape(to_channels(convolve(x)), (6, 8, 4, 12)),
        # Rows take the place of frames.
        lambda x: convolve(
            tf.reshape(tf.transpose(convolve(x), (1, 2, 0, 3)), (6, 4, 8, 12))
        ),
    ],
)
def test_other_transpositions_stay_right(forward, tmp_path):
    whole = convert(forward, FRAMES)
    same(whole, frame_by_frame(whole, SMALL), tmp_path)


def test_stretches_of_several_counts_of_frames_and_detours(tmp_path):
    def forward(x):
        y = tf.nn.relu(convolve(x))
        pairs = convolve(tf.concat([y[:-1], y[1:]], -1))
        middle = tf.nn.sigmoid(tf.reduce_mean(x, (1, 2), keepdims=True))
        between = [y[:1], pairs[:1], y[1:2], pairs[1:2], y[2:3], pairs[2:], y[3:]]
        return convolve(tf.concat(between, 0)) * tf.reduce_max(middle)

    whole = convert(forward, FRAMES)
    apart = frame_by_frame(whole, SMALL)
    assert names(apart).count("CONV_2D") == 4 + 3 + 7
    # Picking frames and putting them between others needs no operation any more.
    assert "STRIDED_SLICE" not in names(apart)
    same(whole, apart, tmp_path)


@pytest.mark.parametrize(
    ("forward", "shape"),
    [
        (convolve, (1, 6, 8, 12)),  # one frame
        (tf.sigmoid, FRAMES),  # no convolution
        (lambda x: tf.reverse(x, [0]), FRAMES),
    ],
)
def test_what_cannot_gain_is_left_as_it_is(forward, shape):
    file = convert(forward, shape)
    assert frame_by_frame(file, SMALL) is file


def test_frames_that_fit_the_cache_together_stay_together():
    file = convert(convolve, FRAMES)
    together = 4 * int(np.prod(FRAMES))
    assert frame_by_frame(file, together) is file
    assert frame_by_frame(file, together - 1) is not file
    assert frame_by_frame(file, 0) is file


def test_weights_are_not_copied_without_end():
    kernel = np.zeros((1, 1, 512, MOST_COPIED // 4 // 512 // 3 + 1), "float32")
    frames = (4, 1, 2, 512)
    large = convert(lambda x: tf.nn.conv2d(x, kernel, 1, "SAME"), frames)
    assert frame_by_frame(large, SMALL) is large
    fits = convert(lambda x: tf.nn.conv2d(x, kernel[..., 1:], 1, "SAME"), frames)
    assert frame_by_frame(fits, SMALL) is not fits


def test_sizes_known_only_at_run_time_are_left_alone():
    file = convert(convolve, tf.TensorSpec((4, None, 8, 12), "float32"))
    assert frame_by_frame(file, SMALL) is file


# The converter expects ranges for inputs that stay float32, too.
@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
def test_weights_in_8_bits_are_left_as_they_are():
    file = convert(convolve, FRAMES, calibrate=[constant(*FRAMES)])
    assert frame_by_frame(file, SMALL) is file
