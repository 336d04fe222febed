"""The same weights give the same frames on every installed Keras backend."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

CHILD = """
import sys
import numpy as np
import keras
import keras_megan

folder = sys.argv[1]
outputs = {"backend": keras.backend.backend()}
arrays = np.load(f"{folder}/inputs.npz")
for name in ("deformable", "window"):
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    outputs[name] = model.predict(arrays["frames"], verbose=0)
    assert not np.array_equal(outputs[name], 0)
assert "tensorflow" not in sys.modules or outputs["backend"] == "tensorflow"
np.savez(f"{folder}/{outputs['backend']}.npz", **outputs)
"""
MODULES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}


def _run(backend, folder):
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    with np.load(folder / f"{backend}.npz") as received:
        assert received["backend"] == backend
        return {name: received[name] for name in ("deformable", "window")}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A folder with two models and frames, and TensorFlow's outputs."""
    from keras_megan import MEGAN

    folder = tmp_path_factory.mktemp("backends")
    rng = np.random.default_rng(0)
    for name, options in {
        "deformable": {"levels": 3, "offset_groups": 2},
        "window": {"levels": 3, "reach": 4},
    }.items():
        model = MEGAN(
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
    frames = rng.uniform(size=(1, 3, 13, 18, 3)).astype("float32")
    np.savez(folder / "inputs.npz", frames=frames)
    return folder, _run("tensorflow", folder)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_outputs_equal_tensorflows(backend, reference):
    if importlib.util.find_spec(MODULES[backend]) is None:
        pytest.skip(f"{backend} is not installed")
    folder, expected = reference
    received = _run(backend, folder)
    for name, outputs in expected.items():
        assert np.abs(outputs).max() > 0.1
        np.testing.assert_allclose(received[name], outputs, atol=1e-4, rtol=0)
