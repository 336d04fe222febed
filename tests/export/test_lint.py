"""Every rule finds its trap, spares its clean twins, and is true on the runtime."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from export.errors import ExportError
from export.lint.check import RULES, TARGETS, layer_of, lint, summary
from export.lint.rules import (
    AT_MOST_SIX_AXES,
    DISTINCT,
    REFUSED_OPERATIONS,
    TRIED_OPERATIONS,
)
from export.lint.traps import ELEMENTWISE
from export.verify.runtime import find_vulkan_driver, run_on_cpu, run_on_gpu
from tests.export import tiny_graphs
from tests.export.tiny_graphs import CLIP, IMAGE, convert
from tests.export.traps import CASES, REFUSED, SEVEN, indices

CLEAN = [
    pytest.param(twin, id=f"{name}, twin {number}")
    for name, case in CASES.items()
    for number, twin in enumerate(case.clean)
]


@pytest.fixture(scope="session")
def swiftshader():
    driver = find_vulkan_driver()
    if driver is None or "SwiftShader" not in driver.device:
        pytest.skip("the rules were measured on SwiftShader, which is not here")


def sample_inputs(flatbuffer, rng):
    """Normal numbers, or small indices; 8 where a size is not fixed."""
    arrays = []
    for _, shape, dtype in summary(flatbuffer).inputs:
        shape = [8 if size is None else size for size in shape]
        drawn = rng.integers(0, 3, shape) if "int" in dtype else rng.normal(size=shape)
        arrays.append(drawn.astype(dtype))
    return arrays


def on_gpu(flatbuffer, rng, folder, tolerance=1e-3):
    """What became of a graph on the GPU, in a word, and the run."""
    path = folder / "graph.tflite"
    path.write_bytes(flatbuffer)
    inputs = sample_inputs(flatbuffer, rng)
    run = run_on_gpu(path, inputs, timeout=120)
    if run.status != "done":
        return run.status, run
    assert run.fully_accelerated
    expected = run_on_cpu(path, inputs)
    for given, wanted in zip(run.outputs, expected, strict=True):
        scale = max(1.0, float(np.abs(wanted.astype("float64")).max()))
        if not np.allclose(given, wanted, atol=tolerance * scale, rtol=0):
            return "wrong", run
    return "right", run


@pytest.mark.parametrize("name", CASES)
def test_a_rule_finds_its_trap(name):
    case = CASES[name]
    entry = RULES[case.rule]
    flatbuffer = case.trap()
    for target in TARGETS:
        found = [f for f in lint(flatbuffer, target) if f.rule == case.rule]
        assert bool(found) == (target in entry.targets)
        for finding in found:
            assert finding.severity == entry.severity and finding.message
            assert finding.tensor
        assert not found or case.operation in {f.operation for f in found}


@pytest.mark.parametrize("twin", CLEAN)
def test_a_clean_twin_has_no_findings(twin):
    flatbuffer = twin()
    assert not any(lint(flatbuffer, target) for target in TARGETS)


def test_every_rule_has_a_trap():
    assert {case.rule for case in CASES.values()} == set(RULES)
    assert all(case.clean for case in CASES.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].fails])
def test_a_trap_fails_on_the_gpu(name, swiftshader, rng, tmp_path):
    outcome, run = on_gpu(CASES[name].trap(), rng, tmp_path)
    assert outcome == CASES[name].fails, run.message
    assert outcome == "wrong" or run.message


@pytest.mark.slow
@pytest.mark.parametrize("twin", CLEAN)
def test_a_clean_twin_is_right_on_the_gpu(twin, swiftshader, rng, tmp_path):
    outcome, run = on_gpu(twin(), rng, tmp_path)
    assert outcome == "right", run.message


def test_flex_operations_are_refused_on_cpus_too(rng, tmp_path):
    path = tmp_path / "graph.tflite"
    path.write_bytes(CASES["flex"].trap())
    with pytest.raises(RuntimeError, match="Select TensorFlow op"):
        run_on_cpu(path, sample_inputs(path, rng))


@pytest.mark.parametrize("axes", [6, 7])
@pytest.mark.parametrize("operation", sorted(AT_MOST_SIX_AXES))
def test_the_cpu_reduces_six_axes_and_refuses_files_with_seven(
    operation, axes, rng, tmp_path
):
    reduce = {
        "MEAN": lambda x: ops.mean(x, axis=-2),
        "REDUCE_MAX": lambda x: ops.max(x, axis=-2),
        "REDUCE_MIN": lambda x: ops.min(x, axis=-2),
        "SOFTMAX": ops.softmax,
        "SUM": lambda x: ops.sum(x, axis=-2),
    }[operation]
    shape = SEVEN[-axes:]
    flatbuffer = convert(lambda x: reduce(ops.reshape(x, shape) * 2.0), IMAGE)
    assert operation in summary(flatbuffer).operations
    path = tmp_path / "graph.tflite"
    path.write_bytes(flatbuffer)
    inputs = sample_inputs(path, rng)
    found = [f.operation for f in lint(flatbuffer, "cpu")]
    if axes == 6:
        assert not found and len(run_on_cpu(path, inputs)) == 1
    else:
        assert found == [operation]
        with pytest.raises(RuntimeError, match="failed to prepare"):
            run_on_cpu(path, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("operation", REFUSED_OPERATIONS)
def test_every_operation_listed_as_refused_is_refused(
    operation, swiftshader, rng, tmp_path
):
    flatbuffer = REFUSED[operation]()
    assert operation in summary(flatbuffer).operations
    found = lint(flatbuffer, "gpu")
    assert operation in {f.operation for f in found if f.rule == "refused operation"}
    assert on_gpu(flatbuffer, rng, tmp_path)[0] == "refused"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning")
def test_operations_listed_as_tried_are_right(swiftshader, rng, tmp_path):
    found = set()
    for flatbuffer, tolerance in tiny_graphs.many_operations():
        found |= set(summary(flatbuffer).operations)
        outcome, run = on_gpu(flatbuffer, rng, tmp_path, tolerance)
        assert outcome == "right", run.message
    clean = [twin() for case in CASES.values() for twin in case.clean]
    found |= {name for file in clean for name in summary(file).operations}
    assert not TRIED_OPERATIONS - found


def binary_operations(same):
    """One graph for each operation with two operands, on one tensor or two."""
    functions = {
        "DIV": tf.divide,
        "EQUAL": tf.equal,
        "FLOOR_DIV": tf.math.floordiv,
        "FLOOR_MOD": tf.math.floormod,
        "GREATER": tf.greater,
        "GREATER_EQUAL": tf.greater_equal,
        "LESS": tf.less,
        "LESS_EQUAL": tf.less_equal,
        "MAXIMUM": tf.maximum,
        "MINIMUM": tf.minimum,
        "NOT_EQUAL": tf.not_equal,
        "POW": tf.pow,
        "SQUARED_DIFFERENCE": tf.math.squared_difference,
        "SUB": tf.subtract,
    }
    made = {name: (f, IMAGE, "float32") for name, f in functions.items()}
    made["LOGICAL_AND"] = (tf.logical_and, IMAGE, "bool")
    made["LOGICAL_OR"] = (tf.logical_or, IMAGE, "bool")
    made["BATCH_MATMUL"] = (tf.matmul, (1, 8, 8), "float32")
    return {
        name: (lambda x, y, f=f: f(x, x if same else y), shape, dtype)
        for name, (f, shape, dtype) in made.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("operation", sorted(DISTINCT))
def test_operations_listed_as_needing_distinct_operands_do_need_them(
    operation, swiftshader, rng, tmp_path
):
    function, shape, dtype = binary_operations(same=True)[operation]
    flatbuffer = convert(function, shape, shape, dtype=dtype)
    assert summary(flatbuffer).operations == {operation: 1}
    assert [f.rule for f in lint(flatbuffer, "gpu")] == ["same tensor twice"]
    assert on_gpu(flatbuffer, rng, tmp_path)[0] in ("refused", "crashed")


@pytest.mark.slow
@pytest.mark.parametrize("operation", sorted(ELEMENTWISE))
def test_no_constant_may_widen_the_batch(operation, swiftshader, rng, tmp_path):
    function = {
        "ADD": tf.add,
        "MUL": tf.multiply,
        **{name: f for name, (f, *_) in binary_operations(same=False).items()},
    }[operation]
    # Divided by the tensor: a division by a constant would become a product.
    flatbuffer = convert(
        lambda x: function(tiny_graphs.constant(4, 1, 1, 4) ** 2 + 1, x * x + 1), IMAGE
    )
    found = [f for f in lint(flatbuffer, "gpu") if f.operation == operation]
    assert [f.rule for f in found] == ["constant widens the batch"]
    assert on_gpu(flatbuffer, rng, tmp_path)[0] == "wrong"


def test_findings_name_the_keras_layer():
    inputs = keras.Input((8, 8, 4), batch_size=4)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="expand")(inputs)
    tail = keras.Sequential([UnderTest(name="shuffle")], name="tail")
    model = keras.Model(inputs, layers.Conv2D(4, 1, name="last")(tail(x)), name="net")
    flatbuffer = convert(lambda x: model(x, training=False), CLIP)
    (found,) = [f for f in lint(flatbuffer, "gpu") if f.rule == "blocks of a batch"]
    assert found.layer.split("/")[-1].startswith("shuffle")
    assert "tail" in found.layer and found.layer.startswith("net")


class UnderTest(layers.Layer):
    def call(self, inputs):
        return keras.ops.depth_to_space(inputs, 2)


def test_the_last_operation_is_distinguished_from_its_inputs():
    inputs = keras.Input((8, 8, 4), batch_size=4)
    x = layers.LeakyReLU(name="before")(inputs)
    model = keras.Model(inputs, UnderTest(name="shuffle")(x), name="net")
    flatbuffer = convert(lambda x: model(x, training=False), CLIP)
    (found,) = lint(flatbuffer, "gpu")
    assert found.tensor and found.layer.split("/")[-1].startswith(("before", "shuffle"))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("net_1/window_1/strided_slice_3", "net_1/window_1"),
        ("net_1/a_1/Relu;net_1/a_1/BiasAdd;net_1/a_1/convolution", "net_1/a_1"),
        ("net_1/dense_1/Tensordot;net_1/norm_1/batchnorm/mul_1", "net_1/dense_1"),
        ("net_1/add;net_1/block_1/conv_1/BiasAdd", "net_1/block_1/conv_1"),
        ("net_1/conv_1/convolution/ReadVariableOp", "net_1/conv_1"),
        ("net_1/last_1/Relu:0", "net_1/last_1"),
        ("StatefulPartitionedCall:0", ""),
        ("serving_default_frames:0", ""),
        ("arith.constant7", ""),
        ("", ""),
    ],
)
def test_layers_are_found_in_tensor_names(name, layer):
    assert layer_of(name) == layer


def test_a_summary_counts_what_is_in_the_file():
    flatbuffer = convert(lambda x: tiny_graphs.conv(tiny_graphs.conv(x)), CLIP)
    found = summary(flatbuffer)
    assert found.operations == {"CONV_2D": 2}
    assert found.largest_rank == 4 and found.file_bytes == len(flatbuffer)
    assert [(s, d) for _, s, d in found.inputs] == [(CLIP, "float32")]
    assert [(s, d) for _, s, d in found.outputs] == [(CLIP, "float32")]
    # One kernel of 3 x 3 x 4 x 4 floats, stored once, and a bias of zeros.
    assert found.weight_bytes in range(576, 576 + 32 + 1)
    assert found.tensors >= 4


def test_weights_behind_the_flatbuffer_count_and_are_constants():
    inside = CASES["constant times tensor"].trap()
    behind = tiny_graphs.with_weights_behind(inside)
    assert summary(behind).weight_bytes == summary(inside).weight_bytes >= 5 * 16 * 4
    assert lint(behind, "gpu") == lint(inside, "gpu") != []


def test_errors_come_before_warnings():
    both = convert(
        lambda x, y: (x[0] * 2.0, keras.ops.bitwise_xor(y, y + 1)),
        IMAGE,
        indices(1, 8),
    )
    assert [f.severity for f in lint(both, "gpu")] == ["error", "warning"]


def test_tried_and_refused_operations_are_known_to_the_schema_and_disjoint():
    known = summary(convert(tf.nn.relu, IMAGE)).operations
    assert set(known) <= TRIED_OPERATIONS
    assert not TRIED_OPERATIONS & set(REFUSED_OPERATIONS)
    assert set(REFUSED) == set(REFUSED_OPERATIONS)


def test_a_file_that_is_not_a_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(ExportError, match="Unknown target 'tpu'; choose from cpu, gpu"):
        lint(b"", "tpu")
    with pytest.raises(ExportError, match="expected a TFLite model"):
        lint(b"\x89PNG....", "gpu")
    with pytest.raises(ExportError, match="no such file"):
        summary(tmp_path / "none.tflite")
    whole = convert(tiny_graphs.conv, IMAGE)
    for length in range(8, len(whole) - 200, 37):
        with pytest.raises(ExportError, match="damaged or cut short"):
            summary(whole[:length])
