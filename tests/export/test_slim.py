"""Slimmed files compute the same, keep what readers need, and are smaller."""

import warnings

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from export.build.slim import slim
from export.verify.runtime import run_on_cpu
from tests.export.tiny_graphs import IMAGE, convert


@pytest.fixture(scope="module", params=["float32", "int8"])
def flatbuffer(request):
    """A chain of convolutions whose inner tensors all have the same shape."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(IMAGE[1:], batch_size=1)
    x = inputs
    for i in range(6):
        x = layers.Conv2D(16, 3, padding="same", name=f"a_layer_of_a_long_name_{i}")(x)
        x = layers.LeakyReLU(0.1)(x)
    model = keras.Model(inputs, x)
    random = np.random.default_rng(0)
    samples = [random.normal(size=IMAGE).astype("float32") for _ in range(4)]
    options = {"calibrate": samples} if request.param == "int8" else {}
    with warnings.catch_warnings():
        # The converter expects ranges for inputs that stay float32, too.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")
        return convert(lambda frames: model(frames, training=False), IMAGE, **options)


def read(flatbuffer):
    return schema.ModelT.InitFromPackedBuf(flatbuffer, 0)


def test_outputs_stay_the_same_bit_by_bit(flatbuffer, tmp_path):
    image = np.random.default_rng(1).normal(size=IMAGE).astype("float32")
    results = []
    for name, content in (("full", flatbuffer), ("slim", slim(flatbuffer))):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(content)
        results.append(run_on_cpu(path, [image])[0])
    np.testing.assert_array_equal(*results)
    assert np.ptp(results[0]) > 0


def test_it_is_smaller_and_slimming_again_changes_nothing_more(flatbuffer):
    once = slim(flatbuffer)
    buffers = read(flatbuffer).buffers
    weights = sum(len(buffer.data) for buffer in buffers if buffer.data is not None)
    assert len(once) - weights < 0.85 * (len(flatbuffer) - weights)
    assert len(slim(once)) == len(once)


def test_weights_scales_shapes_and_the_names_of_inputs_and_outputs_stay(flatbuffer):
    before, after = read(flatbuffer), read(slim(flatbuffer))
    (old,), (new,) = before.subgraphs, after.subgraphs
    ends = {*old.inputs, *old.outputs}
    assert [list(op.inputs) for op in old.operators] == [
        list(op.inputs) for op in new.operators
    ]
    for index, (was, now) in enumerate(zip(old.tensors, new.tensors, strict=True)):
        assert list(was.shape) == list(now.shape) and was.type == now.type
        assert now.name == (was.name if index in ends else None)
        data = before.buffers[was.buffer].data
        if data is not None:
            np.testing.assert_array_equal(data, after.buffers[now.buffer].data)
        scale = None if was.quantization is None else was.quantization.scale
        if scale is None:
            assert now.quantization is None
        else:
            np.testing.assert_array_equal(scale, now.quantization.scale)
            np.testing.assert_array_equal(
                was.quantization.zeroPoint, now.quantization.zeroPoint
            )


def test_weights_are_aligned_as_the_schema_asks(flatbuffer):
    content = slim(flatbuffer)
    model = schema.Model.GetRootAs(content, 0)
    found = 0
    for index in range(model.BuffersLength()):
        data = model.Buffers(index).DataAsNumpy()
        if isinstance(data, np.ndarray) and data.size >= 16:
            whole = np.frombuffer(content, np.uint8)
            start = data.__array_interface__["data"][0]
            assert (start - whole.__array_interface__["data"][0]) % 16 == 0
            found += 1
    assert found >= 6
