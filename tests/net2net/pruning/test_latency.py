"""Latency: budgets by a measure that the test knows, and the clock at work."""

import types

import keras
import numpy as np
import pytest
from keras import layers

from keras_megan import net2net
from keras_megan.net2net.plan import PlanError


@pytest.fixture
def model():
    x = entry = keras.Input((8, 8, 3))
    for index in range(3):
        x = layers.Conv2D(16, 3, padding="same", name=f"conv{index}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(entry, layers.Dense(3)(x))


def as_seconds(model):
    return net2net.count_macs(model) * 1e-9


def test_a_latency_is_met_as_measured(model):
    target = 0.4 * as_seconds(model)
    plan = net2net.prune(model, latency=target, measure=as_seconds)
    assert 0.7 * target < as_seconds(plan.apply()) <= target
    assert "seconds" in plan.summary


def test_a_latency_out_of_reach_is_refused(model):
    with pytest.raises(PlanError, match="seconds cannot be reached"):
        net2net.prune(model, latency=1e-12, measure=as_seconds)


def test_a_table_measures_every_ratio(model):
    rows = net2net.latency_table(
        model, ratios=(0.0, 0.5), measure=as_seconds, scope="local"
    )
    assert [row["ratio"] for row in rows] == [0.0, 0.5]
    small = net2net.prune(model, 0.5, scope="local").apply()
    assert rows[0]["seconds"] == as_seconds(model)
    assert rows[1] == {
        "ratio": 0.5,
        "parameters": small.count_params(),
        "seconds": as_seconds(small),
    }


def test_a_real_measurement_is_the_median_of_the_calls(model, monkeypatch):
    ticks = iter([9.0, 0.0, 1.0, 0.0, 5.0, 0.0, 2.0])
    clock = types.SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr("keras_megan.net2net.pruning.latency.time", clock)
    calls = []
    monkeypatch.setattr(model, "predict_on_batch", lambda x: calls.append(x.shape))
    # The first call warms up: of 1, 5 and 2 seconds the median counts.
    seconds = net2net.measure_latency(model, batch_size=2, repeats=3, warm_up=1)
    assert seconds == 2.0 and calls == [(2, 8, 8, 3)] * 4


@pytest.mark.parametrize(
    ("shape", "dtype"), [((None, None, 3), "float32"), ((None,), "int32")]
)
def test_open_sizes_have_to_be_given(shape, dtype):
    entry = keras.Input(shape, dtype=dtype)
    x = layers.Embedding(5, 4)(entry) if dtype == "int32" else entry
    x = layers.Dense(3)(x)
    model = keras.Model(entry, keras.ops.mean(x, axis=1))
    with pytest.raises(PlanError, match="pass input_shape with every size"):
        net2net.measure_latency(model)
    given = tuple(size or 4 for size in shape)
    assert net2net.measure_latency(model, given, repeats=1, warm_up=0) > 0
    single = [given] if len(given) > 1 else {entry.name: given}
    assert np.isfinite(net2net.measure_latency(model, single, repeats=1, warm_up=0))


def test_repeats_are_positive(model):
    with pytest.raises(PlanError, match="repeats must be at least 1"):
        net2net.measure_latency(model, repeats=0)
