"""Files appear complete or not at all."""

import json

import pytest

from keras_megan.files import appearing, write_json, write_whole


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "report.json"
    write_whole(path, "old")
    with appearing(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
        assert aside.suffix == ".json"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "weights.h5"
    write_whole(path, b"old")
    with pytest.raises(OSError, match="full"), appearing(path) as aside:
        aside.write_bytes(b"ha")
        raise OSError("full")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_the_one_before(tmp_path):
    path = tmp_path / "model"
    for name in ("first", "second"):
        with appearing(path) as aside:
            (aside / "inner").mkdir(parents=True)
            (aside / "inner" / name).write_text(name)
    assert [file.name for file in path.rglob("*") if file.is_file()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_program_left_is_no_obstacle(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(KeyboardInterrupt), appearing(path) as aside:
        left = aside
        raise KeyboardInterrupt
    left.write_text("half of it")
    write_whole(path, "whole")
    assert path.read_text() == "whole" and not left.exists()


def test_json_refuses_what_is_not_a_number(tmp_path):
    path = tmp_path / "scores.json"
    write_json(path, {"psnr": 30.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"psnr": float("nan")})
    assert json.loads(path.read_text()) == {"psnr": 30.5}
