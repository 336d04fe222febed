"""Run by test_backends.py in a process of its own, on the backend of KERAS_BACKEND.

In: a folder with models and ``inputs.npz``, and names of presets, whose weights the
first backend writes into the folder. Out: ``BACKEND.npz``, what each model computes.
"""

import sys
import warnings
from pathlib import Path

import keras
import numpy as np

import keras_megan

folder, presets = Path(sys.argv[1]), sys.argv[2:]
backend = keras.backend.backend()
arrays = np.load(folder / "inputs.npz")
outputs = {"backend": backend, "torch_module_names": []}
warnings.simplefilter("ignore")  # presets without weights say so

for name in ("deformable", "window"):
    model = keras.saving.load_model(folder / f"{name}.keras")
    outputs[name] = model.predict(arrays["built"], verbose=0)

for name in presets:
    model = keras_megan.MEGAN.from_preset(name)
    weights = folder / f"{name}.weights.h5"
    if weights.exists():
        model.load_weights(weights)
    else:
        model.save_weights(weights)
    outputs[name] = model.predict(arrays["preset"], verbose=0)

if backend == "torch":
    import torch

    found = {*dir(torch.nn.Module), *vars(torch.nn.Module())}
    outputs["torch_module_names"] = sorted(n for n in found if n[:2] != "__")
assert "tensorflow" not in sys.modules or backend == "tensorflow"

# Last, because Keras itself loads TensorFlow to write layers down.
small = keras.saving.load_model(folder / "window.keras")
wide = keras_megan.net2net.widen(small, factor=1.5).apply()
assert wide.count_params() > 1.5 * small.count_params()
outputs["widened"] = wide.predict(arrays["built"], verbose=0)
np.testing.assert_allclose(outputs["widened"], outputs["window"], atol=1e-4)
np.savez(folder / f"{backend}.npz", **outputs)
