"""From features to pixels, and any size in and out."""

import numpy as np
import pytest
import tensorflow as tf

from keras_megan.layers import (
    BilinearUpsampling,
    CropToScale,
    PadToMultiple,
    PixelShuffle,
    Reconstruction,
)
from keras_megan.layers.mobile_operations import mobile_operations


@pytest.mark.parametrize(("batch", "mobile"), [(None, False), (2, False), (2, True)])
def test_pixel_shuffle_follows_tensorflows_channel_order(rng, batch, mobile):
    inputs = rng.normal(size=(batch or 2, 3, 5, 12)).astype("float32")
    spec = tf.TensorSpec((batch, 3, 5, 12))
    with mobile_operations(mobile):
        shuffle = tf.function(PixelShuffle(2), input_signature=[spec])
        operations = {
            op.type for op in shuffle.get_concrete_function().graph.get_operations()
        }
        shuffled = shuffle(inputs).numpy()
    assert ("DepthToSpace" in operations) is not mobile
    for by, bx, c in np.ndindex(2, 2, 3):
        np.testing.assert_array_equal(
            shuffled[:, by::2, bx::2, c], inputs[..., (by * 2 + bx) * 3 + c]
        )


def test_pixel_shuffle_refuses_channels_that_do_not_divide():
    with pytest.raises(ValueError, match="multiple of 4.*Received"):
        PixelShuffle(2).compute_output_shape((1, 2, 2, 6))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("known", [True, False])
def test_bilinear_upsampling_equals_the_half_pixel_definition(rng, scale, known):
    inputs = rng.normal(size=(2, 4, 5, 3)).astype("float32")
    expected = inputs.astype("float64")
    for axis in (1, 2):
        size = inputs.shape[axis]
        at = np.clip((np.arange(size * scale) + 0.5) / scale - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, size - 1)
        share = np.expand_dims(at - low, tuple(a for a in range(4) if a != axis))
        expected = (1 - share) * expected.take(low, axis) + share * expected.take(
            high, axis
        )
    layer = BilinearUpsampling(scale)
    if known:
        received = layer(inputs)
    else:
        unknown = tf.TensorSpec((None, None, None, 3))
        received = tf.function(layer, input_signature=[unknown])(inputs)
    np.testing.assert_allclose(received, expected, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (5, 9), (1, 3)])
def test_padding_repeats_the_border_and_cropping_undoes_it(rng, size):
    images = rng.normal(size=(2, *size, 3)).astype("float32")
    padded = np.asarray(PadToMultiple(4)(images))
    height, width = (-(-s // 4) * 4 for s in size)
    expected = np.pad(
        images,
        ((0, 0), (0, height - size[0]), (0, width - size[1]), (0, 0)),
        mode="edge",
    )
    np.testing.assert_array_equal(padded, expected)
    np.testing.assert_array_equal(CropToScale(1)(padded, images), images)


@pytest.mark.parametrize("tail", ["full", "light"])
def test_a_new_reconstruction_adds_nothing(rng, tail):
    features = rng.normal(size=(2, 6, 7, 4)).astype("float32")
    pixels = np.asarray(Reconstruction(4, 2, tail)(features))
    assert pixels.shape == (2, 24, 28, 3)
    assert not pixels.any()


def test_an_unknown_tail_is_refused():
    with pytest.raises(ValueError, match="Received: 'long'"):
        Reconstruction(4, 1, "long")
