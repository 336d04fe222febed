"""Runs a TFLite file in a real browser, as the web page does.

    path, windows, "webgpu" or "wasm" -> run_in_browser -> BrowserRun

Headless Chromium runs it on LiteRT.js: on WebGPU (SwiftShader computes it where there
is no GPU) or as WebAssembly. LiteRT.js reports no failure when a shader is not valid:
it says so on the console, and the output is wrong. So what is said there is part of the
result. All windows run one after another on one compiled model, because some faults
show in the first run only, and others in every run but the first.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.build.flatbuffer import read_graph
from export.web.chromium import (
    NO_BROWSER,
    BrowserError,
    find_chromium,
    run_in_chromium,
)
from export.web.packages import HERE, copy_vendored, installed_packages
from export.web.serve import serving

#: Seconds that a file may take, compiling and all windows included. Where a busy CPU
#: computes WebGPU, 900 can be too few for three windows of a tile of 168x96.
TIMEOUT = 5400.0
#: Files that make the smallest page that can run a model.
_PAGE = (
    "browser/blank.html",
    "browser/model_worker.js",
    "page/engine.js",
    "page/icon.svg",
)
#: What LiteRT.js prints to the console's errors when nothing is wrong.
_HARMLESS = re.compile(
    r"INFO: |WARNING: .* NPU accelerator could not be loaded"
    r"|Failed to create default WebGPU device"
)


@dataclass(frozen=True)
class BrowserRun:
    """What became of one file in the browser.

    Attributes:
        status: "done", "no browser" or "failed".
        outputs: float32, one for each window; empty unless done.
        fully_accelerated: As LiteRT.js reports it.
        console: Warnings and errors, those of WebGPU included.
        message: Why it is not done, in one line.
        adapter: Name of the WebGPU adapter.
        seconds: How long each window took.
    """

    status: str
    outputs: tuple[np.ndarray, ...] = ()
    fully_accelerated: bool = False
    console: tuple[str, ...] = ()
    message: str = ""
    adapter: str = ""
    seconds: tuple[float, ...] = ()


def run_in_browser(
    path: str | Path,
    windows: Sequence[np.ndarray],
    accelerator: str,
    timeout: float = TIMEOUT,
) -> BrowserRun:
    """Runs a file of one input and one output on windows, one after another.

    Args:
        path: A .tflite file.
        windows: float32, each of the input's shape.
        accelerator: "webgpu" or "wasm".
        timeout: Seconds for all of it.

    Raises:
        ExportError: If the file is no TFLite model, or the packages cannot be had.
    """
    if find_chromium() is None:
        return BrowserRun("no browser", message=NO_BROWSER)
    shape = read_graph(path).outputs[0].shape
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in _PAGE:
            shutil.copy(HERE / file, folder)
        copy_vendored(installed_packages(), folder / "vendor")
        shutil.copyfile(path, folder / "model.tflite")
        inputs = [f"{number}.f32" for number in range(len(windows))]
        for file, window in zip(inputs, windows, strict=True):
            np.asarray(window, np.float32).tofile(folder / file)
        outputs = [folder / f"output_{file}" for file in inputs]
        result = folder / "result.json"
        with serving(folder) as address:
            job = {
                "address": address,
                "model": "model.tflite",
                "accelerator": accelerator,
                "inputs": inputs,
                "outputs": [str(path) for path in outputs],
                "result": str(result),
            }
            try:
                run_in_chromium("run_model.mjs", job, timeout)
            except BrowserError as error:
                return BrowserRun("failed", message=str(error))
        said = json.loads(result.read_text("utf-8"))
        arrays = [np.fromfile(path, np.float32).reshape(shape) for path in outputs]
    console = dict.fromkeys(" ".join(line.split()) for line in said["console"])
    return BrowserRun(
        "done",
        tuple(arrays),
        said["fullyAccelerated"],
        tuple(line for line in console if not _HARMLESS.match(line)),
        adapter=said["adapter"],
        seconds=tuple(said["seconds"]),
    )
