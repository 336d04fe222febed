"""What every test needs: a quiet TensorFlow, fixed seeds, time for slow tests."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if "PYTEST_XDIST_WORKER" in os.environ:
    # As many processes as cores, one thread each, instead of all threads in each.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

from keras_megan.quiet import load_keras

load_keras()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

#: Seed of Python's, numpy's and Keras's random numbers in every test.
SEED = int(os.environ.get("KERAS_MEGAN_TEST_SEED", "0"))
#: Seconds that a test marked as slow may take; pyproject.toml has those of the others.
SLOW_TIMEOUT = 600


def pytest_report_header():
    return f"random seed: {SEED} (KERAS_MEGAN_TEST_SEED sets another)"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(SEED)


@pytest.fixture
def rng():
    return np.random.default_rng(SEED)
