"""Files run on both runtimes, and every way that a GPU run can end is told apart."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from export.errors import ExportError
from export.verify import runtime
from export.verify.runtime import (
    find_vulkan_driver,
    run_on_cpu,
    run_on_gpu,
    time_on_cpu,
)
from tests.export.tiny_graphs import IMAGE, convert
from tests.export.traps import CASES

pytestmark = pytest.mark.slow


@pytest.fixture
def save(tmp_path):
    """Writes a flatbuffer and gives its path."""

    def write(flatbuffer):
        path = tmp_path / "graph.tflite"
        path.write_bytes(flatbuffer)
        return path

    return write


@pytest.fixture
def gpu(save):
    """Skips where no driver is accepted by the GPU runtime."""
    if find_vulkan_driver() is None:
        pytest.skip("no Vulkan driver here; Debian's package chromium has one")
    run = run_on_gpu(save(convert(tf.nn.relu, IMAGE)), [np.ones(IMAGE, "float32")])
    if run.status == "no driver":
        pytest.skip("the GPU runtime accepts none of the Vulkan drivers here")


@pytest.fixture
def broken_driver(monkeypatch, tmp_path):
    """The user names a driver that does not exist."""
    monkeypatch.delenv("VK_ICD_FILENAMES", raising=False)
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "none.json"))


def several(longest, shortest):
    """Ends whose order is neither that of names nor that of computation."""
    last = longest[:, :2] * 3.0
    return last - shortest, longest * 2.0


SHAPES = ((1, 4, 5), (1, 2, 5))


def several_expected(longest, shortest):
    return [longest[:, :2] * 3.0 - shortest, longest * 2.0]


@pytest.fixture
def network(save):
    """A small Keras model, its path as a file, an input and its output."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4), batch_size=1),
            layers.Conv2D(8, 3, padding="same", bias_initializer="normal"),
            layers.LeakyReLU(0.1),
            layers.UpSampling2D(2, interpolation="bilinear"),
            layers.Conv2D(4, 1),
        ]
    )
    path = save(convert(lambda x: model(x, training=False), IMAGE))
    image = np.random.default_rng(2).normal(size=IMAGE).astype("float32")
    return path, image, np.asarray(model(image))


def check_order(outputs, arrays):
    for given, wanted in zip(outputs, several_expected(*arrays), strict=True):
        np.testing.assert_allclose(given, wanted, atol=1e-2)


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_the_cpu_computes_what_keras_computes(network, threads):
    path, image, expected = network
    (output,) = run_on_cpu(path, [image], threads=threads)
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_the_gpu_computes_what_keras_computes(gpu, network):
    path, image, expected = network
    run = run_on_gpu(path, [image], timeout=120)
    assert (run.status, run.fully_accelerated, run.message) == ("done", True, "")
    # Phones' and computers' GPUs compute in half precision.
    np.testing.assert_allclose(run.outputs[0], expected, atol=2e-2)


def test_real_gpus_are_timed_and_software_drivers_are_not(gpu, network, monkeypatch):
    path, image, _ = network
    driver = find_vulkan_driver()
    for software in (True, False):
        named = dataclasses.replace(driver, software=software)
        monkeypatch.setattr(runtime, "find_vulkan_driver", lambda named=named: named)
        seconds = run_on_gpu(path, [image], timeout=120).seconds
        assert seconds is None if software else 0 < seconds < 120


def test_a_file_is_timed_on_the_cpu(network):
    path, image, _ = network
    assert 0 < time_on_cpu(path, [image], threads=1) < 60
    assert 0 < time_on_cpu(path, [image], threads=1, at_most=0.0) < 60


def test_the_cpu_keeps_the_order_of_inputs_and_outputs(save, rng):
    arrays = [rng.normal(size=shape).astype("float32") for shape in SHAPES]
    check_order(run_on_cpu(save(convert(several, *SHAPES)), arrays), arrays)


def test_the_gpu_keeps_the_order_of_inputs_and_outputs(gpu, save, rng):
    arrays = [rng.normal(size=shape).astype("float32") for shape in SHAPES]
    run = run_on_gpu(save(convert(several, *SHAPES)), arrays, timeout=120)
    check_order(run.outputs, arrays)


def test_bytes_stay_bytes_on_the_gpu(gpu, save):
    path = save(
        convert(
            lambda x: tf.cast(tf.cast(x, "float32") + 1.0, "uint8"),
            IMAGE,
            dtype="uint8",
        )
    )
    image = np.arange(256, dtype="uint8").reshape(IMAGE) // 2
    run = run_on_gpu(path, [image], timeout=120)
    assert run.outputs[0].dtype == np.uint8
    np.testing.assert_array_equal(run.outputs[0], run_on_cpu(path, [image])[0])


def test_dynamic_sizes_follow_the_inputs_on_the_cpu(save, rng):
    path = save(convert(lambda x: x * 2.0, tf.TensorSpec((1, None, None, 4))))
    image = rng.normal(size=(1, 3, 5, 4)).astype("float32")
    np.testing.assert_array_equal(run_on_cpu(path, [image])[0], image * 2)


@pytest.mark.parametrize("run", [run_on_cpu, run_on_gpu])
@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [np.zeros(IMAGE, "float64")],
        [np.zeros((1, 8, 8, 3), "float32")],
        [np.zeros((8, 8, 4), "float32")],
        [np.zeros(IMAGE, "float32")] * 2,
    ],
)
def test_inputs_that_do_not_fit_are_explained(save, run, inputs):
    path = save(convert(tf.nn.relu, IMAGE))
    with pytest.raises(ValueError, match="expected inputs .*8, 8, 4.*Received: "):
        run(path, inputs)


@pytest.mark.parametrize("run", [run_on_cpu, run_on_gpu])
def test_files_that_are_not_models_are_explained(tmp_path, run):
    with pytest.raises(ExportError, match="no such file"):
        run(tmp_path / "none.tflite", [])
    (tmp_path / "text.tflite").write_text("a text of some length")
    with pytest.raises(ExportError, match="expected a TFLite model"):
        run(tmp_path / "text.tflite", [])


def test_a_crash_is_reported_and_survived(gpu, save):
    path = save(CASES["product with itself"].trap())
    run = run_on_gpu(path, [np.zeros((1, 16, 8), "float32")], timeout=120)
    assert (run.status, run.outputs, run.fully_accelerated) == ("crashed", (), False)
    assert "already a consumer" in run.message and "\n" not in run.message


def test_a_refusal_names_the_operation(gpu, save):
    path = save(CASES["volume convolution"].trap())
    run = run_on_gpu(path, [np.zeros((1, 4, 4, 4, 4), "float32")], timeout=120)
    assert (run.status, run.outputs, run.fully_accelerated) == ("refused", (), False)
    assert "CONV_3D: Operation is not supported" in run.message
    assert "\n" not in run.message


def test_one_refused_operation_does_not_fall_back_silently(gpu, save):
    path = save(convert(lambda x: tf.argmin(tf.nn.relu(x), -1, "int32"), IMAGE))
    assert run_on_gpu(path, [np.zeros(IMAGE, "float32")]).status == "refused"


def test_a_run_that_takes_too_long_is_stopped(gpu, save):
    path = save(convert(tf.nn.relu, IMAGE))
    run = run_on_gpu(path, [np.zeros(IMAGE, "float32")], timeout=0.01)
    assert run.status == "timed out" and "0.01 seconds" in run.message


@pytest.mark.usefixtures("broken_driver")
@pytest.mark.parametrize("trap", ["volume convolution", "product with itself", None])
def test_without_a_driver_no_verdict_on_the_model_is_given(save, trap):
    path = save(CASES[trap].trap() if trap else convert(tf.nn.relu, IMAGE))
    shape = runtime.read_graph(path).inputs[0].shape
    run = run_on_gpu(path, [np.zeros(shape, "float32")])
    assert (run.status, run.outputs, run.fully_accelerated) == ("no driver", (), False)
    assert "Vulkan driver" in run.message and "\n" not in run.message


@pytest.mark.usefixtures("broken_driver")
def test_a_driver_chosen_by_the_user_is_not_replaced():
    assert find_vulkan_driver() is None


def test_the_older_environment_variable_counts_too(monkeypatch, tmp_path):
    monkeypatch.delenv("VK_DRIVER_FILES", raising=False)
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "none.json"))
    assert find_vulkan_driver() is None


def test_a_device_that_the_runtime_rejects_does_not_count_as_a_driver(
    broken_driver, monkeypatch, save
):
    """The loader may find what the runtime then turns down."""
    device = runtime.VulkanDriver("too small", True, None)
    monkeypatch.setattr(runtime, "find_vulkan_driver", lambda: device)
    run = run_on_gpu(save(convert(tf.nn.relu, IMAGE)), [np.zeros(IMAGE, "float32")])
    assert run.status == "no driver"


@pytest.mark.parametrize(
    ("machine", "choice"),
    [
        ({None: [("real", "discrete"), ("mesa", "cpu")], "swift": "SW"}, "real"),
        ({None: [("mesa", "cpu")], "swift": [("swiftshader", "cpu")]}, "swiftshader"),
        ({None: [("mesa", "cpu"), ("phone", "integrated")], "swift": []}, "phone"),
        ({None: [("mesa", "cpu")], "swift": []}, "mesa"),
        ({None: [], "swift": []}, None),
    ],
)
def test_real_drivers_come_before_software(monkeypatch, tmp_path, machine, choice):
    for variable in runtime.DRIVER_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    manifest = tmp_path / "swiftshader.json"
    manifest.write_text("{}")
    monkeypatch.setattr(runtime, "SWIFTSHADER", ("/none", str(manifest)))
    monkeypatch.setattr(
        runtime, "_devices", lambda files: machine["swift" if files else None]
    )
    found = find_vulkan_driver()
    assert (found and found.device) == choice
    if choice == "swiftshader":
        assert found.manifests == str(manifest) and found.software


def test_the_vulkan_loader_is_really_asked(gpu):
    found = find_vulkan_driver()
    assert found.device and found.device.isprintable()


def test_a_machine_without_the_vulkan_loader_has_no_driver(monkeypatch, save):
    """The child finds no libvulkan and says so with its exit status."""
    child = runtime.subprocess.CompletedProcess([], 3, "", "refused: libvulkan.so.1")
    monkeypatch.setattr(runtime, "_start", lambda *arguments: child)
    runtime._devices.cache_clear()
    try:
        assert find_vulkan_driver() is None
        run = run_on_gpu(save(convert(tf.nn.relu, IMAGE)), [np.zeros(IMAGE, "float32")])
        assert run.status == "no driver"
    finally:
        runtime._devices.cache_clear()
