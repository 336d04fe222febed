"""The same weights give the same frames on every Keras backend.

Two small models run on each backend that is installed. With KERAS_MEGAN_ALL_BACKENDS
set, as in .ci/run, every preset runs too, and a missing backend is a failure.
"""

import ast
import importlib.util
import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_megan

NAMES_FILE = Path(__file__).parent / "torch_module_names.txt"
CHILD = Path(__file__).parent / "backend_child.py"
BUILT = ("deformable", "window")
IN_FULL = bool(os.environ.get("KERAS_MEGAN_ALL_BACKENDS"))
PRESETS = tuple(keras_megan.MEGAN.presets) if IN_FULL else ()


# === Without PyTorch ==================================================================
def torch_module_names():
    lines = NAMES_FILE.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def own_layers(base=keras.layers.Layer):
    for kind in base.__subclasses__():
        if kind.__module__.startswith("keras_megan."):
            yield kind
        yield from own_layers(kind)


def names_set_by(kind):
    """Names that a class defines or assigns to ``self``."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    assigned = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return assigned | set(vars(kind))


def test_no_layer_hides_what_a_pytorch_module_defines():
    taken = torch_module_names()
    assert {"double", "train", "forward", "_parameters"} <= taken
    layers = list(own_layers())
    assert keras_megan.layers.DeformableConv2D in layers and len(layers) > 15
    hidden = {(kind.__name__, name) for kind in layers for name in names_set_by(kind)}
    assert not {(kind, name) for kind, name in hidden if name in taken}


def test_names_that_a_layer_sets_are_found():
    class Bad(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.left, self.double = 1, 2

        def half(self):
            self.train: int = 0

    assert names_set_by(Bad) & torch_module_names() == {"double", "half", "train"}


# === On each backend ==================================================================
def run_on(backend, folder):
    """Runs the child on a backend; name -> what it computed."""
    child = subprocess.run(
        [sys.executable, str(CHILD), str(folder), *PRESETS],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(Path(keras_megan.__file__).parents[1]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    with np.load(folder / f"{backend}.npz") as received:
        return {name: received[name] for name in received}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A folder with models, weights and frames, and what TensorFlow makes of them."""
    folder = tmp_path_factory.mktemp("backends")
    rng = np.random.default_rng(0)
    for name, options in {
        "deformable": {"levels": 3, "offset_groups": 2},
        "window": {"levels": 3, "reach": 4},
    }.items():
        model = keras_megan.MEGAN(
            filters=8,
            num_frames=3,
            extraction_blocks=1,
            alignment=name,
            alignment_options=options,
            descriptor_size=4,
            fusion_blocks=1,
            reconstruction_blocks=1,
        )
        for weight in model.trainable_weights:
            weight.assign(rng.normal(size=weight.shape, scale=0.1))
        model.save(folder / f"{name}.keras")
    np.savez(
        folder / "inputs.npz",
        built=rng.uniform(size=(1, 3, 13, 18, 3)).astype("float32"),
        preset=rng.uniform(size=(1, 4, 16, 24, 3)).astype("float32"),
    )
    return folder, run_on("tensorflow", folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_outputs_equal_those_of_tensorflow(backend, reference):
    if importlib.util.find_spec(backend) is None:
        message = f"{backend} is not installed"
        if IN_FULL:
            pytest.fail(f"{message}, and KERAS_MEGAN_ALL_BACKENDS is set.")
        pytest.skip(message)
    folder, expected = reference
    received = run_on(backend, folder)
    assert received.keys() == expected.keys()
    assert set(expected) >= {*BUILT, "widened", *PRESETS}
    for name, outputs in expected.items():
        if name in ("backend", "torch_module_names"):
            continue
        assert np.abs(outputs).max() > 0.1
        np.testing.assert_allclose(
            received[name], outputs, atol=1e-4, rtol=0, err_msg=name
        )
    assert expected["backend"] == "tensorflow" and received["backend"] == backend
    if backend == "torch":
        missing = set(received["torch_module_names"].tolist()) - torch_module_names()
        assert not missing, f"add to {NAMES_FILE.name}"
