"""A visitor's page: clips in, clips out, as megan's own tool makes them."""

import json
import re
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from rich.console import Console

from export.build import make
from export.web.packages import VENDORED
from export.web.serve import HEADERS, PAGE_POLICY
from export.web.site import SiteSettings, build_site
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.models.runner import load_runner
from keras_megan.video.upscale import upscale
from tests.export.web import clips
from tests.export.web.conftest import SIDE

pytestmark = pytest.mark.slow

#: PSNR in dB that encoding leaves, at a quarter of the size: the untrained network
#: gives noise, most of whose colours 4:2:0 cannot hold.
SAVED = 25
WIDTH = 80  # two tiles side by side
LONG_FRAMES = 151
#: Frames that the page keeps to show them again; `KEPT` in player.js.
FRAMES_KEPT = 60
#: Pictures that mediabunny may have decoded ahead, and what waits for the encoder.
MOST_PICTURES = 64


# Seconds of work, but on a busy machine a browser waits for its many processes.
@pytest.mark.timeout(1500)
def test_the_page_does_what_it_says(small_network, tmp_path, visit, monkeypatch):
    # WebGPU is verified in test_browser.py, on a smaller size.
    monkeypatch.setitem(make.RUNTIMES_OF, "web", ("wasm",))
    site = tmp_path / "site"
    settings = SiteSettings(str(small_network), site, ((SIDE, SIDE),))
    build_site(settings, Console(quiet=True))
    check_folder(site)
    worker = site / "worker.js"
    watching = Path(__file__).with_name("watched_worker.js").read_text("utf-8")
    worker.write_text(watching + worker.read_text("utf-8"), "utf-8")
    good, long, huge = (tmp_path / f"{name}.mp4" for name in ("good", "long", "huge"))
    count = clips.good(good, WIDTH, SIDE)
    clips.long(long, LONG_FRAMES)
    clips.huge(huge, good)
    refused = clips.refused(tmp_path, good)
    job = {
        "good": str(good),
        "long": str(long),
        "huge": str(huge),
        "refused": list(refused),
        "frames": str(tmp_path / "frames"),
        "saved": str(tmp_path / "saved.mp4"),
    }
    seen = visit("visit.mjs", site, job)
    assert not seen["errors"] and not seen["problem"] and seen["isolated"]
    assert "WebAssembly" in seen["engine"] and "no WebGPU adapter" in seen["engine"]
    check_frames(seen, count, good, site, tmp_path)
    check_saved(good, Path(job["saved"]), count)
    check_playing(seen)
    check_refusals(seen, refused, count)
    check_long(seen)
    for pictures, frames in (("pictures", count), ("longPictures", LONG_FRAMES)):
        assert seen[pictures]["open"] == 0
        # Decoded once, and 2N-1 are encoded.
        assert seen[pictures]["all"] >= 3 * frames - 1
        assert seen[pictures]["most"] <= MOST_PICTURES


def check_folder(site):
    document = json.loads((site / "site.json").read_text("utf-8"))
    (model,) = document["models"]
    assert model["width"] == SIDE and model["largestErrors"]["wasm"] < 1e-3
    licences = (site / "vendor" / "LICENCES.txt").read_text("utf-8")
    for entry in VENDORED:
        assert f"{entry.package} {document['packages'][entry.package]}" in licences
    headers = (site / "_headers").read_text("utf-8")
    assert all(f"{name}: {value}" in headers for name, value in HEADERS.items())
    page = (site / "index.html").read_text("utf-8")
    assert f'content="{PAGE_POLICY}"' in page
    assert "://" not in page and "style=" not in page and "onclick" not in page
    for file in site.glob("*.js"):
        for name in re.findall(r"from '(.*?)'", file.read_text("utf-8")):
            assert (site / name).is_file(), f"{file.name} imports {name}"


def check_frames(seen, count, good, site, tmp_path):
    """The raw frames are those of the tool, with the same file."""
    frames = seen["frames"]
    assert [frame["index"] for frame in frames] == list(range(2 * count - 1))
    assert [frame["index"] for frame in frames if frame["held"]] == [13]
    (model,) = (site / "models").glob("*.tflite")
    upscale(good, tmp_path / "tool", load_runner(str(model)))
    made = [frame.image for frame in open_clip(tmp_path / "tool").frames()]
    assert len(made) == len(frames)
    saved = [frame.image for frame in open_clip(tmp_path / "saved.mp4").frames()]
    for frame, image, kept in zip(frames, made, saved, strict=True):
        raw = np.fromfile(tmp_path / "frames" / f"{frame['index']}.rgba", np.uint8)
        found = raw.reshape(frame["height"], frame["width"], 4)[..., :3]
        assert cv2.PSNR(found, image) >= 45, frame["index"]
        assert cv2.PSNR(quarter(found), quarter(kept)) >= SAVED, frame["index"]
        # Another matrix or range would move them by six levels or more.
        np.testing.assert_allclose(found.mean((0, 1)), kept.mean((0, 1)), atol=3)


def quarter(image):
    return cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)


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
    with av.open(str(saved)) as container:
        assert container.streams.video[0].sample_aspect_ratio == clips.PIXEL_ASPECT
    # Of frames in another order, files tell the last one's length in different ways.
    assert abs(info.end - open_clip(given).info.end) < Fraction(1, 50)
    before, after = (clips.packets(path, "audio") for path in (given, saved))
    assert [data for _, data in before] == [data for _, data in after]
    for (one, _), (other, _) in zip(before, after, strict=True):
        assert abs(one - other) < Fraction(1, 10_000)


def check_playing(seen):
    assert seen["ratio"] == pytest.approx(clips.PIXEL_ASPECT * WIDTH / SIDE, rel=0.01)
    assert seen["differenceAfter"] == 0 and seen["differenceBefore"] > 0
    assert seen["lineAtEnd"] == 100 and seen["lineMoved"] == pytest.approx(99.9)
    assert (seen["forth"], seen["back"]) == (2, 1)
    assert (seen["zoomed"], seen["unzoomed"]) == ("2x", "fit") and seen["moved"]
    assert seen["name"] == "good-megan.mp4"
    assert "1 scene cut held; saved as H.264" in seen["notes"]
    assert seen["widest"] <= 360


def check_refusals(seen, refused, count):
    """Each is one sentence, and the page goes on."""
    assert "does not encode H.264 at 320 x 224" in seen["fallback"]
    assert "saved as VP9" in seen["fallback"]
    sentences = seen["sentences"]
    for path, words in refused.items():
        assert words in sentences[path], path
    sentences |= {"room": seen["noRoom"], "memory": seen["noMemory"]}
    assert "no more room on the disk" in seen["noRoom"]
    assert "not enough memory" in seen["noMemory"]
    for sentence in sentences.values():
        assert "\n" not in sentence and sentence.endswith(".")
    # A file of 10 GB is read in pieces, like any other.
    assert seen["huge"] == {"frames": 2 * count - 1, "problem": ""}


def check_long(seen):
    assert seen["pauseButton"] == "Play" and seen["pausedState"] == "working"
    assert 60 <= seen["pausedAt"] == seen["stillAt"] < 2 * LONG_FRAMES - 1
    assert seen["longFrames"] == 2 * LONG_FRAMES - 1 and not seen["longProblem"]
    at, speed, left, runs, memory, size = seen["facts"]
    assert re.fullmatch(r"\d+ at \d\.\d\d s", at) and speed.endswith(" frames/s")
    assert re.fullmatch(r"\d+:\d\d", left) and runs.startswith("WebAssembly")
    assert memory.endswith(" MB") and size.split() == "32 × 32 to 128 × 128".split()
    then, later = seen["memoryThen"], seen["memoryLater"]
    assert then["workers"] == later["workers"] == 1
    assert 0 < later["heaps"] < 1.2 * then["heaps"]
    assert 0 < later["runtime"] < 1.2 * then["runtime"]
    # Before and after of the last frames, which can be shown again.
    assert later["bitmaps"] <= 2 * FRAMES_KEPT
