"""What upscales one window of frames: the network behind a small protocol.

A `Runner` takes T uint8 RGB frames, shape (T, H, W, 3), and returns the 2T-1 frames
they span, shape (2T-1, scale*H, scale*W, 3), as float in [0, 1] or as uint8. Reading,
tiles and writing know nothing else of it, so a Keras model and a compiled artefact for
a phone are the same to them. Some networks are told, for each gap between two frames,
at which time in it the new frame shall lie; the others make it half-way.

`load_runner` finds the right one by file type, in a registry: `register_runner(".xyz")`
adds a format. Built in are `.keras` files, `.tflite` files that `export` made, preset
folders and preset names.

A Keras model is run as a graph, which XLA compiles only on JAX: on TensorFlow plain
graphs are faster. This is decided on a wrapper that shares the model's weights, so a
model that its owner has compiled for training is left as it was.
"""

import difflib
import functools
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_megan.errors import one_line
from keras_megan.presets import preset_names
from keras_megan.quiet import start_keras_quietly
from keras_megan.video.errors import VideoError, reading

# Working memory of one call, in bytes for each pixel of one input frame, by whether XLA
# compiles it: the growth of the process, rounded up. On 2 CPU cores megan_edge took
# 43-51 kB and megan_base 101 kB as plain graphs; megan_edge 166 kB under XLA, which
# keeps more alive at once.
BYTES_PER_PIXEL = {False: 110_000, True: 166_000}


class Runner(Protocol):
    """Upscales one window.

    Attributes:
        name: For messages.
        frames_in: T.
        frames_out: 2T-1.
        scale: Enlargement in space.
        fixed_size: (H, W) if it accepts one size only, else `None`.
        bytes_per_pixel: Working memory for each pixel of one input frame.
        fingerprint: Changes whenever the result could.
        notes: Lines the user should see (untrained weights, ...).
        takes_times: Whether new frames can lie elsewhere than half-way; if it is
            missing they cannot.
        parallel: How many threads may call `run` at the same time; 1 if it is missing.
    """

    name: str
    frames_in: int
    frames_out: int
    scale: int
    fixed_size: tuple[int, int] | None
    bytes_per_pixel: int
    fingerprint: str
    notes: tuple[str, ...]

    def run(self, frames: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
        """Upscales one window.

        Args:
            frames: (T, H, W, 3) uint8.
            times: (T-1,) float, the time in (0, 1) of the new frame in each gap; 0.5
                everywhere if not given. Never given unless `takes_times`.

        Returns:
            (2T-1, sH, sW, 3), float in [0, 1] or uint8. Even frames are the given ones.
        """


def takes_times(runner: Runner) -> bool:
    """Whether new frames can lie elsewhere than half-way."""
    return getattr(runner, "takes_times", False)


Loader = Callable[[Path], Runner]
_LOADERS: dict[str, Loader] = {}


def register_runner(suffix: str) -> Callable[[Loader], Loader]:
    """Decorator: the function loads model files that end in `suffix`.

    Example:

    >>> @register_runner(".tflite")
    ... def load(path):
    ...     return MyRunner(path)
    """

    def register(loader: Loader) -> Loader:
        _LOADERS[suffix.lower()] = loader
        return loader

    return register


def load_runner(model: str | Path) -> Runner:
    """Loads what `--model` names.

    Args:
        model: A preset name, a preset folder, or a model file.

    Raises:
        VideoError: If there is no such preset or file, or it is of a type that cannot
            be loaded.
    """
    check_model(model)
    loader = _LOADERS.get(Path(model).suffix.lower())
    return _load_preset(str(model)) if loader is None else loader(Path(model))


def check_model(model: str | Path) -> None:
    """Raises `VideoError` unless there is such a preset or file; loads nothing."""
    path = Path(model)
    with reading(path):
        is_file = path.is_file()
    if path.suffix.lower() in _LOADERS:
        if not is_file:
            raise VideoError(f"Cannot read the model '{path}': no such file.")
    elif is_file:
        raise VideoError(
            f"Cannot load the model '{path}': known file types are "
            f"{', '.join(sorted(_LOADERS))}; a preset is a name or a folder."
        )
    else:
        check_preset(str(model))


def check_preset(name: str) -> None:
    """Raises `VideoError` unless this is a preset's name or a folder; loads nothing."""
    names = preset_names()
    if name not in names and not Path(name).is_dir():
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise VideoError(
            f"Unknown model '{name}'.{hint} Presets: {', '.join(sorted(names))}; "
            "a preset folder, a .keras or a .tflite file will do as well."
        )


def _load_preset(name: str) -> Runner:
    start_keras_quietly()
    import keras_megan

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = keras_megan.MEGAN.from_preset(name)
    except (OSError, ValueError, KeyError) as error:
        raise VideoError(
            f"Cannot load the preset '{name}': {one_line(error)}"
        ) from error
    runner = KerasRunner(model, name=Path(name).name)
    runner.notes = tuple(
        one_line(w.message) for w in caught if issubclass(w.category, UserWarning)
    )
    return runner


@register_runner(".keras")
def _load_keras_file(path: Path) -> Runner:
    start_keras_quietly()
    import keras

    import keras_megan.megan  # noqa: F401  registers the layers

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged archive can raise nearly anything
        raise VideoError(f"Cannot load the model '{path}': {one_line(error)}") from (
            error
        )
    return KerasRunner(model, name=path.stem)


@register_runner(".tflite")
def _load_tflite_file(path: Path) -> Runner:
    from keras_megan.video.models.litert_runner import LiteRTRunner

    return LiteRTRunner(path)


class KerasRunner:
    """Runs a Keras model (B, T, H, W, 3) -> (B, 2T-1, sH, sW, 3) on any backend.

    Args:
        model: The model, with RGB in [0, 1] at both ends. `model.num_frames` and
            `model.scale` are used if it has them, else its shapes tell. A second input
            named "times", (B, T-1), is the time of the new frame in each gap; so it is
            of `model.at_times`, if there is such a network.
        name: For messages; `model.name` if not given.

    Raises:
        VideoError: If the model's shapes are of another kind.
    """

    fixed_size: tuple[int, int] | None

    def __init__(self, model: Any, name: str | None = None):
        self.model = model
        self.name = name or model.name
        shape = _frames_shape(model)
        self.fixed_size = None
        if shape[2] is not None and shape[3] is not None:
            self.fixed_size = (shape[2], shape[3])
        self.frames_in = int(getattr(model, "num_frames", None) or shape[1] or 4)
        height, width = self.fixed_size or (16, 16)
        probe = (1, self.frames_in, height, width, 3)
        try:
            result = tuple(
                model.compute_output_shape(
                    _packed(model, probe, (1, self.frames_in - 1))
                )
            )
        except Exception as error:
            raise _wrong_kind(self.name, f"cannot take {probe}") from error
        if len(result) != 5 or result[-1] != 3 or result[2] % height:
            raise _wrong_kind(self.name, f"{probe} -> {result}")
        self.frames_out, self.scale = int(result[1]), int(result[2]) // height
        if self.frames_out != 2 * self.frames_in - 1:
            raise _wrong_kind(self.name, f"{probe} -> {result}")
        self.bytes_per_pixel = BYTES_PER_PIXEL[_uses_xla()]
        self.fingerprint = _fingerprint(model)
        self.notes: tuple[str, ...] = ()
        self._compiled: dict[tuple, Any] = {}

    @functools.cached_property
    def _timed(self) -> Any:
        """The network that is told times: `model` or what it gives; `None` without."""
        if _has_times(self.model):
            return self.model
        try:
            return getattr(self.model, "at_times", None)
        except ValueError:  # it has the property, but not the layers
            return None

    @property
    def takes_times(self) -> bool:
        """Whether new frames can lie elsewhere than half-way."""
        return self._timed is not None

    def run(self, frames: np.ndarray, times: np.ndarray | None = None) -> np.ndarray:
        """See `Runner`."""
        batch = frames[None].astype(np.float32)
        if np.issubdtype(frames.dtype, np.integer):
            batch *= np.float32(1 / np.iinfo(frames.dtype).max)
        fed: Any = batch
        model = self.model
        if times is not None:
            if not self.takes_times:
                raise ValueError(f"The model '{self.name}' takes no times.")
            model = self._timed
        if _has_times(model):
            if times is None:
                times = np.full(self.frames_in - 1, 0.5)
            fed = [batch, np.asarray(times, np.float32)[None]]
        return np.asarray(self._forward(model, batch.shape).predict_on_batch(fed))[0]

    __call__ = run

    def _forward(self, model: Any, shape: tuple[int, ...]) -> Any:
        """The compiled wrapper for one input shape (the last shape's are kept)."""
        if shape not in {key[1] for key in self._compiled}:
            self._compiled = {}
        key = (id(model), shape)
        if key not in self._compiled:
            import keras

            frames = keras.Input(batch_shape=shape)
            inputs: Any = frames
            packed: Any = frames
            if _has_times(model):
                times = keras.Input(batch_shape=(shape[0], shape[1] - 1))
                inputs, packed = [frames, times], _packed(model, frames, times)
            wrapper = keras.Model(inputs, model(packed, training=False))
            # Loss-free: compile() only decides how predict_on_batch runs.
            wrapper.compile(jit_compile=_uses_xla())
            self._compiled[key] = wrapper
        return self._compiled[key]


def _uses_xla() -> bool:
    """JAX always compiles; on TensorFlow plain graphs run faster (network_speed.py)."""
    import keras

    return keras.backend.backend() == "jax"


def _has_times(model: Any) -> bool:
    """Whether a model has a second input, the times of the new frames."""
    inputs = getattr(model, "inputs", None) or []
    names = [getattr(tensor, "name", "") for tensor in inputs]
    return len(names) == 2 and names.count("times") == 1


def _packed(model: Any, frames: Any, times: Any) -> Any:
    """Frames and times in the order or under the names that a model wants."""
    if not _has_times(model):
        return frames
    names = [tensor.name for tensor in model.inputs]
    values = [times if name == "times" else frames for name in names]
    if isinstance(model.input, dict):
        return dict(zip(names, values, strict=True))
    return values


def _frames_shape(model: Any) -> tuple:
    shape = getattr(model, "input_shape", None)
    if _has_times(model):
        (shape,) = (tuple(t.shape) for t in model.inputs if t.name != "times")
    if not isinstance(shape, tuple) or len(shape) != 5 or shape[-1] != 3:
        raise _wrong_kind(model.name, f"input shape {shape}")
    return shape


def _wrong_kind(name: str, found: str) -> VideoError:
    return VideoError(
        f"The model '{name}' does not upscale video: expected (batch, T, H, W, 3) -> "
        f"(batch, 2T-1, scale*H, scale*W, 3). Received: {found}."
    )


def _fingerprint(model: Any) -> str:
    digest = hashlib.sha256(type(model).__name__.encode())
    config = json.dumps(model.get_config(), sort_keys=True, default=str)
    digest.update(config.encode())
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
