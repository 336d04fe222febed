"""The `megan` command as its user meets it: lines, exit codes, files; kill -9 as well.

A tiny `.keras` model of built-in layers stands in for the network, so the whole way
from the command line to the file is the real one.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keras_megan.cli.commands import COMMANDS
from keras_megan.cli.main import build_parser, main
from keras_megan.video.io.writing import codecs
from tests.video.clips import picture, read_images, read_times, write_clip

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
COMMAND = [sys.executable, "-m", "keras_megan"]


def megan(*arguments):
    return main([str(argument) for argument in arguments])


def test_upscale_makes_the_file_and_says_what_it_did(tmp_path, clip, model, capsys):
    output = tmp_path / "out.mp4"
    assert megan("upscale", clip, "-o", output, "--model", model) == 0
    images = read_images(output)
    assert len(images) == 11 and images[0].shape == (96, 128, 3)
    assert np.abs(np.int16(images[0][::4, ::4]) - picture(0)).mean() < 4
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "6 -> 11 frames of 128x96" in line and str(output) in line


def test_json_prints_one_object_a_line(tmp_path, clip, model, capsys):
    arguments = ["upscale", clip, "-o", tmp_path / "out.mkv", "--model", model]
    assert megan(*arguments, "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0] == {"event": "begin", "frames": 11, "finished": 0}
    assert events[-1]["event"] == "done" and events[-1]["frames_out"] == 11


def test_an_existing_output_is_kept_unless_forced(tmp_path, clip, model, capsys):
    output = tmp_path / "out.mp4"
    output.write_text("precious")
    assert megan("upscale", clip, "-o", output, "--model", model) == 1
    assert output.read_text() == "precious"
    assert "--force" in capsys.readouterr().err
    assert megan("upscale", clip, "-o", output, "--model", model, "--force") == 0
    assert len(read_images(output)) == 11


FAILURES = {
    "missing input": (["nowhere.mp4", "-o", "out.mp4"], "no such file"),
    "output is input": (["clip.mp4", "-o", "clip.mp4"], "is the input"),
    "no folder": (["clip.mp4", "-o", "no/where/out.mp4"], "no folder"),
    "unknown ending": (["clip.mp4", "-o", "out.docx"], "unknown ending '.docx'"),
    "unknown codec": (["clip.mp4", "-o", "o.mp4", "--codec", "vhs"], "Unknown codec"),
    "codec and ending": (["clip.mp4", "-o", "o.webm", "--codec", "h264"], "hold h264"),
    "quality": (["clip.mp4", "-o", "o.mp4", "--crf", "99"], "0 to 51"),
    "end before start": (
        ["clip.mp4", "-o", "o.mp4", "--start", "2", "--end", "1"],
        "after --start",
    ),
    "nothing there": (
        ["clip.mp4", "-o", "o.mp4", "--start", "0:10", "--end", "0:20"],
        "no frame between",
    ),
    "two wills": (
        [*"clip.mp4 -o o.mp4 --scene-threshold 9 --no-scene-detection".split()],
        "exclude each other",
    ),
    "small tile": (["clip.mp4", "-o", "o.mp4", "--tile", "10"], "at least 52"),
    "text as video": (["notes.txt", "-o", "out.mp4"], "not a video"),
    "long input": ([f"{300 * 'a'}.mp4", "-o", "out.mp4"], "name is too long"),
    "long output": (["clip.mp4", "-o", f"{300 * 'a'}.mp4"], "name is too long"),
    "long folder": (["clip.mp4", "-o", f"{300 * 'a'}/"], "name is too long"),
    "long model": (["clip.mp4", "--model", 300 * "a"], "name is too long"),
    "no model": (["clip.mp4", "-o", "o.mp4", "--model", "x.keras"], "no such file"),
    "strange model": (
        ["clip.mp4", "-o", "o.mp4", "--model", "notes.txt"],
        "known file",
    ),
    "damaged model": (
        ["clip.mp4", "-o", "o.mp4", "--model", "broken.keras"],
        "Cannot load the model",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_one_line_and_leave_nothing_behind(
    name, tmp_path, clip, model, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("dear diary\n" * 100)
    Path("broken.keras").write_bytes(b"PK" + bytes(500))
    arguments, words = FAILURES[name]
    if "--model" not in arguments:
        arguments = [*arguments, "--model", str(model)]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert megan("upscale", *arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("megan: ")
    assert words in lines[0]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_unknown_preset_suggests_near_names(tmp_path, clip, capsys):
    output = tmp_path / "o.mp4"
    assert megan("upscale", clip, "-o", output, "--model", "megan_egde") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Did you mean megan_edge" in line


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write")
def test_a_folder_without_permission_is_named(tmp_path, clip, model, capsys):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert megan("upscale", clip, "-o", locked / "o.mp4", "--model", model) == 1
    assert "permission denied" in capsys.readouterr().err


def test_a_folder_that_holds_other_things_is_never_replaced(
    tmp_path, clip, model, capsys
):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "letter.txt").write_text("precious")
    assert megan("upscale", clip, "-o", folder, "--model", model, "--force") == 1
    assert "letter.txt" in capsys.readouterr().err
    assert (folder / "letter.txt").read_text() == "precious"


# === In a process of its own ===


def start(*arguments, **options):
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    images = [picture(i, 60, 80) for i in range(241)]
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return write_clip(path, images, sound=9.64)


def wait_for_a_segment(process, folder):
    """Waits until the first segment is recorded."""
    deadline = time.monotonic() + 300
    while not list(folder.glob(".out.mp4.megan/segment_*.json")):
        if process.poll() is not None:
            pytest.fail(f"the job ended early: {process.communicate()}")
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail("no segment was finished")
        time.sleep(0.01)


def test_killed_at_random_moments_it_continues_to_the_same_result(
    tmp_path, long_clip, model
):
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    assert megan("upscale", long_clip, "-o", whole, "--model", model) == 0
    generator = np.random.default_rng(int.from_bytes(os.urandom(4)))
    arguments = ["upscale", long_clip, "-o", output, "--model", model, "--json"]
    process = start(*arguments)
    wait_for_a_segment(process, tmp_path)
    time.sleep(generator.uniform(0, 0.5))
    process.kill()  # SIGKILL: no time for a last word
    process.communicate()
    if not output.exists():  # killed before the end, as nearly always
        process = start(*arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        done = json.loads(out.splitlines()[-1])
        assert done["resumed_frames"] >= 48
    assert len(read_times(output)) == 481
    assert output.read_bytes() == whole.read_bytes()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["out.mp4", "whole.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="has other signals")
def test_control_c_ends_with_130_and_says_how_to_continue(tmp_path, long_clip, model):
    def heed_control_c():
        # Shells let what they start in the background ignore it, these tests too.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    output = tmp_path / "out.mp4"
    arguments = ["upscale", long_clip, "-o", output, "--model", model]
    process = start(*arguments, preexec_fn=heed_control_c)
    wait_for_a_segment(process, tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Run the same command again to continue" in err.splitlines()[-1]
    assert not output.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs process limits")
def test_a_disk_that_fills_up_is_one_line_and_no_output(tmp_path, clip, model):
    import resource

    def limit():  # the kernel then fails writes beyond 4 KiB, as a full disk would
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    process = start(
        "upscale", clip, "-o", tmp_path / "out.mp4", "--model", model, preexec_fn=limit
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("megan: Cannot write") and "size limit" in last
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


# === The other commands ===


def test_info_describes_a_video(tmp_path, clip, capsys):
    assert megan("info", clip, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["size"] == "32x24" and facts["frames"] == 6
    assert facts["scene cuts at"] == [] and facts["variable rate"] == "no"
    assert facts["sound"] == ["aac 48000 Hz"]
    assert megan("info", clip) == 0
    assert "32x24" in capsys.readouterr().out


def test_info_describes_a_model(model, capsys):
    assert megan("info", model, "--size", "32x24", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["output"] == "(batch, 7, 96, 128, 3)"
    assert facts["parameters"] == "27"


def test_compare_writes_a_picture(tmp_path, clip, capsys):
    import cv2

    output = tmp_path / "strip.png"
    assert megan("compare", clip, clip, "-o", output) == 0
    assert cv2.imread(str(output)).shape[1] > 1000
    assert megan("compare", clip, clip, "-o", output) == 1
    assert "exists" in capsys.readouterr().err


def test_demo_makes_its_three_files_and_says_where(tmp_path, model, capsys):
    folder = tmp_path / "demo"
    assert megan("demo", "-o", folder, "--model", model, "--frames", "3") == 0
    assert sorted(p.name for p in folder.iterdir()) == [
        "input.mp4",
        "output.mp4",
        "strip.png",
    ]
    assert len(read_images(folder / "output.mp4")) == 5
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 3 and str(folder / "strip.png") in lines[2]


def test_help_names_every_command_and_every_codec(capsys):
    with pytest.raises(SystemExit) as ended:
        megan("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    with pytest.raises(SystemExit):
        megan("upscale", "--help")
    text = capsys.readouterr().out
    assert all(name in text for name in codecs.CODECS)


def test_the_manual_describes_every_option():
    manual = Path(__file__).parents[2] / "docs" / "upscale.md"
    text = manual.read_text(encoding="utf-8")
    parser = build_parser()
    (commands,) = (
        action
        for action in parser._actions
        if hasattr(action, "choices") and isinstance(action.choices, dict)
    )
    options = {
        option
        for sub in commands.choices.values()
        for action in sub._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    assert {option for option in options if f"`{option}" not in text} == set()


@pytest.mark.parametrize("text", ["abc", "-1", "1:2:x", "1/0"])
def test_times_that_are_none_end_with_2(text, capsys):
    with pytest.raises(SystemExit) as ended:
        megan("upscale", "a.mp4", "-o", "b.mp4", f"--start={text}")
    assert ended.value.code == 2
    assert "expected seconds" in capsys.readouterr().err
