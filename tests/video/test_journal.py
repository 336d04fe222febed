"""Finished work is kept, checked, and never used damaged or deleted unasked."""

import json
import shutil

import pytest

from keras_megan.video import upscale as job_module
from keras_megan.video.errors import VideoError
from keras_megan.video.jobs.journal import open_journal, work_folder
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.video.clips import Interrupted, PlainRunner, picture, read_images, write_clip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with an input, a whole result, and a job that stopped half-way."""
    folder = tmp_path_factory.mktemp("stopped")
    clip = write_clip(folder / "in.mp4", [picture(i) for i in range(75)])
    upscale(clip, folder / "whole.mp4", PlainRunner())
    output = folder / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        upscale(clip, output, Interrupted(20))
    assert len(list(work_folder(output).glob("segment_*.mp4"))) == 2
    return folder


@pytest.fixture
def begun(stopped, tmp_path):
    """(input, output, the bytes of a whole result); two segments are finished."""
    folder = tmp_path / "copy"
    shutil.copytree(stopped, folder)  # a job can be moved to another place
    return folder / "in.mp4", folder / "out.mp4", (folder / "whole.mp4").read_bytes()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def put_zeros(path):
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 500] = bytes(500)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("harm", [truncate, put_zeros, lambda path: path.unlink()])
@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_segment_is_made_again_and_named(begun, harm, number):
    clip, output, whole = begun
    harm(work_folder(output) / f"segment_{number:05d}.mp4")
    runner = PlainRunner()
    summary = upscale(clip, output, runner)
    assert summary.resumed_frames == 48 and runner.calls < 25
    assert output.read_bytes() == whole
    (note,) = [n for n in summary.notes if "made again" in n]
    assert f"segment_{number:05d}.mp4" in note


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', '{"job": 3}', '{"job": {}, "facts": []}', "[" * 9999]
)
def test_a_damaged_record_of_the_job_starts_over_and_says_so(begun, text):
    clip, output, whole = begun
    (work_folder(output) / "job.json").write_text(text)
    summary = upscale(clip, output, PlainRunner())
    assert summary.resumed_frames == 0 and output.read_bytes() == whole
    assert any("is damaged: starting over" in note for note in summary.notes)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"first": 0, "ticks": ["x"], "delay": 0, "checksum": 1}']
)
def test_a_damaged_record_of_a_segment_makes_it_again(begun, text):
    clip, output, whole = begun
    (work_folder(output) / "segment_00000.json").write_text(text)
    summary = upscale(clip, output, PlainRunner())
    assert summary.resumed_frames == 48 and output.read_bytes() == whole


def test_images_of_a_folder_are_checked_as_well(tmp_path):
    clip = write_clip(tmp_path / "in.mp4", [picture(i) for i in range(40)])
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        upscale(clip, output, Interrupted(12))
    image = work_folder(output) / "segment_00000" / "frame_000007.png"
    image.write_bytes(image.read_bytes()[:-20])
    summary = upscale(clip, output, PlainRunner())
    assert summary.resumed_frames == 0
    assert len(list(output.glob("*.png"))) == 79


def test_work_without_a_finished_segment_holds_nobody_up(tmp_path):
    output = tmp_path / "out.mp4"
    with open_journal(output, {"--crf": 1}) as journal:
        (journal.folder / "segment_00000.json").write_text("{}")
        (journal.folder / "segment_00000.json").unlink()
    with open_journal(output, {"--crf": 2}) as journal:
        record = json.loads((journal.folder / "job.json").read_text())
    assert record["job"] == {"--crf": 2}


def test_an_output_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "in.mp4", [picture(i) for i in range(30)])
    output = tmp_path / "out.mp4"
    join = job_module.join

    def slow(*arguments):
        join(*arguments)
        output.write_text("precious")

    monkeypatch.setattr(job_module, "join", slow)
    with pytest.raises(VideoError, match="appeared while"):
        upscale(clip, output, PlainRunner())
    assert output.read_text() == "precious"
    monkeypatch.undo()
    output.unlink()
    summary = upscale(clip, output, PlainRunner())
    assert summary.resumed_frames == 59  # nothing was lost
    assert len(read_images(output)) == 59


def test_names_as_long_as_the_disk_allows_have_a_work_folder(tmp_path, clip):
    output = tmp_path / ("o" * 250 + ".mp4")
    upscale(clip, output, PlainRunner(), UpscaleOptions())
    assert len(read_images(output)) == 21
