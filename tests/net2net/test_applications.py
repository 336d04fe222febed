"""Whole architectures of `keras.applications`; the rest of the 40 are a benchmark.

One of each kind of structure: residual bottlenecks, inverted residuals with squeeze and
excite, dense concatenation, NASNet's cells, layer-normalised blocks with layer scale.
"""

import keras
import numpy as np
import pytest

from keras_megan import net2net
from tests.net2net.helpers import largest_difference, run

pytestmark = pytest.mark.slow

MODELS = {
    "ResNet50V2": 64,
    "MobileNetV3Small": 64,
    "EfficientNetV2B0": 64,
    "DenseNet121": 32,
    "NASNetMobile": 32,
    "ConvNeXtTiny": 32,
}


def build(name):
    """A model without its classifier, with weights that hide no error."""
    random = np.random.default_rng(0)
    model = getattr(keras.applications, name)(
        weights=None,
        include_top=False,
        pooling="avg",
        input_shape=(MODELS[name], MODELS[name], 3),
    )
    x = keras.layers.Dense(10)(model.output)
    model = keras.Model(model.input, x)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            continue
        for weight in layer.weights:
            if len(weight.shape) != 1 or "float" not in weight.dtype:
                continue
            centred = weight.name in ("beta", "moving_mean", "bias")
            low, high = (-0.1, 0.1) if centred else (0.8, 1.2)
            weight.assign(random.uniform(low, high, weight.shape))
    size = (2, MODELS[name], MODELS[name], 3)
    return model, random.uniform(0, 255, size).astype("float32")


@pytest.mark.parametrize("name", MODELS)
def test_widened_and_pruned(name):
    model, images = build(name)
    graph = net2net.ChannelGraph(model)
    expected = run(model, images)
    plan = net2net.widen(graph, factor=1.25)
    wide = plan.apply()
    assert largest_difference(expected, run(wide, images)) <= 1e-5
    assert net2net.count_params(model) * 1.2 < net2net.count_params(wide)
    del wide
    small = net2net.prune(graph, ratio=0.5, scope="local").apply()
    assert np.all(np.isfinite(run(small, images)[0]))
    assert net2net.count_params(small) < 0.45 * net2net.count_params(model)
    assert net2net.count_macs(small) < 0.45 * net2net.count_macs(model)


def test_a_saved_application_comes_back(tmp_path):
    model, images = build("MobileNetV3Small")
    for plan in (
        net2net.widen(model, factor=1.25),
        net2net.prune(model, ratio=0.5, scope="local"),
    ):
        new = plan.apply()
        new.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
        assert largest_difference(run(new, images), run(again, images)) == 0


def test_adapted_normalization_keeps_its_statistics():
    entry = keras.Input((4, 4, 3))
    norm = keras.layers.Normalization()
    data = np.random.default_rng(0).normal(3.0, 2.0, (8, 4, 4, 3)).astype("float32")
    norm.adapt(data)
    x = keras.layers.Conv2D(4, 3, activation="relu")(norm(entry))
    model = keras.Model(entry, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    wide = net2net.widen(model, factor=2).apply()
    assert largest_difference(run(model, data), run(wide, data)) <= 1e-6
