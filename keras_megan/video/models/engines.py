"""What computes: LiteRT on CPUs, Keras everywhere else and for everything else.

    --engine auto      LiteRT if the model carries files for it, no GPU is there and
                       nothing is asked for that the files cannot do; else Keras
    --engine litert    LiteRT, or one line that says why not
    --engine keras     Keras with its backend (KERAS_BACKEND)

`find_model` decides before anything heavy is loaded; `Model.load` then loads it, once
for all clips.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keras_megan.video.errors import VideoError
from keras_megan.video.models.preset_files import PRECISIONS, PresetFiles, find_files
from keras_megan.video.models.runner import check_model, load_runner

ENGINES = ("auto", "litert", "keras")
PRECISION_CHOICES = ("auto", *PRECISIONS)
DEFAULT_MODEL = "megan_edge"
#: Chooses between the two by the footage.
AUTO = "auto"
DAMAGED_MODEL = "megan_edge_real"
_GPU_DEVICES = ("nvidia[0-9]*", "kfd")  # in /dev: NVIDIA's and AMD's


@dataclass(frozen=True)
class Needs:
    """What a job asks of a model.

    Attributes:
        times: Whether new frames have to lie elsewhere than half-way.
        damage: What compression did to the footage, in words; empty: nothing to see.
    """

    times: bool = False
    damage: str = ""


#: A job that any model can do.
NOTHING_SPECIAL = Needs()


@dataclass(frozen=True)
class Model:
    """A model that was found, and what will run it.

    Attributes:
        name: As it was asked for.
        engine: "litert" or "keras".
        load: Loads it; returns a `Runner`, or an object whose `for_size` gives one.
        why: Why this one, where nobody asked for it.
    """

    name: str
    engine: str
    load: Callable[[], Any]
    why: str = ""


@dataclass(frozen=True)
class ModelChoice:
    """Which model is wanted, as plain values that can be sent to other machines.

    Attributes: see `find_model`. The name "auto" stands for `megan_edge`, and for
    `megan_edge_real` where compression has damaged the footage.
    """

    name: str = AUTO
    engine: str = "auto"
    precision: str = "auto"
    threads: int | None = None

    def find(self, needs: Needs = NOTHING_SPECIAL) -> Model:
        """`find_model` of this."""
        name, why = self.name, ""
        if name == AUTO:
            name = DAMAGED_MODEL if needs.damage else DEFAULT_MODEL
            if needs.damage:
                why = (
                    f"Taking {name}, for footage that compression has damaged: "
                    f"{needs.damage}. Give --model to choose another."
                )
        model = find_model(name, self.engine, self.precision, self.threads, needs.times)
        return replace(model, why=why)


def find_model(
    name: str | Path = DEFAULT_MODEL,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    needs_times: bool = False,
) -> Model:
    """Finds a model and decides what runs it, in a moment.

    Args:
        name: Preset name or folder, `.keras` or `.tflite` file.
        engine: A value of `ENGINES`.
        precision: Which of a preset's files for LiteRT: "int8", "fp32", or "auto",
            int8 if the preset carries such files, else fp32.
        threads: CPU threads; all if not given.
        needs_times: Whether new frames have to lie elsewhere than half-way.

    Raises:
        VideoError: If there is no such model, or the engine cannot run it.
    """
    name = str(name)
    if engine not in ENGINES:
        raise VideoError(f"Unknown engine '{engine}'. Known: {', '.join(ENGINES)}.")
    if precision not in PRECISION_CHOICES:
        raise VideoError(
            f"Unknown precision '{precision}'. Known: {', '.join(PRECISION_CHOICES)}."
        )
    check_model(name)
    if Path(name).suffix.lower() == ".tflite":
        if engine == "keras":
            raise VideoError(f"'{name}' runs on LiteRT only: leave out --engine keras.")
        return Model(name, "litert", lambda: _tflite(name, threads))
    files = None
    if engine != "keras":
        wanted = PRECISIONS if precision == "auto" else (precision,)
        files = next(filter(None, (find_files(name, each) for each in wanted)), None)
    if engine == "litert":
        if files is None:
            kind = "" if precision == "auto" else f"{precision} "
            raise VideoError(
                f"The model '{name}' carries no {kind}files for LiteRT that belong to "
                "its weights. Use --engine keras, or make them with export.engines "
                "(docs/upscale.md)."
            )
        if needs_times:
            raise VideoError(
                "Files for LiteRT make new frames half-way between two given ones "
                "only. Use --engine keras for this rate."
            )
    if files is not None and (engine == "litert" or not (needs_times or has_gpu())):
        return Model(name, "litert", lambda: _with_threads(files, threads))
    return Model(name, "keras", lambda: _keras(name, threads))


def has_gpu() -> bool:
    """Whether a GPU that Keras's backends can use seems to be there."""
    devices = Path("/dev")
    return devices.is_dir() and any(
        True for pattern in _GPU_DEVICES for _ in devices.glob(pattern)
    )


def _tflite(name: str, threads: int | None):
    from keras_megan.video.models.litert_runner import LiteRTRunner

    return LiteRTRunner(name, threads)


def _with_threads(files: PresetFiles, threads: int | None) -> PresetFiles:
    files.threads = threads
    return files


def _keras(name: str, threads: int | None):
    if threads is not None:  # read by TensorFlow, and by JAX's and torch's OpenMP
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)
    # TensorFlow warns of programs that make many graphs; clips of many sizes need them.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return load_runner(name)
