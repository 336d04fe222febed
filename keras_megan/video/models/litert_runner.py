"""Runs an exported `.tflite` file as an edge device does: on LiteRT's CPU runtime.

In: T uint8 frames (T, H, W, 3) of the one size the file was made for; the video tool
cuts larger pictures into overlapping tiles of it and fills up smaller ones (`tiles`).
Out: 2T-1 frames (2T-1, sH, sW, 3), float32 or uint8, whichever the file computes.

`load_runner` finds this class by the ending `.tflite`. Neither Keras nor TensorFlow is
loaded, so it starts in a moment. What the file expects it says itself (`artefact`).

Two tiles on a thread each are done sooner than two tiles one after another on two
threads. So the CPUs are divided among as many interpreters as there are tiles.
"""

import hashlib
import os
import queue
from pathlib import Path

import numpy as np

from keras_megan.quiet import standard_error_held_back
from keras_megan.video.errors import VideoError, reading, reason
from keras_megan.video.memory import memory_to_use
from keras_megan.video.models.artefact import ArtefactInfo, read_info

# Working memory of one call, in bytes for each pixel of one input frame: the growth of
# the process from before the file was opened, rounded up. megan_edge took 22 kB traced
# for computers and 131 kB traced for mobile GPUs.
BYTES_PER_PIXEL = 140_000


class LiteRTRunner:
    """A `Runner` (see `keras_megan.video.models.runner`) on LiteRT.

    Args:
        path: A `.tflite` file that keras_megan exported.
        num_threads: Threads of the runtime, over all tiles that run at the same time;
            all CPUs this process may use if not given.
        bytes_per_pixel: Working memory of one call for each pixel of one input frame.

    Attributes:
        info: What the file says of itself.
        parallel: How many threads may call `run` at the same time; see `prepare`.

    Raises:
        VideoError: If the file cannot be read, is damaged, does not say what it is, or
            is not what it says.
    """

    def __init__(
        self,
        path: str | Path,
        num_threads: int | None = None,
        bytes_per_pixel: int = BYTES_PER_PIXEL,
    ):
        self.path = Path(path)
        self.info = info = read_info(self.path)
        self.name = self.path.stem
        self.frames_in, self.frames_out = info.frames_in, info.frames_out
        self.scale = info.scale
        self.fixed_size: tuple[int, int] | None = (info.height, info.width)
        self.bytes_per_pixel = bytes_per_pixel
        with reading(self.path):
            self.fingerprint = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.notes: tuple[str, ...] = ()
        self.takes_times = False
        self._threads = num_threads or available_cpus()
        self.parallel = 0
        self._idle: queue.SimpleQueue = queue.SimpleQueue()
        self._open(1)

    def prepare(self, num_tiles: int, memory: int | None = None) -> None:
        """Prepares for windows of several tiles: one interpreter for each, if they fit.

        Args:
            num_tiles: Tiles of a window.
            memory: Bytes that all interpreters together may take; `memory_to_use()`
                if not given.
        """
        if memory is None:
            memory = memory_to_use()
        each = self.bytes_per_pixel * self.info.height * self.info.width
        count = max(1, min(num_tiles, self._threads, memory // each))
        if count != self.parallel:
            self._open(count)

    def _open(self, count: int) -> None:
        threads = self._threads // count
        opened = [_open(self.path, threads) for _ in range(count)]
        ends = [_check_tensors(each, self.path, self.info) for each in opened]
        self._idle = queue.SimpleQueue()
        for pair in zip(opened, ends, strict=True):
            self._idle.put(pair)
        self.parallel = count

    def run(self, frames: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
        """(T, H, W, 3) uint8, or float in [0, 1] -> (2T-1, sH, sW, 3); see `Runner`."""
        if times is not None:
            raise ValueError(f"The model '{self.name}' takes no times.")
        if frames.shape != self.info.input_shape:
            raise ValueError(
                f"The model '{self.name}' takes frames of shape "
                f"{self.info.input_shape}. Received: {frames.shape}"
            )
        pair = self._idle.get()
        try:
            interpreter, (given, made) = pair
            interpreter.set_tensor(given, _CONVERT[self.info.input_type](frames))
            interpreter.invoke()
            return interpreter.get_tensor(made)
        finally:
            self._idle.put(pair)

    __call__ = run

    def facts(self) -> dict:
        """What `megan info` prints."""
        info = self.info
        return {
            "model": info.model,
            "made by": f"keras_megan {info.version}",
            "frames": f"{info.frames_in} in, {info.frames_out} out",
            "scale": info.scale,
            "input": f"{info.input_shape} {info.input_type}",
            "output": f"{info.output_shape} {info.output_type}",
            "precision": info.precision,
            "file size": f"{self.path.stat().st_size / 1e6:.2f} MB",
            "how to feed": info.how_to_feed,
        }


def available_cpus() -> int:
    """How many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _to_float(frames: np.ndarray) -> np.ndarray:
    if frames.dtype == np.uint8:
        return frames.astype(np.float32) * np.float32(1 / 255)
    return frames.astype(np.float32, copy=False)


def _to_uint8(frames: np.ndarray) -> np.ndarray:
    if frames.dtype == np.uint8:
        return frames
    return np.rint(np.clip(frames, 0, 1) * np.float32(255)).astype(np.uint8)


# Type of the file's input -> what makes it of a window.
_CONVERT = {"float32": _to_float, "uint8": _to_uint8}


def _open(path: Path, num_threads: int):
    """An interpreter with its memory allocated."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise VideoError(
            f"Cannot run '{path}': the package ai-edge-litert is not installed or does "
            f"not work here ({reason(error)}). Install it with: pip install "
            "ai-edge-litert"
        ) from error
    try:
        with standard_error_held_back(forget=(ValueError, RuntimeError)):
            interpreter = Interpreter(model_path=str(path), num_threads=num_threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise VideoError(
            f"Cannot run '{path}': LiteRT refuses it ({reason(error)[:300]})."
        ) from error
    return interpreter


def _check_tensors(interpreter, path: Path, info: ArtefactInfo) -> tuple[int, int]:
    """The indices of the input and the output, if they are what the file says."""
    ends = {
        "input": (interpreter.get_input_details(), info.input_shape, info.input_type),
        "output": (
            interpreter.get_output_details(),
            info.output_shape,
            info.output_type,
        ),
    }
    for name, (details, shape, pixel_type) in ends.items():
        found = [(tuple(map(int, d["shape"])), np.dtype(d["dtype"])) for d in details]
        if found != [(shape, np.dtype(pixel_type))]:
            received = ", ".join(f"{kind} {size}" for size, kind in found)
            raise VideoError(
                f"Cannot run '{path}': it says that its {name} is {pixel_type} "
                f"{shape}, but it is {received}. Export it again."
            )
    return tuple(details[0]["index"] for details, *_ in ends.values())
