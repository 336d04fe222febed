"""Each cell of our column in the manual's table of features is true, and tried."""

from fractions import Fraction
from pathlib import Path

import pytest

import keras_megan
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.io.writing.codecs import CODECS
from keras_megan.video.io.writing.encoders import HARDWARE, tune
from tests.networks import plain_network
from tests.video.clips import PlainRunner, picture, read_times, write_clip
from tests.video.request.test_rate import BlendRunner

ROOT = Path(__file__).parents[2]


def our_column():
    """Feature -> what the manual says of megan."""
    text = (ROOT / "docs" / "upscale.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    (head,) = (index for index, row in enumerate(rows) if row.startswith("| | megan |"))
    cells = [[c.strip() for c in row.strip("|").split("|")] for row in rows[head + 1 :]]
    table = {}
    for row in cells:
        table[row[0]] = row[1]
        if row[0] == "licence":
            return table
    raise AssertionError("the table ends with the licence")


@pytest.fixture
def source(tmp_path):
    ticks = [0, 512, 900, 1800, 2048]
    return write_clip(tmp_path / "in.mp4", [picture(i) for i in range(5)], times=ticks)


def any_rate(source, folder):
    fps = Fraction(60000, 1001)
    keras_megan.upscale(source, folder / "a.mp4", model=BlendRunner(), fps=fps)
    times = read_times(folder / "a.mp4")
    return "yes" if times == [k / fps for k in range(len(times))] else "-"


def any_size(source, folder):
    for asked, size in (({"size": "100x76", "fit": True}, "100x76"), ({}, "128x96")):
        made = keras_megan.upscale(
            source, folder / f"{size}.mp4", model=PlainRunner(), **asked
        )
        assert f"{made.width}x{made.height}" in (size, "100x74")
    return "to x4"


def one_half(source, folder):
    alone = keras_megan.upscale(source, folder / "i.mp4", model=PlainRunner(), scale=1)
    larger = keras_megan.upscale(
        source, folder / "s.mp4", model=PlainRunner(), interpolation=False
    )
    return "yes" if (alone.width, larger.frames_out) == (32, 5) else "-"


class CrashError(Exception):
    """What a test's network dies of."""


class Dying(PlainRunner):
    """Dies at its 20th call."""

    def __call__(self, frames):
        if self.calls == 20:
            raise CrashError
        return super().__call__(frames)


def continues(source, folder):
    long = write_clip(folder / "long.mp4", [picture(i) for i in range(70)])
    with pytest.raises(CrashError):
        keras_megan.upscale(long, folder / "c.mp4", model=Dying())
    again = keras_megan.upscale(long, folder / "c.mp4", model=PlainRunner())
    keras_megan.upscale(long, folder / "whole.mp4", model=PlainRunner())
    same = (folder / "c.mp4").read_bytes() == (folder / "whole.mp4").read_bytes()
    return "yes" if same and again.resumed_frames >= 48 else "-"


def variable_rate(source, folder):
    keras_megan.upscale(source, folder / "v.mp4", model=PlainRunner())
    return "exact" if read_times(folder / "v.mp4")[::2] == read_times(source) else "-"


def folders(source, folder):
    outcomes = keras_megan.upscale(
        [source.parent, str(source.parent / "*.mp4")],
        folder / "all",
        model=PlainRunner(),
    )
    return "yes" if len(outcomes) == 1 and outcomes[0].summary else "-"


def dry_run(source, folder):
    from keras_megan.video.request.estimate import estimate
    from keras_megan.video.upscale import UpscaleOptions, check_job

    job = check_job(source, folder / "d.mp4", UpscaleOptions())
    found = estimate(job, PlainRunner())
    known = found.seconds > 0 and found.size > 0 and found.frames_out == 9
    return "yes" if known and not (folder / "d.mp4").exists() else "-"


def deep(source, folder):
    deep_source = write_clip(
        folder / "deep.mkv",
        [picture(i) for i in range(4)],
        codec="libx265",
        pixel_format="yuv420p10le",
        options={"x265-params": "log-level=none"},
    )
    keras_megan.upscale(
        deep_source, folder / "deep.megan.mkv", model=PlainRunner(), codec="h265"
    )
    made = open_clip(folder / "deep.megan.mkv").info.pixel_format
    return "10 bits" if made == "yuv420p10le" else "-"


def hardware(source, folder):
    for family in HARDWARE:
        codec, notes = tune(CODECS["h264"], family)
        assert codec.encoder.endswith(family) or notes
    return "yes"


def without_gpu(source, folder):
    import keras

    with keras.device("cpu:0"):
        made = keras_megan.upscale(
            source, folder / "cpu.mp4", model=plain_network(3, 2)
        )
    return "yes" if made.frames_out == 9 else "-"


def python_call(source, folder):
    return "yes" if keras_megan.upscale.__module__ == "keras_megan.video.api" else "-"


def window(source, folder):
    toolkits = ("tkinter", "PyQt", "PySide", "gradio", "wx")
    files = (ROOT / "keras_megan").rglob("*.py")
    texts = [file.read_text(encoding="utf-8") for file in files]
    imported = any(f"import {kit}" in text for text in texts for kit in toolkits)
    return "yes" if imported else "-"


def licence(source, folder):
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    return "Apache-2.0" if "Apache License" in text and "2.0" in text else "-"


TRIED = {
    "any output rate": any_rate,
    "any output size": any_size,
    "one half alone": one_half,
    "continues after a crash": continues,
    "variable frame rate": variable_rate,
    "folders and patterns": folders,
    "dry run with time and size": dry_run,
    "10 bits and HDR": deep,
    "hardware encoders": hardware,
    "without a GPU": without_gpu,
    "Python call": python_call,
    "window to click in": window,
    "licence": licence,
}


def test_every_row_is_tried():
    assert list(our_column()) == list(TRIED)


@pytest.mark.parametrize("feature", TRIED)
def test_what_the_manual_says_of_megan_is_so(feature, source, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    assert TRIED[feature](source, folder) == our_column()[feature]
