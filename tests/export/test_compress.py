"""Pruning to a budget: it is met, and what comes out is a network that converts."""

import keras
import numpy as np
import pytest

from export.build.slim import slim
from export.build.subjects import load_subject
from export.build.tflite import convert
from export.build.trace import trace
from export.compress import compress
from export.errors import ExportError
from keras_megan import net2net

pytestmark = pytest.mark.slow

SIDE = 16


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """A classifier of images with 21,000 parameters."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((SIDE, SIDE, 3))
    for number, width in enumerate((16, 32, 48)):
        x = keras.layers.Conv2D(width, 3, padding="same", name=f"conv_{number}")(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(5, name="classes")(x)
    path = tmp_path_factory.mktemp("model") / "classifier.keras"
    keras.Model(inputs, outputs).save(path)
    return load_subject(str(path))


def count(model):
    return {
        "macs": net2net.count_macs(model),
        "parameters": net2net.count_params(model),
    }


@pytest.mark.parametrize("kind", ["macs", "parameters"])
def test_the_budget_is_met_and_used(subject, kind):
    wanted = 0.5 * count(subject.model)[kind]
    pruned = compress(subject, SIDE, SIDE, {kind: wanted}, round_to=1)
    assert 0.9 * wanted < count(pruned)[kind] <= wanted
    images = np.random.default_rng(0).uniform(size=(2, SIDE, SIDE, 3))
    assert pruned.predict_on_batch(images).shape == (2, 5)
    assert pruned.get_layer("classes").units == 5


def test_a_budget_of_bytes_is_met_by_measuring_the_file(subject):
    def size(model):
        return len(slim(convert(trace(subject, SIDE, SIDE), model)))

    wanted = int(0.6 * size(subject.model))
    pruned = compress(subject, SIDE, SIDE, {"file_bytes": wanted}, round_to=1)
    small = load_like(subject, pruned)
    made = len(slim(convert(trace(small, SIDE, SIDE), pruned)))
    assert 0.9 * wanted < made <= wanted


def load_like(subject, model):
    return type(subject)(model, subject.name, subject.largest)


@pytest.mark.parametrize(
    ("budget", "line"),
    [
        ({"macs": 10}, "Cannot prune to macs 10"),
        ({"file_bytes": 10**9}, "a budget must be smaller. Received 1,000,000,000"),
        ({"file_bytes": 200}, "No file of 200 bytes can be reached"),
    ],
)
def test_budgets_that_cannot_be_met_are_refused(subject, budget, line):
    with pytest.raises(ExportError, match=line):
        compress(subject, SIDE, SIDE, budget, round_to=1)
