"""Odd names, places and kinds of files: one clear line, or simply right."""

import os
from fractions import Fraction

import cv2
import numpy as np
import pytest

from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.video.clips import (
    PlainRunner,
    picture,
    read_images,
    read_times,
    write_clip,
)


@pytest.mark.parametrize("name", ["a:b.mp4", "file:x.mp4", "100%d.mp4", "-x.mp4"])
def test_names_are_names_and_not_addresses(tmp_path, monkeypatch, clip, name):
    monkeypatch.chdir(tmp_path)
    clip.rename(tmp_path / name)
    upscale(name, "out:" + name, PlainRunner())
    assert len(list(open_clip("out:" + name).frames())) == 21
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "out:" + name])


@pytest.mark.parametrize("place", ["in", "out"])
def test_standard_input_and_output_are_refused(tmp_path, clip, place, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("-", "out.mp4") if place == "in" else (clip, "-")
    with pytest.raises(VideoError, match="standard input or output"):
        upscale(*names, PlainRunner())
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_pipe_is_called_a_pipe(tmp_path, clip):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="it is a pipe"):
        open_clip(tmp_path / "pipe.mp4")
    options = UpscaleOptions(force=True)
    with pytest.raises(VideoError, match="is a pipe or a device"):
        upscale(clip, tmp_path / "pipe.mp4", PlainRunner(), options)


@pytest.mark.parametrize("place", ["in", "out"])
def test_names_that_are_too_long_are_one_line(tmp_path, clip, place):
    long = tmp_path / ("n" * 300 + ".mp4")
    names = (long, tmp_path / "o.mp4") if place == "in" else (clip, long)
    with pytest.raises(VideoError, match="name is too long"):
        upscale(*names, PlainRunner())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read")
def test_a_folder_that_may_not_be_read_is_one_line(tmp_path, clip):
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "0.png").write_bytes(b"")
    locked.chmod(0)
    try:
        with pytest.raises(VideoError, match="permission denied"):
            upscale(locked, tmp_path / "o.mp4", PlainRunner())
        with pytest.raises(VideoError, match="permission denied"):
            upscale(locked / "in.mp4", tmp_path / "o.mp4", PlainRunner())
    finally:
        locked.chmod(0o700)


def test_an_error_of_the_system_about_a_folder_is_one_line(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(folder), "iterdir", refuse)
    with pytest.raises(VideoError, match="permission denied"):
        open_clip(folder)


def write_images(folder, names):
    folder.mkdir()
    for index, name in enumerate(names):
        image = picture(index)[..., ::-1]
        assert cv2.imwrite(str(folder / name), image)


def test_hidden_files_are_no_images(tmp_path):
    folder = tmp_path / "images"
    write_images(folder, [f"f_{i:03d}.png" for i in range(3)])
    (folder / ".f_000.png").write_bytes(b"thumbnail")
    (folder / "._f_001.png").write_bytes(b"resource fork")
    clip = open_clip(folder)
    assert clip.info.num_frames == 3 and clip.info.notes == ()
    assert len(list(clip.frames())) == 3


def test_gaps_in_numbering_are_said(tmp_path):
    write_images(tmp_path / "a", ["f_1.png", "f_2.png", "f_5.png"])
    (note,) = open_clip(tmp_path / "a").info.notes
    assert "after 'f_2.png' comes 'f_5.png'" in note
    write_images(tmp_path / "b", ["f_10.png", "f_20.png", "f_30.png"])
    write_images(tmp_path / "c", ["sun.png", "moon.png", "2 stars.png"])
    assert open_clip(tmp_path / "b").info.notes == ()
    assert open_clip(tmp_path / "c").info.notes == ()


def test_transparency_of_images_is_said_to_be_lost(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    image = np.dstack([picture(0), np.full((24, 32), 128, np.uint8)])
    assert cv2.imwrite(str(folder / "0.png"), image)
    summary = upscale(folder, tmp_path / "out", PlainRunner())
    assert any("transparency" in note for note in summary.notes)


def test_a_rate_for_a_video_is_refused(tmp_path, clip):
    with pytest.raises(VideoError, match="--rate is for folders"):
        upscale(
            clip, tmp_path / "o.mp4", PlainRunner(), UpscaleOptions(rate=Fraction(30))
        )


def test_a_reader_that_has_gone_is_not_a_failure_of_the_file(tmp_path, clip):
    class Gone:
        def begin(self, total, done): ...
        def note(self, line): ...

        def advance(self):
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        upscale(clip, tmp_path / "o.mp4", PlainRunner(), reporter=Gone())


def test_tags_that_are_no_text_do_not_end_the_job(tmp_path):
    path = write_clip(
        tmp_path / "in.mp4",
        [picture(i) for i in range(4)],
        prepare=lambda container, stream: container.metadata.update(title="AAAA" * 4),
    )
    data = path.read_bytes()
    assert b"AAAA" * 4 in data
    path.write_bytes(data.replace(b"AAAA" * 4, b"\xff\xfe\x80\x81" * 4))
    upscale(path, tmp_path / "out.mp4", PlainRunner())
    assert len(read_images(tmp_path / "out.mp4")) == 7


def test_a_folder_of_images_becomes_a_video(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(6):
        cv2.imwrite(str(folder / f"{index}.png"), picture(index)[..., ::-1])
    output = tmp_path / "out.mp4"
    options = UpscaleOptions(rate=Fraction(10))
    summary = upscale(folder, output, PlainRunner(), options)
    assert (summary.frames_out, summary.notes) == (11, [])
    assert read_times(output) == [Fraction(k, 20) for k in range(11)]
    assert np.abs(np.int16(read_images(output)[0][::4, ::4]) - picture(0)).mean() < 4
