"""Progressive fusion: the published block, computed with less work."""

import keras
import numpy as np

from keras_megan.layers import ProgressiveFusionBlock

FRAMES, FILTERS = 3, 4


def _filled(rng):
    block = ProgressiveFusionBlock(FILTERS, FRAMES)
    block.build((None, 6, 6, FILTERS))
    block.set_weights([rng.normal(size=w.shape) * 0.3 for w in block.get_weights()])
    return block


def _as_published(block, video):
    """(T, H, W, C): concatenate [base, a_t] and convolve, frame by frame."""

    def leaky(inputs):
        return np.where(inputs > 0, inputs, 0.2 * inputs)

    def conv(inputs, kernel, bias):
        return np.asarray(
            keras.ops.conv(inputs, kernel.astype("float32"), padding="same") + bias
        )

    frame_kernel, frame_bias = block.frame_conv.get_weights()
    frames = [leaky(conv(f[None], frame_kernel, frame_bias)) for f in video]
    base = leaky(conv(np.concatenate(frames, -1), *block.base_conv.get_weights()))
    frame_half, bias = block.merge_frame.get_weights()
    kernel = np.concatenate([block.merge_base.get_weights()[0], frame_half], axis=2)
    return np.concatenate(
        [
            own[None] + leaky(conv(np.concatenate([base, f], -1), kernel, bias))
            for own, f in zip(video, frames, strict=True)
        ]
    )


def test_equals_the_published_block_with_its_concatenation(rng):
    block = _filled(rng)
    video = rng.normal(size=(2, FRAMES, 6, 6, FILTERS)).astype("float32")
    received = np.asarray(block(video.reshape(-1, 6, 6, FILTERS)))
    expected = np.concatenate([_as_published(block, clip) for clip in video])
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_64_channels_and_7_frames_have_the_published_parameters():
    block = ProgressiveFusionBlock(64, 7)
    block.build((None, 8, 8, 64))
    assert block.count_params() == 139_456


def test_permuting_frames_and_the_base_convolution_permutes_the_output(rng):
    """Frames share every weight but the 1x1 that knows which frame is which."""
    block, permuted = _filled(rng), _filled(rng)
    permuted.set_weights(block.get_weights())
    order = [2, 0, 1]
    kernel, bias = block.base_conv.get_weights()
    rows = kernel.reshape(FRAMES, FILTERS, FILTERS)[order]
    permuted.base_conv.set_weights([rows.reshape(kernel.shape), bias])
    video = rng.normal(size=(FRAMES, 6, 6, FILTERS)).astype("float32")
    np.testing.assert_allclose(
        permuted(video[order]), np.asarray(block(video))[order], atol=1e-5
    )
