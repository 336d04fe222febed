"""Files in a real browser: what is right passes, what is wrong is found."""

import json

import numpy as np
import pytest
from rich.console import Console

import export.convert as program
from export.build.flatbuffer import read_graph
from export.build.settings import Settings
from export.errors import ExportError
from export.verify.browser import run_in_browser
from export.verify.compare import check_in_browser
from export.verify.runtime import run_on_cpu
from export.web import chromium
from export.web.chromium import BrowserError, run_in_chromium
from tests.export.traps import CASES

pytestmark = pytest.mark.slow

SUM = CASES["a sum of 25"]


def written(flatbuffer, folder):
    path = folder / "graph.tflite"
    path.write_bytes(flatbuffer)
    shape = read_graph(path).inputs[0].shape
    rng = np.random.default_rng(0)
    return path, [rng.normal(size=shape).astype("float32") for _ in range(3)]


def test_a_sum_of_many_products_is_wrong_on_webgpu_and_found(tmp_path):
    path, windows = written(SUM.trap(), tmp_path)
    outputs, check = check_in_browser(path, windows, "webgpu")
    assert outputs is None and check.status == "failed"
    assert "sampled textures" in check.message


def test_the_same_sum_in_groups_is_right_in_every_window(tmp_path):
    path, windows = written(SUM.clean[1](), tmp_path)
    run = run_in_browser(path, windows, "webgpu")
    assert (run.status, run.console) == ("done", ()), run.message
    assert run.fully_accelerated and len(run.outputs) == 3
    for window, output in zip(windows, run.outputs, strict=True):
        (wanted,) = run_on_cpu(path, [window])
        np.testing.assert_allclose(output, wanted, atol=1e-3 * np.abs(wanted).max())


def test_one_file_serves_mobile_gpus_and_browsers(small_network, tmp_path, vulkan):
    settings = Settings(
        model=str(small_network),
        out=tmp_path,
        formats=("tflite",),
        height=16,
        width=24,
        precisions=("fp32",),
        targets=("gpu", "web"),
    )
    program.export(settings, Console(quiet=True))
    (row,) = json.loads((tmp_path / "report.json").read_text())["artefacts"]
    assert row["file"] == "small_24x16_gpu_fp32.tflite" and row["published"]
    checks = {check["runtime"]: check for check in row["checks"]}
    assert list(checks) == ["gpu", "cpu", "webgpu", "wasm"]
    for check in checks.values():
        assert check["status"] == "passed" and check["largest_error"] < 1e-3
    assert checks["webgpu"]["fully_accelerated"] and not row["findings"]


def test_a_program_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(chromium, "_MARGIN", 0.0)
    endless = tmp_path / "endless.mjs"
    endless.write_text("setInterval(() => {}, 1000);\n")
    with pytest.raises(BrowserError, match="no result within 0.5 seconds"):
        run_in_chromium(endless, {}, seconds=0.5)


def test_a_failure_in_the_browser_is_one_line(tmp_path):
    path = tmp_path / "bad.mjs"
    path.write_text("console.error('failed: it broke'); process.exit(3);\n")
    with pytest.raises(BrowserError, match=r"^it broke \(status 3\)$"):
        run_in_chromium(path, {}, seconds=20)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"windows": 2}, "at least 3 windows; received --windows 2"),
        ({"precisions": ("fp16",)}, "no file of fp16"),
        ({"interfaces": ("uint8",)}, "uint8 at its ends for web"),
    ],
)
def test_settings_that_browsers_do_not_take(tmp_path, changes, line):
    known = {"formats": ("tflite",), "precisions": ("fp32",), "targets": ("web",)}
    with pytest.raises(ExportError, match=line):
        Settings(model="m", out=tmp_path, **known | changes)
