"""What the page runs the network on: GPUs that are right, wrong, or not there."""

import json
import shutil

import numpy as np
import pytest

from export.build.flatbuffer import read_graph
from export.verify.runtime import run_on_cpu
from export.web.packages import HERE, copy_vendored, installed_packages
from tests.export.traps import CASES

pytestmark = pytest.mark.slow

STRIDE = 7


def model(folder, name, flatbuffer):
    """Writes a network and its known answer -> what site.json says of it."""
    path = folder / f"{name}.tflite"
    path.write_bytes(flatbuffer)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, read_graph(path).inputs[0].shape, np.uint8)
    (answer,) = run_on_cpu(path, [pixels.astype(np.float32) / np.float32(255)])
    pixels.tofile(folder / f"{name}.input")
    answer.ravel()[::STRIDE].astype("<f4").tofile(folder / f"{name}.answer")
    known = {"input": f"{name}.input", "answer": f"{name}.answer", "stride": STRIDE}
    return {"file": path.name, "width": 8, "height": 8, "scale": 4, "check": known}


@pytest.mark.timeout(600)
def test_the_page_takes_what_computes_rightly(tmp_path, visit):
    site = tmp_path / "site"
    shutil.copytree(HERE / "page", site)
    copy_vendored(installed_packages(), site / "vendor")
    (site / "site.json").write_text(json.dumps({"name": "sum", "samples": []}), "utf-8")
    case = CASES["a sum of 25"]
    right = model(site, "right", case.clean[1]())
    trap = model(site, "trap", case.trap())
    seen = visit("accelerators.mjs", site, {"right": right, "trap": trap})
    assert not any(page["problem"] for page in seen.values())
    assert "your GPU by WebGPU" in seen["right"]["engine"]
    assert seen["right"]["accelerator"] == "webgpu" and seen["right"]["asked"] == 1
    for name, why in (
        ("trap", "sampled textures"),
        ("silent", "came out wrong by 0.5"),
    ):
        page = seen[name]
        assert page["accelerator"] == "wasm" and page["asked"] == 2
        assert "WebGPU is not used: " in page["engine"] and why in page["engine"]
        assert "threads" in page["engine"] and not page["notes"]
    assert seen["alone"]["accelerator"] == "wasm"
    assert "one thread" in seen["alone"]["engine"]
    assert "headers that share memory" in seen["alone"]["notes"]
    assert "no WebCodecs" in seen["codecless"]["notes"]
    assert "cannot run the page" in seen["codecless"]["engine"]
