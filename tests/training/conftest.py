"""Small footage, shards and recipes that the tests of the training programs share."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

#: A recipe whose steps take a fraction of a second.
TINY_RECIPE = """
import dataclasses
from keras_megan.megan import MEGAN
from tests.networks import TINY
from training.data.sampling import SamplingSettings
from training.stages.recipe import Recipe, Stage
from training.tasks.video import VideoTask

def build():
    return MEGAN(**TINY)

RECIPE = Recipe(
    name="tiny",
    task=VideoTask(
        sampling=SamplingSettings(crop=32, candidates=2),
        motion_weight=1.0, final_motion_weight=0.1, validation_frames=7,
        validation_downscale="1"),
    model=build,
    stages=(Stage(name="only", steps=8, learning_rate=1e-3, warmup_steps=2),),
    batch_size=4, log_every=2, validate_every=100, save_every=2, seed=3)
"""


#: The same with a network that is traced at once, for tests of the programs.
PLAIN_RECIPE = (
    TINY_RECIPE[: TINY_RECIPE.index("def build")]
    + """
import keras

def build():
    inputs = keras.Input((4, 8, 8, 3))
    x = keras.layers.Permute((2, 3, 1, 4))(inputs)
    x = keras.layers.Reshape((8, 8, 12))(x)
    x = keras.layers.Conv2D(filters=8, kernel_size=3, padding="same")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(336, 3, padding="same")(x)
    return keras.Model(inputs, keras.layers.Reshape((7, 32, 32, 3))(x))

"""
    + TINY_RECIPE[TINY_RECIPE.index("RECIPE =") :].replace(
        "motion_weight=1.0, final_motion_weight=0.1, ", ""
    )
)


def moving_frames(count=12, height=64, width=96, seed=0):
    """uint8 RGB (count, height, width, 3): a textured scene that pans and zooms."""
    random = np.random.default_rng(seed)
    scene = random.integers(0, 256, (height, width * 2, 3), dtype=np.uint8)
    scene = cv2.GaussianBlur(scene, (0, 0), 1.5)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([scene[:, 2 * i : 2 * i + width] for i in range(count)])


def write_frames(folder, frames):
    """Writes PNGs 000.png, 001.png, ... into a new folder."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index:03d}.png"), frame[..., ::-1])
    return folder


def write_pack(path, splits):
    """Writes labelled images: a dict from "train" and "val" to (images, labels)."""
    arrays = {}
    for split, (images, labels) in splits.items():
        files = [cv2.imencode(".png", p.astype(np.uint8))[1].ravel() for p in images]
        arrays[f"{split}_jpeg"] = np.concatenate(files)
        arrays[f"{split}_offsets"] = np.cumsum([0] + [len(file) for file in files])
        arrays[f"{split}_labels"] = labels
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """A folder of three frame folders."""
    root = tmp_path_factory.mktemp("footage")
    for seed, name in enumerate(("meadow", "street", "water")):
        write_frames(root / name, moving_frames(seed=seed))
    return root


@pytest.fixture(scope="session")
def shards(footage, tmp_path_factory):
    """Shards of that footage, decoded once so that tests do not race for the cache."""
    from rich.console import Console

    from training.data.cache import ClipCache
    from training.prepare import PrepareSettings, prepare

    out = tmp_path_factory.mktemp("data") / "shards"
    prepare(
        PrepareSettings(str(footage), str(out), downscale="1", processes=1),
        Console(quiet=True),
    )
    ClipCache(out)
    return out


@pytest.fixture
def recipe_file(tmp_path):
    """Writes the plain recipe with changes; gives its path."""

    def write(**changes):
        text = PLAIN_RECIPE
        if changes:
            items = ", ".join(f"{name}={value}" for name, value in changes.items())
            text += f"\nRECIPE = dataclasses.replace(RECIPE, {items})\n"
        path = tmp_path / "recipe.py"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def program(module, *flags, environment=None, **options):
    """Starts ``python -m module`` from the checkout; a Popen with text pipes."""
    variables = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        **(environment or {}),
    }
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, flags)],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_program(module, *flags, timeout=500, **options):
    """Runs it to the end; (exit status, standard output, standard error)."""
    process = program(module, *flags, **options)
    out, error = process.communicate(timeout=timeout)
    return process.returncode, out, error


def weights_of(path):
    """All weights of a kept network, float32, concatenated."""
    from training.engine.networks import load_model

    return np.concatenate([v.numpy().ravel() for v in load_model(path).variables])
