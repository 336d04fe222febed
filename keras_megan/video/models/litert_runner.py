"""Runs an exported `.tflite` file as an edge device does: on LiteRT's CPU runtime.

In: T uint8 frames (T, H, W, 3) of the one size the file was made for; the video tool
cuts larger pictures into overlapping tiles of it and fills up smaller ones (`tiles`).
Out: 2T-1 frames (2T-1, sH, sW, 3), float32 or uint8, whichever the file computes.

`load_runner` finds this class by the ending `.tflite`. Neither Keras nor TensorFlow is
loaded, so it starts in a moment. What the file expects it says itself (`artefact`).
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from keras_megan.quiet import standard_error_held_back
from keras_megan.video.errors import VideoError, reading, reason
from keras_megan.video.models.artefact import ArtefactInfo, read_info

# Working memory of one call, in bytes for each pixel of one input frame: the growth of
# the process from before the file was opened, rounded up. megan_edge took 22 kB traced
# for computers and 131 kB traced for mobile GPUs. Tiles have the file's own size, so
# nothing is decided by it.
BYTES_PER_PIXEL = 140_000


class LiteRTRunner:
    """A `Runner` (see `keras_megan.video.models.runner`) on LiteRT.

    Args:
        path: A `.tflite` file that keras_megan exported.
        num_threads: Threads of the runtime; all CPUs this process may use if not given.

    Attributes:
        info: What the file says of itself.

    Raises:
        VideoError: If the file cannot be read, is damaged, does not say what it is, or
            is not what it says.
    """

    def __init__(self, path: str | Path, num_threads: int | None = None):
        self.path = Path(path)
        self.info = info = read_info(self.path)
        self.name = self.path.stem
        self.frames_in, self.frames_out = info.frames_in, info.frames_out
        self.scale = info.scale
        self.fixed_size: tuple[int, int] | None = (info.height, info.width)
        self.bytes_per_pixel = BYTES_PER_PIXEL
        with reading(self.path):
            self.fingerprint = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.notes: tuple[str, ...] = ()
        self._interpreter = _open(self.path, num_threads or available_cpus())
        self._input, self._output = _check_tensors(self._interpreter, self.path, info)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) uint8, or float in [0, 1] -> (2T-1, sH, sW, 3)."""
        if frames.shape != self.info.input_shape:
            raise ValueError(
                f"The model '{self.name}' takes frames of shape "
                f"{self.info.input_shape}. Received: {frames.shape}"
            )
        self._interpreter.set_tensor(
            self._input, _CONVERT[self.info.input_type](frames)
        )
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)

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
