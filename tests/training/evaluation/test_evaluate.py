"""The program that evaluates: what it writes, and how it says what is wrong."""

import io
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from keras_megan.metrics import luma_psnr
from keras_megan.video.errors import VideoError
from tests.networks import plain_network
from tests.training.evaluation.footage import moving_clip, texture, write_frames
from training.errors import TrainingError
from training.evaluate import Settings, evaluate
from training.evaluation.baselines import (
    BASELINES,
)
from training.evaluation.clips import (
    degrade,
)
from training.evaluation.network_method import ModelMethod, load_model

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_model_file_is_measured_beside_baselines_and_everything_is_written(tmp_path):
    write_frames(tmp_path / "clips" / "one", moving_clip(8))
    write_frames(tmp_path / "clips" / "two", moving_clip(7, 72, 64, seed=1))
    plain_network().save(tmp_path / "plain.keras")
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
    plain_network(scale=2).save(tmp_path / "two.keras")
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
