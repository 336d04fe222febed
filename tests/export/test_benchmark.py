"""The benchmark: what it derives from what it measures, and that it measures at all.

No test asserts a time. Arithmetic is pinned on made-up times, quality on methods whose
result is known (trilinear interpolation, nearest pixels, bicubic enlargement).
"""

import contextlib
import io
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console

from benchmarks.export import benchmark as program
from benchmarks.export import operation_times as profiler
from benchmarks.export.benchmark import Settings, benchmark
from benchmarks.export.contenders import fit
from benchmarks.export.report import psnr_of_halves
from export.build.footage import load_footage
from export.errors import ExportError
from keras_megan.imaging.resize import imresize, trilinear_upsample
from keras_megan.metrics import luma_psnr
from keras_megan.video.errors import VideoError
from keras_megan.video.models.artefact import ArtefactInfo, with_info

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 32, 40
INFO = ArtefactInfo(
    "trilinear", "1.0", 3, 5, 4, HEIGHT, WIDTH, "float32", "float32", "float32"
)


def convert(function, shape, half=False):
    traced = tf.function(
        function, input_signature=[tf.TensorSpec(shape, tf.float32)]
    ).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module())
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def trilinear(frames):
    """(3, H, W, 3) -> (5, 4H, 4W, 3)."""
    large = tf.image.resize(frames, (4 * HEIGHT, 4 * WIDTH))
    between = (large[1:] + large[:-1]) * 0.5
    parts = [large[0:1], between[0:1], large[1:2], between[1:2], large[2:3]]
    return tf.concat(parts, 0)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "trilinear.tflite"
    path.write_bytes(with_info(convert(trilinear, INFO.input_shape), INFO))
    return path


def quiet():
    return Console(file=io.StringIO())


# === What is derived ===


def expected_scores(made):
    """Of a function (N, h, w, 3) uint8 -> (2N-1, 4h, 4w, 3) on the drawn scene."""
    truth = load_footage(None, HEIGHT, WIDTH)[0]
    values = luma_psnr(truth, made(imresize(truth[::2], 0.25)))
    return {"given": values[::2].mean(), "new": values[1::2].mean()}


class FakeChild:
    """Answers with times that were made up, and predicts gray frames."""

    def __init__(self, row, folder, times, turns):
        self.row, self.turns = row, turns
        self.made = Path(folder) / "made.npy"
        self.times = iter(times)

    def ask(self, line):
        self.turns.append(f"{self.row.kind} {self.row.threads} {line}")
        if line == "predict":
            gray = np.full((31, 4 * HEIGHT, 4 * WIDTH, 3), 128, np.uint8)
            np.save(self.made, gray)
            return {"made": str(self.made)}
        seconds, frames = next(self.times)
        return {"seconds": seconds, "frames": frames, "memory": 7_000_000}


def test_contenders_take_turns_and_ratios_are_taken_round_by_round(
    file, tmp_path, monkeypatch, capsys
):
    times = {
        # The machine is ten times slower in the second round; so are all.
        ("litert", 1): [(1.0, 5), (10.0, 5), (2.0, 5)],
        ("litert", 2): [(0.5, 5), (5.0, 5), (1.0, 5)],
        ("ffmpeg", 2): [(2.5, 50), (25.0, 50), (5.0, 50)],
    }
    turns = []

    @contextlib.contextmanager
    def child(row, folder):
        assert np.load(Path(folder) / "small.npy").shape == (16, HEIGHT, WIDTH, 3)
        yield FakeChild(row, folder, times[row.kind, row.threads], turns)

    monkeypatch.setattr(program, "_child", child)
    monkeypatch.setattr(program, "CHAINS", {"some filters": ()})
    settings = Settings(
        files=(file,),
        threads=(1, 2),
        minterpolate=True,
        rounds=3,
        out=tmp_path / "out.json",
    )
    returned = benchmark(settings)
    assert turns == [
        *("litert 1 run", "litert 2 run", "ffmpeg 2 run"),
        *("litert 2 run", "ffmpeg 2 run", "litert 1 run"),
        *("ffmpeg 2 run", "litert 1 run", "litert 2 run"),
        *("litert 1 predict", "ffmpeg 2 predict"),  # threads change no result
    ]
    document = json.loads((tmp_path / "out.json").read_text())
    assert document == json.loads(json.dumps(returned))
    first, second, filters = document["rows"]
    assert first["seconds"] == [1.0, 10.0, 2.0] and first["median"] == 2.0
    assert first["p90"] == pytest.approx(2.0 + 0.8 * 8.0)
    assert first["frames_per_second"] == 2.5
    pixels = 5 * HEIGHT * WIDTH * 16
    assert first["megapixels_per_second"] == pytest.approx(pixels / 2.0 / 1e6)
    assert first["speed_ratio"] == 1.0 and second["speed_ratio"] == 2.0
    # The filters gave 50 frames in 2.5 s: a window's 5 would take 0.25 s.
    assert filters["seconds"] == [0.25, 2.5, 0.5] and filters["speed_ratio"] == 4.0
    assert first["memory"] == 7_000_000
    gray = expected_scores(lambda small: np.full((31, 128, 160, 3), 128, np.uint8))
    assert first["psnr"] == second["psnr"] == pytest.approx(gray)
    shown = capsys.readouterr().out
    assert "1  litert: trilinear.tflite, 40x32, 1 thread\n" in shown
    assert "2000.0" in shown and "4.00x" in shown


def test_frames_are_cut_or_filled_to_a_size():
    frames = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    np.testing.assert_array_equal(fit(frames, 2, 4), frames[:, :2])
    filled = fit(frames, 5, 2)
    assert filled.shape == (2, 5, 2, 3)
    np.testing.assert_array_equal(filled[:, 4], frames[:, 2, :2])


def test_given_and_new_frames_are_scored_separately():
    truth = np.full((3, 8, 8, 3), 100, np.uint8)
    made = truth.copy()
    made[1] = 110
    scores = psnr_of_halves(truth, made)
    assert scores["given"] == 100.0  # identical frames, capped
    difference = 10 * (65.481 + 128.553 + 24.966) / 255
    assert scores["new"] == pytest.approx(20 * np.log10(255 / difference))


# === What is measured ===


def test_a_file_and_ffmpeg_are_measured_on_the_same_clip(file, tmp_path):
    settings = Settings(
        files=(file,),
        threads=(1,),
        minterpolate=True,
        rounds=2,
        profile=True,
        out=tmp_path / "out.json",
    )
    document = benchmark(settings, quiet())
    mine, better, faster = document["rows"]
    assert [row["kind"] for row in document["rows"]] == ["litert", "ffmpeg", "ffmpeg"]
    for row in document["rows"]:
        assert len(row["seconds"]) == 2 and min(row["seconds"]) > 0
        assert 0 <= row["memory"] < 1e9
    assert mine["memory"] > 0

    def in_floats(small):
        return np.clip(trilinear_upsample(small.astype(np.float32) / 255), 0, 1)

    assert mine["psnr"] == pytest.approx(expected_scores(in_floats), abs=0.02)
    # Given frames pass FFmpeg's filters as plain bicubic enlargements; were frames
    # shifted in time or place by any step, they would score several dB less.
    bicubic = expected_scores(lambda small: imresize(small, 4).repeat(2, 0)[:-1])
    for row in (better, faster):
        assert row["psnr"]["given"] == pytest.approx(bicubic["given"], abs=0.5)
        assert row["psnr"]["new"] > bicubic["new"]  # better than repeating the last
    operations = {share["name"]: share["count"] for share in mine["operations"]}
    assert operations["RESIZE_BILINEAR"] == 1
    assert sum(share["share"] for share in mine["operations"]) == pytest.approx(1)


def test_a_keras_model_is_measured_beside_the_file(file, tmp_path):
    inputs = keras.Input((3, None, None, 3))
    large = keras.layers.UpSampling3D((2, 4, 4))(inputs)
    model = keras.Model(inputs, keras.layers.Cropping3D(((1, 0), 0, 0))(large))
    model.save(tmp_path / "nearest.keras")
    settings = Settings(
        files=(file,),
        threads=(1,),
        keras=str(tmp_path / "nearest.keras"),
        rounds=1,
        out=tmp_path / "out.json",
    )
    row = benchmark(settings, quiet())["rows"][1]

    def nearest(small):
        return small.repeat(2, 0)[1:].repeat(4, 1).repeat(4, 2)

    assert row["kind"] == "keras" and (row["height"], row["width"]) == (HEIGHT, WIDTH)
    assert row["psnr"] == pytest.approx(expected_scores(nearest), abs=0.02)


# === Profiles ===


@pytest.fixture(scope="module")
def chain():
    """Two convolutions and what lies between them."""
    kernels = tf.random.stateless_normal((2, 3, 3, 8, 8), (1, 2)) * 0.2

    def forward(image):
        hidden = tf.nn.leaky_relu(tf.nn.conv2d(image, kernels[0], 1, "SAME"), 0.1)
        return tf.sigmoid(tf.nn.conv2d(hidden, kernels[1], 2, "SAME")) * 0.5

    return forward


def run(flatbuffer, value):
    interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_the_operations_cut_out_of_a_file_compute_together_what_it_does(chain, rng):
    flatbuffer = convert(chain, (1, 9, 7, 8))
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    assert len(model.subgraphs[0].operators) == 5
    start = value = rng.uniform(size=(1, 9, 7, 8)).astype("float32")
    for operation in model.subgraphs[0].operators:
        value = run(profiler._cut_out(model, operation), value)
    np.testing.assert_allclose(value, run(flatbuffer, start), atol=1e-6)
    np.testing.assert_allclose(value, chain(start), atol=1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_a_profile_counts_every_operation_once(chain, tmp_path, half):
    flatbuffer = convert(chain, (1, 32, 32, 8), half)
    path = tmp_path / "chain.tflite"
    path.write_bytes(flatbuffer)
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    names = Counter(profiler._name(model, op) for op in model.subgraphs[0].operators)
    # Weights in float16 are unpacked when the file is loaded: no time of a run.
    assert (names.pop("DEQUANTIZE", 0) > 0) == half
    profile = profiler.operation_times(path, 1)
    assert {share.name: share.count for share in profile.shares} == names
    assert names == {"CONV_2D": 2, "LEAKY_RELU": 1, "LOGISTIC": 1, "MUL": 1}
    assert all(s.seconds > 0 and s.unmeasured == 0 for s in profile.shares)
    assert profile.sum_seconds == sum(share.seconds for share in profile.shares)
    assert sum(entry["share"] for entry in profile.document()) == pytest.approx(1)


def test_a_file_without_a_fixed_size_cannot_be_profiled(chain, tmp_path):
    path = tmp_path / "any.tflite"
    path.write_bytes(convert(chain, (1, None, None, 8)))
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    shape = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shapeSignature
    assert -1 in shape  # else this tests nothing
    with pytest.raises(ExportError, match="no fixed size"):
        profiler.operation_times(path, 1)


# === Bad input ===


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": ()}, "name one or more .tflite files"),
        ({"rounds": 0}, "--rounds must be at least 1. Received: 0"),
        ({"threads": (0,)}, "--threads must be whole numbers above 0"),
        ({"threads": ()}, "--threads .* Received: none"),
        (
            {"out": Path("/nowhere/at/all.json")},
            "the folder '/nowhere/at' does not exist",
        ),
        ({"clip": "/nowhere.mp4"}, "Cannot read '/nowhere.mp4'"),
        ({"files": (Path("/nowhere.tflite"),)}, "/nowhere.tflite.: no such file"),
    ],
)
def test_impossible_benchmarks_are_refused_in_one_line(file, tmp_path, change, message):
    settings = {"files": (file,), "threads": (1,), "out": tmp_path / "out.json"}
    with pytest.raises((ExportError, VideoError), match=message) as caught:
        benchmark(Settings(**{**settings, **change}), quiet())
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_files_of_other_kinds_are_refused(file, tmp_path):
    def measure(**changes):
        path = tmp_path / "other.tflite"
        path.write_bytes(with_info(file.read_bytes(), replace(INFO, **changes)))
        benchmark(Settings(files=(path,), threads=(1,), minterpolate=True))

    with pytest.raises(ExportError, match="enlarges 2 times; .* measures 4 times"):
        measure(scale=2)
    with pytest.raises(ExportError, match="at least 32 pixels each way; received 31"):
        measure(width=31)


def test_a_failure_in_a_contenders_process_reaches_the_user(
    file, tmp_path, monkeypatch
):
    settings = {"files": (file,), "threads": (1,), "out": tmp_path / "out.json"}
    with monkeypatch.context() as patch:
        # A second contender of a kind that has no such filters.
        patch.setattr(program, "CHAINS", {"no such filter": ()})
        with pytest.raises(ExportError, match="KeyError in 'ffmpeg: no such filter'"):
            benchmark(Settings(**settings, minterpolate=True), quiet())
    monkeypatch.setattr(program.sys, "executable", "/bin/false")
    with pytest.raises(ExportError, match=r"ended by itself \(status 1\)"):
        benchmark(Settings(**settings), quiet())
    assert list(tmp_path.iterdir()) == []


def test_the_program_exits_with_1_and_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.export.benchmark", "--threads", "two"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("benchmark")]
    assert lines == [
        "benchmark: --threads must be whole numbers above 0, such as 1,2. Received: two"
    ]
