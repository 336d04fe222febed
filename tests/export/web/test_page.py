"""A visitor's page: clips in, clips out, as megan's own tool makes them."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from export.build import make
from export.web.chromium import run_in_chromium
from export.web.packages import HERE, VENDORED
from export.web.serve import HEADERS, serving
from export.web.site import SiteSettings, build_site
from keras_megan.video.io.read import open_clip
from keras_megan.video.models.runner import load_runner
from keras_megan.video.upscale import upscale
from tests.export.web import clips
from tests.export.web.conftest import SIDE

WIDTH = 80  # two tiles side by side
LONG_FRAMES = 151


def visit(program, site, job, tmp_path, monkeypatch):
    """Runs a visit; returns what there was to see."""
    monkeypatch.setenv("MEGAN_BROWSER", str(HERE / "browser"))
    seen = tmp_path / f"{program}.json"
    with serving(site) as address:
        wanted = {"address": address, "seen": str(seen), **job}
        run_in_chromium(Path(__file__).with_name(program), wanted, 600)
    return json.loads(seen.read_text("utf-8"))


# Seconds of work, but on a busy machine a browser waits for its many processes.
@pytest.mark.timeout(1500)
def test_the_page_does_what_it_says(small_network, tmp_path, monkeypatch):
    # WebGPU is verified in test_browser.py, on a smaller size.
    monkeypatch.setitem(make.RUNTIMES_OF, "web", ("wasm",))
    site = tmp_path / "site"
    settings = SiteSettings(str(small_network), site, ((SIDE, SIDE),))
    build_site(settings, Console(quiet=True))
    check_folder(site)
    good, long = tmp_path / "good.mp4", tmp_path / "long.mp4"
    count = clips.good(good, WIDTH, SIDE)
    clips.long(long, LONG_FRAMES)
    broken = clips.broken(tmp_path, good)
    job = {
        "good": str(good),
        "long": str(long),
        "broken": list(broken),
        "frames": str(tmp_path / "frames"),
        "saved": str(tmp_path / "saved.mp4"),
    }
    seen = visit("visit.mjs", site, job, tmp_path, monkeypatch)
    assert not seen["errors"] and not seen["problem"] and seen["isolated"]
    assert "WebAssembly" in seen["engine"] and "no WebGPU adapter" in seen["engine"]
    check_frames(seen, count, good, site, tmp_path)
    check_saved(good, Path(job["saved"]), count)
    check_playing(seen)
    for path, words in broken.items():
        sentence = seen["sentences"][path]
        assert words in sentence and "\n" not in sentence and sentence.endswith(".")
    check_long(seen)
    # With a GPU whose answer is not the known one, the processor takes over.
    seen = visit("distrust.mjs", site, {}, tmp_path, monkeypatch)
    assert seen["asked"] == 2 and not seen["problem"]
    assert seen["accelerator"] == "wasm" and "out wrong by 0.5" in seen["engine"]


def check_folder(site):
    document = json.loads((site / "site.json").read_text("utf-8"))
    assert [m["width"] for m in document["models"]] == [SIDE]
    licences = (site / "vendor" / "LICENCES.txt").read_text("utf-8")
    for entry in VENDORED:
        assert f"{entry.package} {document['packages'][entry.package]}" in licences
    headers = (site / "_headers").read_text("utf-8")
    assert all(f"{name}: {value}" in headers for name, value in HEADERS.items())
    page = (site / "index.html").read_text("utf-8")
    assert "http" not in page and "style=" not in page and "onclick" not in page


def check_frames(seen, count, good, site, tmp_path):
    """The raw frames are those of the tool, with the same file."""
    frames = seen["frames"]
    assert [frame["index"] for frame in frames] == list(range(2 * count - 1))
    assert [frame["index"] for frame in frames if frame["held"]] == [13]
    (model,) = (site / "models").glob("*.tflite")
    upscale(good, tmp_path / "tool", load_runner(str(model)))
    made = [frame.image for frame in open_clip(tmp_path / "tool").frames()]
    assert len(made) == len(frames)
    for frame, image in zip(frames, made, strict=True):
        raw = np.fromfile(tmp_path / "frames" / f"{frame['index']}.rgba", np.uint8)
        found = raw.reshape(frame["height"], frame["width"], 4)[..., :3]
        assert cv2.PSNR(found, image) >= 45, frame["index"]


def check_saved(given, saved, count):
    """The MP4 has every frame at its moment, and the same sound."""
    times = sorted(time for time, _ in clips.packets(given, "video"))
    wanted = []
    for time, after in zip(times, times[1:], strict=False):
        wanted += [time, (time + after) / 2]
    wanted.append(times[-1])
    found = sorted(time for time, _ in clips.packets(saved, "video"))
    assert found == wanted and len(found) == 2 * count - 1
    assert any(time.denominator > 1000 for time in found)  # uneven indeed
    info = open_clip(saved).info
    assert (info.width, info.height) == (4 * WIDTH, 4 * SIDE)
    # Of frames in another order, files tell the last one's length in different ways.
    assert abs(info.end - open_clip(given).info.end) < Fraction(1, 50)
    assert len(list(open_clip(saved).frames())) == 2 * count - 1
    before, after = (clips.packets(path, "audio") for path in (given, saved))
    assert [data for _, data in before] == [data for _, data in after]
    for (one, _), (other, _) in zip(before, after, strict=True):
        assert abs(one - other) < Fraction(1, 10_000)


def check_playing(seen):
    assert seen["differenceAfter"] == 0 and seen["differenceBefore"] > 0
    assert seen["lineAtEnd"] == 100 and seen["lineMoved"] == pytest.approx(99.9)
    assert (seen["back"], seen["forth"]) == (-1, 0)
    assert (seen["zoomed"], seen["unzoomed"]) == ("2x", "fit")
    assert seen["name"] == "good-megan.mp4"


def check_long(seen):
    assert seen["pauseButton"] == "Play" and seen["pausedState"] == "working"
    assert seen["pausedAt"] == seen["stillAt"] < 2 * LONG_FRAMES - 1
    assert seen["longFrames"] == 2 * LONG_FRAMES - 1 and not seen["longProblem"]
    assert seen["bytesLater"] < 1.2 * seen["bytesThen"]
