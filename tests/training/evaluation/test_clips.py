"""Which frames of a clip are scored, and what the networks are given."""

import cv2
import numpy as np
import pytest

from keras_megan.imaging.find import ClipSource, find_clips
from keras_megan.imaging.resize import imresize
from keras_megan.video.windows import plan_windows
from tests.training.evaluation.footage import moving_clip, write_frames
from training.evaluation.clips import (
    degrade,
    downscale_factor,
    load_clip,
)
from training.evaluation.scored_windows import evaluation_windows

# === Windows ===


@pytest.mark.parametrize("num_inputs", [2, 4])
@pytest.mark.parametrize("extra", range(15))
def test_every_frame_is_scored_exactly_once_in_order(num_inputs, extra):
    num_frames = 2 * num_inputs - 1 + extra
    windows = evaluation_windows(num_frames, num_inputs)
    scored = [frame for window in windows for frame in window.scored]
    assert scored == list(range(num_frames))
    for window in windows:
        inputs = range(num_frames)[window.inputs]
        assert len(inputs) == num_inputs and window.stop <= num_frames
        for frame in window.scored:
            assert window.is_given(frame) == (frame in inputs)


def test_vid4_lengths_give_171_frames_and_160_without_the_tail():
    lengths = {"calendar": 41, "city": 34, "foliage": 49, "walk": 47}
    plans = {name: evaluation_windows(length) for name, length in lengths.items()}
    assert sum(len(w.scored) for plan in plans.values() for w in plan) == 171
    regular = {
        name: sum(len(w.scored) for w in plan if w.start % 6 == 0)
        for name, plan in plans.items()
    }
    assert regular == {"calendar": 37, "city": 31, "foliage": 49, "walk": 43}
    last = plans["city"][-1]
    assert (last.start, list(last.scored)) == (27, [31, 32, 33])


def test_odd_lengths_have_the_windows_of_the_upscaling_tool():
    for inputs in range(4, 20):
        tool = plan_windows(inputs, 4)
        mine = evaluation_windows(2 * inputs - 1, 4)
        assert [w.outputs for w in tool] == [w.scored for w in mine]
        frames = range(2 * inputs - 1)
        assert [[2 * i for i in w.items] for w in tool] == [
            list(frames[w.inputs]) for w in mine
        ]


def test_too_short_a_clip_has_no_window():
    with pytest.raises(ValueError, match="spans 7 frames; the clip has 6"):
        evaluation_windows(6)


# === Clips ===


def test_clips_are_found_as_files_folders_of_images_and_folders_of_files(tmp_path):
    write_frames(tmp_path / "walk10", moving_clip(1))
    write_frames(tmp_path / "walk9", moving_clip(1))
    for name in ("alone.mp4", "inside/some.mkv", "two/a.mp4", "two/b.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [source.name for source in find_clips(tmp_path)]
    assert sorted(names) == ["alone", "inside", "two/a", "two/b", "walk10", "walk9"]
    assert names.index("walk9") < names.index("walk10")
    assert [s.name for s in find_clips(tmp_path / "walk9")] == ["walk9"]
    assert [s.name for s in find_clips(tmp_path / "alone.mp4")] == ["alone"]


def test_clips_of_one_stem_get_different_names(tmp_path):
    write_frames(tmp_path / "walk", moving_clip(1))
    (tmp_path / "walk.mp4").touch()
    (tmp_path / "walk.mkv").touch()
    names = {source.name for source in find_clips(tmp_path)}
    assert names == {"walk", "walk.mp4", "walk.mkv"}


def test_truth_is_cropped_to_multiples_of_four_after_shrinking(tmp_path):
    frames = moving_clip(8, 75, 83)
    write_frames(tmp_path / "clip", frames)
    source = ClipSource("clip", tmp_path / "clip")
    clip = load_clip(source, max_frames=7)
    np.testing.assert_array_equal(clip.truth, frames[:7, :72, :80])
    halved = load_clip(source, downscale="2", min_side=16).truth
    assert halved.shape == (8, 36, 40, 3)
    np.testing.assert_allclose(
        halved, cv2_area(frames)[:, :36, :40], atol=1
    )  # OpenCV rounds halves differently


def cv2_area(frames):
    size = (frames.shape[2] // 2, frames.shape[1] // 2)
    return np.stack(
        [
            cv2.resize(f[: 2 * size[1], : 2 * size[0]], size, interpolation=3)
            for f in frames
        ]
    ).astype(float)


def test_auto_halves_compressed_video_of_480_lines_only(tmp_path):
    video, folder = ClipSource("v", tmp_path / "v.mp4"), ClipSource("f", tmp_path)
    assert downscale_factor(video, 480, "auto") == 2
    assert downscale_factor(video, 479, "auto") == 1
    assert downscale_factor(folder, 2160, "auto") == 1
    assert downscale_factor(video, 480, "1") == 1


def test_inputs_are_antialiased_quarters_in_bytes():
    truth = moving_clip(2)
    reduced = degrade(truth)
    assert reduced.shape == (2, 16, 20, 3) and reduced.dtype == np.uint8
    expected = np.rint(imresize(truth.astype(float), 0.25).clip(0, 255))
    np.testing.assert_array_equal(reduced, expected)
