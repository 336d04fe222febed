"""A small network, exported once for all tests that look at what came out."""

import subprocess
import sys
from pathlib import Path

import pytest

from export.verify.runtime import find_vulkan_driver
from tests.networks import TINY, tiny_megan

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = 16, 24


def run_export(*arguments, timeout=300):
    """The program as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "export.convert", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="session")
def network():
    """A MEGAN of few channels whose every weight does something."""
    options = {**TINY["alignment_options"], "levels": 3, "reach": 4}
    return tiny_megan(alignment_options=options)


@pytest.fixture(scope="session")
def saved(network, tmp_path_factory):
    """Its path as a .keras file."""
    path = tmp_path_factory.mktemp("network") / "tiny.keras"
    network.save(path)
    return path


@pytest.fixture(scope="session")
def exported(saved, tmp_path_factory):
    """The folder with everything for CPUs, and what the program said."""
    out = tmp_path_factory.mktemp("export")
    done = run_export(
        *("--model", saved, "--out", out, "--target", "cpu"),
        *("--height", HEIGHT, "--width", WIDTH, "--windows", 2),
        *("--precision", "fp32,fp16,dynamic_int8,int8", "--interface", "float32,uint8"),
        *("--calibration", "demo"),
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def vulkan():
    """Skips where no Vulkan driver is there."""
    if find_vulkan_driver() is None:
        pytest.skip("no Vulkan driver here; Debian's package chromium has one")
