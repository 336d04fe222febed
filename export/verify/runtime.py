"""Runs a TFLite file and gives its outputs, on the CPU and on the GPU.

    path, arrays -> run_on_cpu -> arrays
    path, arrays -> run_on_gpu -> GpuRun: what happened, and the arrays if it worked

The CPU runtime is LiteRT's interpreter with its default kernels (XNNPACK). The GPU
runtime is LiteRT's WebGPU accelerator, the engine that runs on phones. It can abort its
process, so it runs in a child (`gpu_child`): a crash is a finding, not the end.

It needs Vulkan: the loader libvulkan.so.1 and a driver. On a machine without a GPU
SwiftShader does, a driver that computes on the CPU; Debian's package "chromium" has it.
So exports can be checked anywhere, and by hosted tests.
"""

import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from export.build.flatbuffer import read_graph

#: Seconds that a model may take on the GPU, starting and compiling included.
TIMEOUT = 600.0
#: Runs that a time is the median of.
TIMED_RUNS = 5

#: What names drivers to the Vulkan loader; the second is what older loaders read.
DRIVER_VARIABLES = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")

#: Where packages put SwiftShader's manifest.
SWIFTSHADER = (
    "/usr/lib/chromium/vk_swiftshader_icd.json",
    "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
    "/opt/google/chrome/vk_swiftshader_icd.json",
)

_CHILD = Path(__file__).with_name("gpu_child.py")
_DEVICES_TIMEOUT = 60.0
_NO_DRIVER = (
    "there is no Vulkan driver that the GPU runtime accepts: install a GPU's, or on "
    "Debian 'apt-get install chromium libvulkan1' for one that computes on the CPU"
)


@dataclass(frozen=True)
class VulkanDriver:
    """A driver that the loader found a device with.

    Attributes:
        device: The device's name.
        software: Whether it computes on the CPU.
        manifests: What to set `DRIVER_VARIABLES` to; None: leave them as they are.
    """

    device: str
    software: bool
    manifests: str | None


@dataclass(frozen=True)
class GpuRun:
    """What became of one run on the GPU.

    Attributes:
        status: "done"; "no driver": there is nothing to run it on; "refused": the
            runtime refused it and said why; "crashed": the process ended; "timed out".
        outputs: Outputs in the order of the model; empty unless done.
        fully_accelerated: What the runtime reports; False unless done.
        message: Why it is not done, in one line; "" if it is.
        seconds: Time of one run, the median after a first one; None on a software
            driver, whose time says nothing about a GPU's.
    """

    status: str
    outputs: tuple[np.ndarray, ...] = ()
    fully_accelerated: bool = False
    message: str = ""
    seconds: float | None = None


def run_on_cpu(
    path: str | Path, inputs: Sequence[np.ndarray], threads: int | None = None
) -> list[np.ndarray]:
    """Runs a model once on LiteRT's CPU runtime.

    Args:
        path: A .tflite file.
        inputs: One array for each input, in the order of the model. Axes whose size is
            not fixed take the arrays' sizes.
        threads: Number of threads; the runtime's default if not given.

    Returns:
        The outputs, in the order of the model.

    Raises:
        ExportError: If the file cannot be read or is not a TFLite model.
        ValueError: If the inputs are not what the model takes.
        RuntimeError: If the runtime refuses the model.
    """
    interpreter = _ready_on_cpu(path, inputs, threads)
    interpreter.invoke()
    return [
        interpreter.get_tensor(details["index"])
        for details in interpreter.get_output_details()
    ]


def time_on_cpu(
    path: str | Path, inputs: Sequence[np.ndarray], threads: int, at_most: float = 5.0
) -> float:
    """Seconds of one run on LiteRT's CPU runtime: the median after a first one.

    Args:
        path, inputs, threads: See `run_on_cpu`.
        at_most: Seconds of timing after which no further run is begun.
    """
    return median_seconds(_ready_on_cpu(path, inputs, threads).invoke, at_most)


def median_seconds(run: Callable[[], object], at_most: float = math.inf) -> float:
    """Median seconds of `TIMED_RUNS` runs after a first one.

    Args:
        run: What is timed.
        at_most: Seconds of timing after which no further run is begun.
    """
    run()
    found: list[float] = []
    while not found or (len(found) < TIMED_RUNS and sum(found) < at_most):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def _ready_on_cpu(path, inputs, threads) -> Interpreter:
    _check_inputs(path, inputs)
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    places = [details["index"] for details in interpreter.get_input_details()]
    for place, array in zip(places, inputs, strict=True):
        interpreter.resize_tensor_input(place, array.shape)
    interpreter.allocate_tensors()
    for place, array in zip(places, inputs, strict=True):
        interpreter.set_tensor(place, array)
    return interpreter


def run_on_gpu(
    path: str | Path, inputs: Sequence[np.ndarray], timeout: float = TIMEOUT
) -> GpuRun:
    """Runs a model once on LiteRT's GPU runtime, alone: nothing falls back to the CPU.

    Args:
        path: A .tflite file.
        inputs: One array for each input, in the order of the model.
        timeout: Seconds after which the child is ended.

    Raises:
        ExportError: If the file cannot be read or is not a TFLite model.
        ValueError: If the inputs are not what the model takes.
    """
    _check_inputs(path, inputs)
    driver = find_vulkan_driver()
    if driver is None:
        return GpuRun("no driver", message=_NO_DRIVER)
    timed = 0 if driver.software else TIMED_RUNS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays = {str(number): array for number, array in enumerate(inputs)}
        np.savez(folder / "inputs.npz", **arrays)
        try:
            child = _start(
                ["run", str(Path(path).resolve()), name, str(timed)],
                driver.manifests,
                timeout,
            )
        except subprocess.TimeoutExpired:
            message = f"no result within {timeout:g} seconds on {driver.device}"
            return GpuRun("timed out", message=message)
        if child.returncode or not (folder / "result.json").exists():
            return _failed(child)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        with np.load(folder / "outputs.npz", allow_pickle=False) as arrays:
            outputs = tuple(arrays[str(number)] for number in range(len(arrays.files)))
    seconds = statistics.median(result["seconds"]) if timed else None
    return GpuRun("done", outputs, bool(result["fully_accelerated"]), seconds=seconds)


def find_vulkan_driver() -> VulkanDriver | None:
    """The driver to use: the user's choice, else a GPU's, else a software driver.

    A user who has set one of `DRIVER_VARIABLES` gets that driver or none.

    Returns:
        The driver, or None if the loader is missing or finds no device. A device may
        still be too limited for the GPU runtime: then runs end with "no driver".
    """
    chosen = next(filter(None, map(os.environ.get, DRIVER_VARIABLES)), None)
    if chosen is not None:
        return _first_device(chosen, software=True)
    return (
        _first_device(None, software=False)
        or next(filter(None, map(_swiftshader_device, SWIFTSHADER)), None)
        or _first_device(None, software=True)
    )


def _swiftshader_device(manifest: str) -> VulkanDriver | None:
    return _first_device(manifest, software=True) if Path(manifest).exists() else None


def _first_device(manifests: str | None, software: bool) -> VulkanDriver | None:
    for name, kind in _devices(manifests):
        if software or kind != "cpu":
            return VulkanDriver(name, kind == "cpu", manifests)
    return None


@cache
def _devices(manifests: str | None) -> tuple[tuple[str, str], ...]:
    """(name, type) of the devices; asked in a child, because drivers can crash."""
    try:
        child = _start(["devices"], manifests, _DEVICES_TIMEOUT)
    except subprocess.TimeoutExpired:
        return ()
    if child.returncode:
        return ()
    found = json.loads(child.stdout.splitlines()[-1])
    return tuple((device["name"], device["type"]) for device in found)


def _start(
    arguments: list[str], manifests: str | None, timeout: float
) -> subprocess.CompletedProcess:
    """Runs the child to its end. -P: modules are not imported from this folder."""
    environment = dict(os.environ)
    if manifests is not None:
        environment |= dict.fromkeys(DRIVER_VARIABLES, manifests)
    return subprocess.run(
        [sys.executable, "-P", str(_CHILD), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
    )


def _failed(child: subprocess.CompletedProcess) -> GpuRun:
    """Tells from standard error what ended the child."""
    lines = child.stderr.splitlines()
    if any("No adapters found" in line for line in lines):
        return GpuRun("no driver", message=_NO_DRIVER)
    refusal = [line for line in lines if line.startswith("refused: ")]
    if refusal:
        return GpuRun("refused", message=_one_line([*_reasons(lines), *refusal]))
    how = f"status {child.returncode}"
    if child.returncode < 0:
        how = signal.Signals(-child.returncode).name
    fatal = [line for line in lines if re.match(r"F\d{4} |\[?FATAL", line)]
    return GpuRun("crashed", message=_one_line([how, *(fatal or lines[-3:])]))


def _reasons(lines: list[str]) -> list[str]:
    """The operations that the runtime names, or the errors it prints."""
    start = [n for n, line in enumerate(lines) if "are not supported by GPU" in line]
    if start:
        rest = lines[start[0] + 1 :]
        end = [n for n, line in enumerate(rest) if not re.match(r"[A-Z0-9_]+: ", line)]
        return list(dict.fromkeys(rest[: end[0] if end else None]))
    return [line for line in lines if line.startswith("ERROR: ")]


def _one_line(lines: list[str]) -> str:
    return textwrap.shorten("; ".join(lines), 500, placeholder=" ...")


def _check_inputs(path: str | Path, inputs: Sequence[np.ndarray]) -> None:
    wanted = [(t.shape, t.dtype) for t in read_graph(path).inputs]
    given = [(array.shape, str(array.dtype)) for array in inputs]
    fits = len(wanted) == len(given) and all(
        dtype == other
        and len(shape) == len(size)
        and all(a in (None, b) for a, b in zip(shape, size, strict=True))
        for (shape, dtype), (size, other) in zip(wanted, given, strict=True)
    )
    if not fits:
        raise ValueError(f"'{path}' expected inputs {wanted}. Received: {given}.")
