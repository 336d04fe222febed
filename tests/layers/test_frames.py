"""Time in and out of the batch, against numpy's own reshapes."""

import numpy as np
import pytest

from keras_megan.layers import (
    AddToFrames,
    ChannelsToFrames,
    FramesToChannels,
    InterleaveFrames,
    SelectFrames,
    UnfoldFrames,
)

CLIPS = pytest.mark.parametrize("clips", [1, 3])


def _clip(rng, clips, frames, channels=3):
    return rng.normal(size=(clips, frames, 4, 5, channels)).astype("float32")


def _fold(video):
    return video.reshape(-1, *video.shape[2:])


@CLIPS
def test_frames_to_channels_puts_frame_t_channel_c_at_t_times_channels_plus_c(
    rng, clips
):
    video = _clip(rng, clips, 4)
    stacked = np.asarray(FramesToChannels(4)(_fold(video)))
    for t in range(4):
        for c in range(3):
            np.testing.assert_array_equal(stacked[..., t * 3 + c], video[:, t, :, :, c])


@CLIPS
def test_channels_to_frames_undoes_frames_to_channels(rng, clips):
    folded = _fold(_clip(rng, clips, 4))
    stacked = FramesToChannels(4)(folded)
    np.testing.assert_array_equal(ChannelsToFrames(4)(stacked), folded)


@CLIPS
def test_select_keeps_the_named_frames_of_every_clip(rng, clips):
    video = _clip(rng, clips, 5)
    selected = SelectFrames(5, 1, 4)(_fold(video))
    np.testing.assert_array_equal(selected, _fold(video[:, 1:4]))


@CLIPS
def test_interleave_puts_given_frames_at_even_places(rng, clips):
    given, between = _clip(rng, clips, 4), _clip(rng, clips, 3)
    merged = np.asarray(
        UnfoldFrames(7)(InterleaveFrames(4)(_fold(given), _fold(between)))
    )
    np.testing.assert_array_equal(merged[:, ::2], given)
    np.testing.assert_array_equal(merged[:, 1::2], between)


@CLIPS
def test_add_to_frames_adds_a_clips_map_to_its_own_frames_only(rng, clips):
    video = _clip(rng, clips, 3)
    shared = rng.normal(size=(clips, 4, 5, 3)).astype("float32")
    added = AddToFrames(3)(_fold(video), shared)
    np.testing.assert_array_equal(added, _fold(video + shared[:, None]))


def test_a_batch_that_is_no_whole_number_of_clips_is_refused():
    with pytest.raises(ValueError, match="multiple of num_frames=4.*Received: 6"):
        UnfoldFrames(4).compute_output_shape((6, 8, 8, 3))


def test_selecting_frames_that_do_not_exist_is_refused():
    with pytest.raises(ValueError, match="stop=5, num_frames=4"):
        SelectFrames(4, 0, 5)


def test_interleaving_a_single_frame_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        InterleaveFrames(1)
