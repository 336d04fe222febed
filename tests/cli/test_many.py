"""Many clips: which are meant, where results go, and that one bad file stops none."""

import argparse
import inspect
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import keras_megan
from keras_megan.cli.main import main
from keras_megan.cli.upscale import add_options
from keras_megan.video.compare import enlarge
from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.request.inputs import find_inputs, place_results
from tests.video.clips import PlainRunner, picture, read_images, write_clip


def megan(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path):
    """Two good clips, a bad one, a result, and what is no clip."""
    folder = tmp_path / "holiday"
    folder.mkdir()
    for name in ("one.mp4", "two.mkv"):
        write_clip(folder / name, [picture(i) for i in range(4)])
    (folder / "bad.mp4").write_bytes(b"no video" * 100)
    (folder / "old.megan.mp4").write_bytes(b"a result")
    (folder / "notes.txt").write_text("dear diary")
    return folder


def test_a_folder_is_gone_through_and_one_bad_file_stops_none(
    folder, model, capsys, tmp_path
):
    results = tmp_path / "results"
    assert megan("upscale", folder, "-o", results, "--model", model) == 2
    assert sorted(path.name for path in results.iterdir()) == [
        "one.megan.mp4",
        "two.megan.mkv",
    ]
    assert len(read_images(results / "one.megan.mp4")) == 7
    err = capsys.readouterr().err
    assert "bad.mp4" in err and "FAILED" in err and "not a video" in err
    # Again: what is there is left alone, or skipped, or replaced.
    before = (results / "one.megan.mp4").stat().st_mtime_ns
    assert megan("upscale", folder, "-o", results, "--model", model) == 2
    assert (results / "one.megan.mp4").stat().st_mtime_ns == before
    (folder / "bad.mp4").unlink()
    capsys.readouterr()
    skip = ("--skip-existing", "--json")
    assert megan("upscale", folder, "-o", results, "--model", model, *skip) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["skipped", "skipped", "finished"]
    assert events[-1] == {"event": "finished", "done": 0, "skipped": 2, "failed": 0}


def test_without_o_the_result_lies_beside_the_input_and_never_over_anything(
    folder, model, capsys
):
    assert megan("upscale", folder / "one.mp4", "--model", model, "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""
    assert len(read_images(folder / "one.megan.mp4")) == 7
    assert megan("upscale", folder / "one.mp4", "--model", model) == 1
    assert "exists" in capsys.readouterr().err
    assert megan("upscale", folder / "one.mp4", "--model", model, "--overwrite") == 0


def test_inputs_are_found_once_in_order_and_results_are_no_inputs(folder):
    names = [path.name for path in find_inputs([folder])]
    assert names == ["bad.mp4", "one.mp4", "two.mkv"]
    both = find_inputs([folder / "two.mkv", folder, str(folder / "*.mp4")])
    assert [path.name for path in both] == ["two.mkv", "bad.mp4", "one.mp4"]
    with pytest.raises(VideoError, match="No video matches"):
        find_inputs([str(folder / "*.avi")])


def test_results_get_names_of_their_own(tmp_path):
    sources = [Path("a/clip.mp4"), Path("b/clip.mp4"), Path("c/film.avi")]
    placed = place_results(sources, tmp_path / "new" / "out")
    assert [clip.output.name for clip in placed] == [
        "clip.megan.mp4",
        "clip-2.megan.mp4",
        "film.megan.mp4",
    ]
    assert (tmp_path / "new" / "out").is_dir()
    (single,) = place_results(sources[:1], str(tmp_path / "out.mkv"), ".preview")
    assert single.output == tmp_path / "out.preview.mkv"
    (single,) = place_results(sources[:1], str(tmp_path / "frames"), ".preview")
    assert single.output == tmp_path / "frames-preview"
    (single,) = place_results(sources[:1], f"{tmp_path}/results/")
    assert single.output == tmp_path / "results" / "clip.megan.mp4"
    with pytest.raises(VideoError, match="3 clips cannot go into the one file"):
        place_results(sources, tmp_path / "out.mkv")


def test_preview_makes_the_beginning_only(tmp_path, model):
    source = write_clip(tmp_path / "clip.mp4", [picture(i) for i in range(25)])
    assert megan("upscale", source, "--model", model, "--preview", "0.2s") == 0
    made = open_clip(tmp_path / "clip.preview.megan.mp4").info
    assert made.num_frames == 9 and made.duration == Fraction(1, 5)


def test_dry_run_says_everything_and_makes_nothing(folder, model, capsys, tmp_path):
    before = sorted(path.name for path in tmp_path.rglob("*"))
    options = ("--size", "64x48", "--crf", "30", "--dry-run")
    assert megan("upscale", folder / "one.mp4", "--model", model, *options) == 0
    text = capsys.readouterr().out
    for fact in ("one.megan.mp4", "64x48, 7 frames", "50 frames/s", "crf 30", "disk"):
        assert fact in text
    arguments = (folder, "-o", tmp_path / "new", "--model", model, *options, "--json")
    assert megan("upscale", *arguments) == 2
    lines = capsys.readouterr().out.splitlines()
    events = [json.loads(line) for line in lines]
    plans = [event for event in events if event["event"] == "plan"]
    assert [plan["frames_out"] for plan in plans] == [7, 7]
    assert all(plan["size"] > 100 and plan["seconds"] > 0 for plan in plans)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_the_one_call_does_what_the_command_does(folder, tmp_path):
    heard = []
    summary = keras_megan.upscale(
        folder / "one.mp4",
        tmp_path / "out.mp4",
        model=PlainRunner(),
        scale=1.5,
        factor=1,
        crf=30,
        progress=heard.append,
    )
    assert (summary.width, summary.height, summary.frames_out) == (48, 36, 4)
    assert heard[-1].done == heard[-1].total == 4
    assert heard[-1].clip == folder / "one.mp4"
    outcomes = keras_megan.upscale([folder], tmp_path / "all", model=PlainRunner())
    assert [bool(outcome.error) for outcome in outcomes] == [True, False, False]
    assert outcomes[1].summary.frames_out == 7
    with pytest.raises(VideoError, match="not a video"):
        keras_megan.upscale(folder / "bad.mp4", tmp_path / "o.mp4", model=PlainRunner())
    with pytest.raises(VideoError, match="size: expected"):
        keras_megan.upscale(folder / "one.mp4", size="large", model=PlainRunner())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fps", "60", "--factor", "2"), "exclude each other"),
        (("--factor", "1", "--no-interpolation"), "exclude each other"),
        (("--scale", "5"), "from 1 to 4"),
        (("--size", "33x24"), "without distortion"),
        (("--preset", "warp"), "has no preset 'warp'"),
        (("--pix-fmt", "rgb1"), "has no pixel format"),
        (("--encoder", "abacus"), "Unknown encoder"),
        (("--engine", "litert"), "carries no files"),
        (("--fps", "60"), "half-way between two given ones"),
    ],
)
def test_wishes_that_cannot_be_fulfilled_are_one_line(
    folder, model, capsys, options, words
):
    before = sorted(folder.iterdir())
    assert megan("upscale", folder / "one.mp4", "--model", model, *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("megan: ") and words in line
    assert sorted(folder.iterdir()) == before


def test_hardware_that_is_not_there_is_said_and_done_without(folder, model, capsys):
    from keras_megan.video.io.writing.codecs import CODECS
    from keras_megan.video.io.writing.encoders import tune

    codec, notes = tune(CODECS["ffv1"], "nvenc")  # no hardware writes it
    assert codec is CODECS["ffv1"] and "encoded by ffv1 instead" in notes[0]
    slow, _ = tune(CODECS["h264"], "software", "slow", "yuv444p")
    assert slow.options["preset"] == "slow" and slow.pixel_format == "yuv444p"
    output = folder / "one.megan.mp4"
    options = ("--pix-fmt", "yuv444p", "--preset", "veryfast", "--no-audio")
    assert megan("upscale", folder / "one.mp4", "--model", model, *options) == 0
    assert open_clip(output).info.pixel_format == "yuv444p"


def test_compare_enlarges_by_lanczos_and_not_by_square_pixels():
    image = picture(3, 20, 20)
    large = enlarge(image, 80).astype(float)
    # Square pixels would differ from the smooth picture by half of a pixel's step.
    y, x = (np.arange(80) + 0.5) / 4 - 0.5, (np.arange(80) + 0.5) / 4 - 0.5
    y, x = np.meshgrid(y, x, indexing="ij")
    red = 90 + 60 * np.sin((x + 1.5 * 3) / 9)
    assert np.abs(large[8:-8, 8:-8, 0] - red[8:-8, 8:-8]).max() < 1.5
    assert enlarge(picture(3, 300, 300), 80).shape == (80, 80, 3)


def test_the_one_call_has_the_command_lines_options_and_defaults():
    parser = argparse.ArgumentParser()
    add_options(parser)
    parameters = inspect.signature(keras_megan.upscale).parameters
    off = {"no_interpolation": "interpolation", "no_audio": "audio"}
    shown_only = {"help", "dry_run", "preview", "quiet", "json"}
    # Where texts and functions differ: None switches detection off, not an option.
    own = {"no_scene_detection", "scene_threshold"}
    for action in parser._actions:
        name = off.get(action.dest, action.dest)
        if name in shown_only | own:
            continue
        assert name in parameters, name
        default = parameters[name].default
        if action.dest in off:
            assert default is True and action.default is False
        elif name != "inputs":
            assert default == action.default, name
    assert "scene_threshold" in parameters
