"""Exported files as models of the video tool: same numbers as Keras, bad files refused.

The oracle of every number is the Keras model that the file was converted from.
"""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from keras_megan import MEGAN
from keras_megan.cli.main import main
from keras_megan.video.errors import VideoError
from keras_megan.video.models import artefact
from keras_megan.video.models.artefact import ArtefactInfo, read_info, with_info
from keras_megan.video.models.litert_runner import LiteRTRunner
from keras_megan.video.models.runner import KerasRunner, load_runner
from keras_megan.video.tiles import TiledRunner
from keras_megan.video.upscale import UpscaleOptions, upscale
from tests.video.clips import picture, read_images, write_clip

HEIGHT, WIDTH = 52, 56  # the smallest that leaves room for two overlaps of 24
INFO = ArtefactInfo(
    "tiny", "1.2.3", 3, 5, 4, HEIGHT, WIDTH, "float32", "float32", "float32"
)
SMALL = replace(INFO, scale=2, height=16, width=20, how_to_feed="")


def convert(function, shape, dtype=tf.float32, prepare=lambda converter: None):
    """A TFLite flatbuffer of a function of one tensor."""
    traced = tf.function(function, input_signature=[tf.TensorSpec(shape, dtype)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [traced.get_concrete_function()], tf.Module()
    )
    prepare(converter)
    return converter.convert()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny MEGAN with random weights, as a file and as a runner of Keras."""
    rng = np.random.default_rng(1)
    model = MEGAN(
        filters=8,
        num_frames=3,
        extraction_blocks=1,
        alignment="window",
        alignment_options={"levels": 2, "reach": 2},
        descriptor_size=4,
        fusion_blocks=1,
        reconstruction_blocks=1,
        tail="light",
    )
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.1))
    flatbuffer = convert(
        lambda frames: model(frames[None], training=False)[0], INFO.input_shape
    )
    path = tmp_path_factory.mktemp("exported") / "tiny.tflite"
    path.write_bytes(with_info(flatbuffer, INFO))
    keras_runner = KerasRunner(model)
    keras_runner.fixed_size = (HEIGHT, WIDTH)  # so that the tool cuts the same tiles
    return SimpleNamespace(path=path, keras=keras_runner, flatbuffer=flatbuffer)


@pytest.fixture(scope="module")
def small():
    """A convolution that doubles the size and repeats frames: quick to convert."""
    kernel = tf.random.stateless_normal((3, 3, 3, 12), (1, 2)) * 0.1

    def forward(frames):
        mixed = tf.nn.conv2d(frames, kernel, 1, "SAME")
        large = tf.nn.relu(tf.nn.depth_to_space(mixed, 2))
        between = (large[1:] + large[:-1]) * 0.5
        return tf.concat([large, between], 0)

    return forward


@pytest.fixture(scope="module")
def small_file(small):
    return with_info(convert(small, SMALL.input_shape), SMALL)


def frames_of(height, width, count=3):
    return np.stack([picture(3 * index, height, width) for index in range(count)])


# === What a file says of itself ===


def test_a_description_is_read_back_and_the_model_is_left_as_it_was(tiny):
    from ai_edge_litert import schema_py_generated as schema

    described = tiny.path.read_bytes()
    assert read_info(described) == read_info(tiny.path) == INFO
    # The schema's own reader sees the same model, and one entry more.
    old = schema.ModelT.InitFromPackedBuf(tiny.flatbuffer, 0)
    new = schema.ModelT.InitFromPackedBuf(described, 0)
    names = [entry.name for entry in new.metadata]
    assert names == [*(entry.name for entry in old.metadata), b"keras_megan"]
    assert (new.version, new.description) == (old.version, old.description)
    assert [c.builtinCode for c in new.operatorCodes] == [
        c.builtinCode for c in old.operatorCodes
    ]
    assert len(new.subgraphs[0].operators) == len(old.subgraphs[0].operators)
    assert len(new.buffers) == len(old.buffers) + 1
    for before, after in zip(old.buffers, new.buffers, strict=False):
        np.testing.assert_array_equal(before.data, after.data)
    # Weights stay aligned: the old bytes moved by a multiple of 16.
    moved = len(described) - len(tiny.flatbuffer) - (-len(tiny.flatbuffer) % 16)
    assert moved % 16 == 0
    assert described[moved:].startswith(tiny.flatbuffer)


def test_a_second_description_replaces_the_first(small_file):
    other = replace(SMALL, precision="int8", how_to_feed="Gently. Ünicode too.")
    again = with_info(small_file, other)
    assert read_info(again) == other
    assert with_info(again, SMALL) != small_file  # the old bytes are kept
    assert read_info(with_info(again, SMALL)) == SMALL


def test_how_to_feed_is_written_where_nobody_gave_it():
    text = INFO.how_to_feed
    assert "3 consecutive frames of 56x52" in text and "[5, 208, 224, 3]" in text
    assert (
        "uint8 in 0..255"
        in replace(INFO, input_type="uint8", how_to_feed="").how_to_feed
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames_out": 6}, "2 \\* frames_in - 1"),
        ({"input_type": "int8"}, "input_type must be one of"),
        ({"height": 0}, "height must be a whole number above 0"),
        ({"scale": 4.0}, "scale must be a whole number"),
        ({"model": None}, "model must be a text"),
    ],
)
def test_descriptions_that_cannot_be_true_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(INFO, **change)


def test_only_tflite_files_can_be_described():
    for wrong in (b"", b"hello", b"\x1c\0\0\0TFL3" + bytes(10)):
        with pytest.raises(ValueError, match="Expected the bytes of a TFLite file"):
            with_info(wrong, INFO)


def test_fields_of_later_versions_are_passed_over(small_file, monkeypatch):
    def later(info):
        return {**asdict(info), "colours": "wide"}

    with monkeypatch.context() as patch:
        patch.setattr(artefact, "asdict", later)
        made = with_info(small_file, SMALL)
    assert b"colours" in made
    assert read_info(made) == SMALL


# === Bad files ===


def refused(path, capsys):
    """Whether `megan info` refuses it by one line; the line."""
    assert main(["info", str(path)]) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert str(path) in output.err
    return output.err


def test_files_cut_short_anywhere_are_refused_before_the_runtime_sees_them(
    small_file, tmp_path, capsys
):
    path = tmp_path / "cut.tflite"
    for length in [0, 3, 8, 40, *range(100, len(small_file), 97), len(small_file) - 1]:
        path.write_bytes(small_file[:length])
        assert "cut short" in refused(path, capsys)


def test_a_changed_byte_anywhere_is_noticed(small_file, rng):
    for place in rng.choice(len(small_file), 300, replace=False):
        damaged = bytearray(small_file)
        damaged[place] ^= 1 << rng.integers(8)
        with pytest.raises(VideoError, match="Cannot load the model"):
            read_info(bytes(damaged))


def test_files_of_others_are_refused(small, tmp_path, capsys):
    path = tmp_path / "other.tflite"
    path.write_bytes(b"this is no flatbuffer at all")
    assert "expected a TFLite file" in refused(path, capsys)
    path.write_bytes(convert(small, SMALL.input_shape))
    assert "does not say how to feed it" in refused(path, capsys)
    assert "no such file" in refused(tmp_path / "missing.tflite", capsys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 20}, r"input is float32 \(3, 20, 20, 3\), but it is .*3, 16, 20"),
        ({"input_type": "uint8"}, "input is uint8 .* but it is float32"),
        ({"scale": 4}, r"output is float32 \(5, 64, 80, 3\), but it is .*5, 32, 40"),
    ],
)
def test_files_that_are_not_what_they_say_are_refused(
    small_file, tmp_path, capsys, change, message
):
    path = tmp_path / "liar.tflite"
    path.write_bytes(with_info(small_file, replace(SMALL, **change)))
    with pytest.raises(VideoError, match=message):
        LiteRTRunner(path)
    refused(path, capsys)


# === Running ===


def test_a_window_equals_the_keras_model(tiny):
    runner = load_runner(tiny.path)
    assert isinstance(runner, LiteRTRunner)
    assert (runner.frames_in, runner.frames_out, runner.scale) == (3, 5, 4)
    assert runner.fixed_size == (HEIGHT, WIDTH) and runner.name == "tiny"
    frames = frames_of(HEIGHT, WIDTH)
    received, expected = runner(frames), tiny.keras(frames)
    assert received.dtype == np.float32 and expected.std() > 0.01
    np.testing.assert_allclose(received, expected, atol=1e-4)
    # One thread, and colours given as numbers in [0, 1]: the same.
    single = LiteRTRunner(tiny.path, num_threads=1)(np.float32(frames) / 255)
    np.testing.assert_allclose(single, expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"takes frames of shape \(3, 52, 56, 3\)"):
        runner(frames[:2])


@pytest.mark.parametrize(
    ("size", "tiles"),
    [((HEIGHT, WIDTH), 1), ((31, 17), 1), ((52, 90), 3), ((77, 40), 2), ((71, 83), 4)],
)
def test_frames_of_any_size_equal_keras_on_the_same_tiles(tiny, size, tiles):
    frames = frames_of(*size)
    received = TiledRunner(load_runner(tiny.path), *size, tile=0)
    expected = TiledRunner(tiny.keras, *size, tile=0)
    assert received.num_tiles == tiles
    result = received(frames)
    assert result.shape == (5, 4 * size[0], 4 * size[1], 3)
    # One step of 255 where rounding falls to the other side.
    difference = np.abs(np.int16(result) - expected(frames))
    assert difference.max() <= 1 and difference.mean() < 0.01


def test_frames_smaller_than_the_file_are_filled_up_and_cut_off(tiny):
    frames = frames_of(31, 17)
    filled = np.pad(frames, ((0, 0), (0, 21), (0, 39), (0, 0)), mode="edge")
    expected = np.clip(tiny.keras(filled)[:, :124, :68], 0, 1) * 255
    received = TiledRunner(load_runner(tiny.path), 31, 17, tile=0)(frames)
    np.testing.assert_allclose(received, expected, atol=0.6)


def test_a_clip_through_the_program_equals_keras_on_the_same_tiles(
    tiny, tmp_path, capsys
):
    images = [picture(index, 60, 90) for index in range(5)]
    clip = write_clip(tmp_path / "clip.mp4", images)
    output = tmp_path / "out.mkv"
    options = ["--codec", "ffv1", "--json"]
    arguments = ["upscale", str(clip), "-o", str(output), "--model", str(tiny.path)]
    assert main([*arguments, *options]) == 0
    capsys.readouterr()
    upscale(clip, tmp_path / "keras.mkv", tiny.keras, UpscaleOptions(codec="ffv1"))
    made, expected = read_images(output), read_images(tmp_path / "keras.mkv")
    assert len(made) == len(expected) == 9
    assert made[0].shape == (240, 360, 3) and np.std(made[0]) > 10
    # Colours pass through 8-bit YUV, which spreads one step of rounding a little.
    difference = np.abs(np.int16(made) - np.int16(expected))
    assert difference.max() <= 3 and difference.mean() < 0.02


def test_bytes_at_both_ends(small, tmp_path):
    def forward(frames):
        result = small(tf.cast(frames, tf.float32) / 255.0) * 255.0
        return tf.cast(tf.round(tf.clip_by_value(result, 0.0, 255.0)), tf.uint8)

    info = replace(SMALL, input_type="uint8", output_type="uint8", how_to_feed="")
    path = tmp_path / "bytes.tflite"
    path.write_bytes(with_info(convert(forward, info.input_shape, tf.uint8), info))
    runner, frames = load_runner(path), frames_of(16, 20)
    expected = np.clip(small(np.float32(frames) / 255).numpy(), 0, 1) * 255
    assert expected.std() > 10
    for given in (frames, np.float32(frames) / 255):
        received = runner(given)
        assert received.dtype == np.uint8
        np.testing.assert_allclose(received, expected, atol=0.51)


def test_whole_numbers_inside_and_colours_in_floats_outside(small, tmp_path):
    frames = np.float32(frames_of(16, 20)) / 255

    def prepare(converter):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: iter([[frames]] * 3)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]

    flatbuffer = convert(small, SMALL.input_shape, prepare=prepare)
    path = tmp_path / "int8.tflite"
    path.write_bytes(with_info(flatbuffer, replace(SMALL, precision="int8")))
    received, expected = load_runner(path)(frames), small(frames).numpy()
    error = np.abs(received - expected)
    assert 0 < error.max() < 0.03 < expected.std()


def test_the_fingerprint_is_that_of_the_file(small_file, tmp_path):
    import hashlib

    path = tmp_path / "small.tflite"
    path.write_bytes(small_file)
    assert load_runner(path).fingerprint == hashlib.sha256(small_file).hexdigest()


def test_info_prints_what_the_file_says(tiny, capsys):
    assert main(["info", str(tiny.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"] == "tiny" and facts["made by"] == "keras_megan 1.2.3"
    assert facts["input"] == "(3, 52, 56, 3) float32"
    assert facts["output"] == "(5, 208, 224, 3) float32"
    assert facts["how to feed"] == INFO.how_to_feed


@pytest.mark.slow
def test_a_file_is_described_without_start_up_messages(small_file, tmp_path):
    import subprocess
    import sys

    path = tmp_path / "small.tflite"
    path.write_bytes(small_file)
    done = subprocess.run(
        [sys.executable, "-m", "keras_megan", "info", str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout
    assert done.stderr == ""  # neither TensorFlow nor the runtime announces itself
