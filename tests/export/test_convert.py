"""What the program publishes is right, and what is not right is not published."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from export import convert as program
from export.build import precisions
from export.build.flatbuffer import summary
from export.build.footage import load_footage
from export.build.make import Workshop
from export.build.precisions import PRECISIONS
from export.build.quantize import LEAST_RANGE, widen
from export.build.settings import PRECISION_NAMES, Settings, variants
from export.build.subjects import load_subject
from export.errors import ExportError
from export.lint.check import Finding
from export.verify.compare import Budget
from export.verify.report import findings_table
from export.verify.runtime import run_on_cpu
from keras_megan.video.models.artefact import read_info
from tests.export.conftest import HEIGHT, WIDTH, run_export

pytestmark = pytest.mark.slow

NAMES = {
    f"tiny_{WIDTH}x{HEIGHT}_cpu_{precision}{interface}.tflite"
    for precision in ("fp32", "fp16", "dynamic_int8", "int8")
    for interface in ("", "_uint8")
}


def settings(saved, out, **changes):
    return Settings(
        **{
            "model": str(saved),
            "out": out,
            "formats": ("tflite",),
            "height": HEIGHT,
            "width": WIDTH,
            "precisions": ("fp32",),
            "targets": ("cpu",),
            "windows": 1,
            **changes,
        }
    )


def test_exactly_the_requested_files_are_published(exported):
    expected = {*NAMES, "tiny_savedmodel", "report.json", "report.html"}
    assert {path.name for path in exported.iterdir()} == expected


@pytest.mark.parametrize("precision", ["fp32", "fp16", "dynamic_int8", "int8"])
def test_each_precision_is_as_near_to_keras_as_it_must_be(exported, network, precision):
    clip = load_footage("demo", HEIGHT, WIDTH)[0][:7]
    frames = np.random.default_rng(3).uniform(size=(4, HEIGHT, WIDTH, 3))
    frames = frames.astype("float32")
    path = exported / f"tiny_{WIDTH}x{HEIGHT}_cpu_{precision}.tflite"
    ours = network.predict_on_batch(frames[None])[0]
    theirs = run_on_cpu(path, [frames])[0]
    assert theirs.shape == clip.shape == ours.shape
    error = float(np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(ours**2)))
    assert error < {"fp32": 1e-5, "fp16": 1e-2}.get(precision, 0.1)
    assert precision == "fp32" or error > 1e-6, "it should be rounded"


def test_a_file_with_bytes_as_input_and_output_is_the_same_network(exported, network):
    frames = np.random.default_rng(4).integers(0, 256, (4, HEIGHT, WIDTH, 3), np.uint8)
    path = exported / f"tiny_{WIDTH}x{HEIGHT}_cpu_fp32_uint8.tflite"
    ours = network.predict_on_batch(frames[None].astype("float32") / 255)[0]
    ours = np.rint(np.clip(ours, 0, 1) * 255)
    theirs = run_on_cpu(path, [frames])[0]
    assert theirs.dtype == np.uint8
    assert np.abs(ours - theirs.astype(float)).max() <= 1
    assert np.mean(ours == theirs) > 0.99


def test_the_saved_model_runs_without_this_package_and_without_keras(
    exported, network, tmp_path
):
    frames = np.random.default_rng(5).uniform(size=(2, 4, 20, 28, 3)).astype("float32")
    np.save(tmp_path / "frames.npy", frames)
    # Another size and number of clips than anything before.
    script = (
        "import sys, numpy as np\n"
        "sys.modules['keras_megan'] = sys.modules['keras'] = None\n"
        "import tensorflow as tf\n"
        f"served = tf.saved_model.load({str(exported / 'tiny_savedmodel')!r})\n"
        "served = served.signatures['serving_default']\n"
        "frames = tf.constant(np.load('frames.npy'))\n"
        "np.save('output.npy', served(frames=frames)['output'].numpy())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = network.predict_on_batch(frames)
    np.testing.assert_allclose(np.load(tmp_path / "output.npy"), expected, atol=1e-5)


def test_a_file_describes_itself_and_holds_no_inner_names(exported):
    path = exported / f"tiny_{WIDTH}x{HEIGHT}_cpu_int8.tflite"
    info = read_info(path)
    assert (info.model, info.frames_in, info.frames_out) == ("tiny", 4, 7)
    assert (info.height, info.width, info.scale) == (HEIGHT, WIDTH, 4)
    assert "int8" in info.precision
    assert b"progressive" not in path.read_bytes()
    assert b"fusion_0" not in path.read_bytes()


def test_tensors_have_at_most_four_axes_and_operations_are_built_in(exported):
    for name in NAMES:
        found = summary(exported / name)
        assert found.largest_rank <= 4, name
        assert not [op for op in found.operations if op.startswith(("Flex", "CUSTOM"))]


def test_the_report_holds_the_measurements(exported):
    report = json.loads((exported / "report.json").read_text())
    rows = {row["file"]: row for row in report["artefacts"]}
    assert set(rows) == {*NAMES, "tiny_savedmodel"}
    for name in NAMES:
        row = rows[name]
        size = (exported / name).stat().st_size
        assert row["published"] and row["file_bytes"] == size
        (check,) = row["checks"]
        assert check["status"] == "passed" and check["seconds"] > 0
    sizes = [rows[f"tiny_{WIDTH}x{HEIGHT}_cpu_{p}.tflite"] for p in ("fp32", "fp16")]
    assert sizes[1]["file_bytes"] < sizes[0]["file_bytes"]
    assert report["multiply_adds"] > 0 and report["parameters"] > 0
    page = (exported / "report.html").read_text()
    assert all(f"href='{name}'" in page for name in NAMES)
    assert page.count("data:image/png;base64,") >= len(NAMES)
    assert page.count(" ms<td") == len(NAMES)


def test_findings_are_grouped_by_rule_and_name_operations_and_layers():
    found = [
        Finding("axes", "error", name, "t", f"net/<layer {n}>", f"{name} {n}: fold")
        for n, name in enumerate(["ADD"] * 5 + ["MUL"] * 3)
    ]
    other = Finding("types", "error", "CAST", "t", "net/cast", "use int32")
    page = findings_table([*found, other])
    assert page.count("<tr>") == 3 and "error: axes, 8 times" in page
    assert "ADD 5, MUL 3" in page and "ADD 0: fold" in page and "ADD 1" not in page
    assert "net/&lt;layer 5&gt;<br>and 2 more" in page and "use int32" in page
    assert findings_table([]) == ""


def test_a_file_over_its_budget_is_not_published_and_the_export_fails(
    saved, tmp_path, monkeypatch
):
    strict = Budget(largest_error=0.0)
    fp16 = PRECISIONS["fp16"]
    changed = precisions.Precision(fp16.words, fp16.build, strict)
    monkeypatch.setitem(PRECISIONS, "fp16", changed)
    wanted = settings(saved, tmp_path, precisions=("fp32", "fp16"))
    with pytest.raises(ExportError, match=r"Not published: .*_fp16.tflite"):
        program.export(wanted, Console(quiet=True))
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {
        f"tiny_{WIDTH}x{HEIGHT}_cpu_fp32.tflite",
        "report.json",
        "report.html",
    }
    rows = json.loads((tmp_path / "report.json").read_text())["artefacts"]
    assert "largest error" in rows[1]["message"]
    assert not rows[1]["published"]


@pytest.mark.parametrize("allowed", [False, True])
def test_without_a_driver_the_gpu_check_is_not_done_and_never_passes(
    saved, tmp_path, monkeypatch, allowed
):
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "none.json"))
    out = tmp_path / "out"
    wanted = settings(saved, out, targets=("gpu",), allow_unverified=allowed)
    if allowed:
        program.export(wanted, Console(quiet=True))
    else:
        with pytest.raises(ExportError, match="Not published"):
            program.export(wanted, Console(quiet=True))
    row = json.loads((out / "report.json").read_text())["artefacts"][0]
    status = {check["runtime"]: check["status"] for check in row["checks"]}
    assert status == {"gpu": "not done", "cpu": "passed"}
    assert row["published"] is allowed and "Vulkan driver" in row["message"]
    assert (out / row["file"]).exists() is allowed


def test_the_graph_for_gpus_is_right_on_the_gpu_runtime(saved, tmp_path, vulkan):
    wanted = settings(
        saved, tmp_path, targets=("gpu",), interfaces=("float32", "uint8")
    )
    program.export(wanted, Console(quiet=True))
    for row in json.loads((tmp_path / "report.json").read_text())["artefacts"]:
        checks = {check["runtime"]: check for check in row["checks"]}
        assert checks["gpu"]["status"] == checks["cpu"]["status"] == "passed"
        assert checks["gpu"]["fully_accelerated"] is True
        assert not [f for f in row["findings"] if f["severity"] == "error"]
        assert "GATHER" not in row["operations"]


def test_an_image_network_is_exported_too(tmp_path):
    network = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=10
    )
    path = tmp_path / "mobilenet.keras"
    network.save(path)
    out = tmp_path / "out"
    wanted = Settings(
        str(path),
        out,
        height=32,
        width=32,
        precisions=("fp32", "dynamic_int8", "int8"),
        targets=("cpu",),
        calibration="demo",
        windows=2,
    )
    program.export(wanted, Console(quiet=True))
    images = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype("float32")
    for precision in ("fp32", "dynamic_int8", "int8"):
        output = run_on_cpu(out / f"mobilenet_32x32_cpu_{precision}.tflite", [images])
        expected = network.predict_on_batch(images)
        np.testing.assert_allclose(output[0], expected, atol=5e-3)


def test_int8_of_a_layer_that_is_always_0_is_a_file_that_runs(tmp_path):
    # A convolution that has died in training: XNNPACK refuses steps of 1e-12.
    inputs = keras.Input((32, 32, 3))
    bias = keras.initializers.Constant(-100.0)
    dead = keras.layers.Conv2D(4, 3, activation="relu", bias_initializer=bias)(inputs)
    alive = keras.layers.Conv2D(4, 3)(inputs)
    behind = keras.layers.Conv2D(4, 1)(dead)
    network = keras.Model(inputs, keras.layers.Add()([behind, alive]))
    path = tmp_path / "dead.keras"
    network.save(path)
    wanted = Settings(
        str(path),
        tmp_path / "out",
        height=32,
        width=32,
        formats=("tflite",),
        precisions=("int8",),
        targets=("cpu",),
        calibration="demo",
        windows=1,
    )
    program.export(wanted, Console(quiet=True))
    images = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype("float32")
    (output,) = run_on_cpu(tmp_path / "out" / "dead_32x32_cpu_int8.tflite", [images])
    expected = network.predict_on_batch(images)
    error = np.sqrt(np.square(output - expected).mean())
    assert error < 0.1 * np.sqrt(np.square(expected).mean())


def test_ranges_are_widened_up_to_the_least_one():
    ranges = {
        "dead": {"min": np.zeros((1, 1), np.float32), "max": np.zeros((1, 1))},
        "alive": {"min": np.float32([-1]), "max": np.float32([2])},
        "weights": {"min": np.zeros(3, np.float32), "max": np.zeros(3)},
        "no range": {},
    }
    widen(ranges)
    assert ranges["dead"]["max"] == pytest.approx(LEAST_RANGE)
    assert ranges["alive"]["max"] == 2 and not ranges["weights"]["max"].any()


def test_a_size_that_an_image_network_cannot_take_is_refused(tmp_path):
    inputs = keras.Input((16, 16, 3))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    path = tmp_path / "flat.keras"
    keras.Model(inputs, outputs).save(path)
    wanted = Settings(str(path), tmp_path / "out", precisions=("fp32",))
    with pytest.raises(ExportError, match="takes images of 16x16 only.*--height 16"):
        program.export(wanted, Console(quiet=True))


def test_an_operation_without_a_built_in_counterpart_is_named(tmp_path):
    inputs = keras.Input((8, 8, 3))
    outputs = keras.ops.erfinv(inputs)
    path = tmp_path / "odd.keras"
    keras.Model(inputs, outputs).save(path)
    wanted = Settings(
        str(path),
        tmp_path / "out",
        formats=("tflite",),
        height=8,
        width=8,
        precisions=("fp32",),
        targets=("cpu",),
    )
    with pytest.raises(ExportError, match="Not published"):
        program.export(wanted, Console(quiet=True))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "Erfinv" in report["artefacts"][0]["message"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--model", "megan_edge"], "--out DIR"),
        (["--model", "no_such", "--out", "OUT"], "Unknown model 'no_such'"),
        (["--model", "SAVED", "--out", "OUT", "--height", "0"], "positive height"),
        (["--model", "SAVED", "--out", "OUT", "--precision", "fp8"], "received fp8"),
        (["--model", "SAVED", "--out", "OUT", "--precision", "int8"], "--calibration"),
        (
            ["--model", "SAVED", "--out", "OUT", "--target", "gpu"]
            + ["--precision", "int8", "--calibration", "demo"],
            "There is no file of int8",
        ),
        (["--model", "SAVED", "--out", "OUT", "--clip", "no.mp4"], "no.mp4"),
        (["--model", "SAVED", "--out", "FULL"], "exists"),
    ],
)
def test_bad_input_is_one_line_and_status_1(saved, tmp_path, arguments, line):
    full = tmp_path / "full"
    full.mkdir()
    (full / "report.html").write_text("old")
    places = {"SAVED": saved, "OUT": tmp_path / "out", "FULL": full}
    done = run_export(*(places.get(argument, argument) for argument in arguments))
    assert done.returncode == 1
    lines = [text for text in done.stderr.splitlines() if text.startswith("export:")]
    assert len(lines) == 1 and line in lines[0]
    assert "Traceback" not in done.stderr
    assert (full / "report.html").read_text() == "old"


def test_force_replaces_and_leaves_other_files_alone(saved, tmp_path):
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "mine.txt").write_text("mine")
    program.export(settings(saved, tmp_path, force=True), Console(quiet=True))
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert "tiny" in (tmp_path / "report.html").read_text()


def test_every_precision_has_a_recipe_and_a_target():
    assert set(PRECISION_NAMES) == set(PRECISIONS)
    wanted = Settings(
        "m", None, precisions=PRECISION_NAMES, calibration="demo", formats=("tflite",)
    )
    assert len(variants(wanted)) == 7


def test_footage_that_is_too_small_is_refused_with_both_sizes(saved, tmp_path):
    from keras_megan.video.compare import write_png

    clip = tmp_path / "clip"
    clip.mkdir()
    for index in range(8):
        write_png(clip / f"{index}.png", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(ExportError, match=f"at least {4 * WIDTH}x{4 * HEIGHT} pixels"):
        load_footage(str(clip), HEIGHT, WIDTH)


def test_the_workshop_counts_multiply_adds_as_net2net_does(network, saved, tmp_path):
    from keras_megan import net2net

    footage = load_footage("demo", HEIGHT, WIDTH)
    subject = load_subject(str(saved))
    shop = Workshop(subject, settings(saved, tmp_path), footage, None, tmp_path)
    assert shop.macs == net2net.count_macs(network, (4, HEIGHT, WIDTH, 3))
    assert shop.parameters == network.count_params()
    assert tf.nest.map_structure(np.shape, shop.expected) == [
        (7, 4 * HEIGHT, 4 * WIDTH, 3)
    ]
