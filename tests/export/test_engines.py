"""A preset's files for CPUs: made, proven, chosen, and run without Keras."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from export.engines import Wish, make_engines, parse_sizes
from export.errors import ExportError
from keras_megan import MEGAN
from keras_megan.presets import save_to_preset
from keras_megan.video.errors import VideoError
from keras_megan.video.models import preset_files
from keras_megan.video.models.engines import find_model
from keras_megan.video.models.preset_files import (
    PresetFile,
    PresetFiles,
    find_files,
    pixels_computed,
    read_listing,
)
from keras_megan.video.models.runner import KerasRunner
from keras_megan.video.tiles import TiledRunner
from tests.video.clips import picture, read_images, write_clip

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 56, 52  # the smallest that leaves room for two overlaps of 24


@pytest.fixture(scope="module")
def network():
    """A MEGAN that is quick to convert, whose every weight does something."""
    rng = np.random.default_rng(1)
    model = MEGAN(
        filters=4,
        num_frames=3,
        extraction_blocks=1,
        alignment="window",
        alignment_options={"levels": 2, "reach": 2},
        descriptor_size=4,
        fusion_blocks=0,
        non_local_blocks=0,
        reconstruction_blocks=1,
        tail="light",
    )
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.1))
    return model


@pytest.fixture(scope="module")
def preset(network, tmp_path_factory):
    """A preset of the small network with its files."""
    folder = tmp_path_factory.mktemp("presets") / "tiny"
    save_to_preset(network, folder, "Tiny.")
    said = io.StringIO()
    wish = Wish(str(folder), ((WIDTH, HEIGHT),), ("fp32",), windows=1)
    assert make_engines(wish, Console(file=said)) == 0
    assert said.getvalue().count("published") == 1
    return folder


def frames_of(height, width):
    return np.stack([picture(3 * index, height, width) for index in range(3)])


def test_what_verified_is_listed_with_its_checksum(preset):
    files = read_listing(preset)
    assert [(f.precision, f.width, f.height) for f in files] == [
        ("fp32", WIDTH, HEIGHT)
    ]
    listed = {f"litert/{path.name}" for path in (preset / "litert").iterdir()}
    assert listed == {file.file for file in files}
    output = 5 * 4 * HEIGHT * 4 * WIDTH * 3 * 4  # floats that one call gives back
    assert all(output < file.memory < 2**29 for file in files)
    assert all(abs(file.psnr - file.keras_psnr) < 0.3 for file in files)


def test_a_file_of_another_size_is_added_to_those_that_are_there(preset, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(preset, copy)
    (before,) = read_listing(copy)
    sizes = ((WIDTH + 4, HEIGHT),)
    for add, expected in ((True, [WIDTH, WIDTH + 4]), (False, [WIDTH + 4])):
        wish = Wish(str(copy), sizes, ("fp32",), windows=1, add=add)
        assert make_engines(wish, Console(file=io.StringIO())) == 0
        files = read_listing(copy)
        assert [file.width for file in files] == expected
        assert (before in files) == add
        for file in files:
            digest = hashlib.sha256((copy / file.file).read_bytes()).hexdigest()
            assert digest == file.sha256


def test_tiles_on_several_threads_equal_keras_on_the_same_tiles(preset, network):
    files = find_files(str(preset), "fp32")
    files.threads = 2
    height, width = 78, 84
    runner = files.for_size(height, width)
    tiled = TiledRunner(runner, height, width, 0)
    assert tiled.num_tiles == 4 and runner.parallel == 2
    assert files.for_size(height, width) is runner  # opened once
    keras_runner = KerasRunner(network)
    keras_runner.fixed_size = (HEIGHT, WIDTH)  # so that the same tiles are cut
    expected = TiledRunner(keras_runner, height, width, 0)(frames_of(height, width))
    made = tiled(frames_of(height, width))
    assert np.abs(made.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(made, tiled(frames_of(height, width)))


def test_megan_upscale_uses_them_without_loading_keras(preset, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", [picture(i, 40, 48) for i in range(5)])
    code = """
import sys
from keras_megan.cli.main import main
code = main(sys.argv[1:])
print(sorted({"keras", "tensorflow"} & set(sys.modules)))
sys.exit(code)
"""
    engine = ("--engine", "litert", "--precision", "fp32")
    arguments = ("upscale", clip, "--model", preset, *engine)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
    images = read_images(tmp_path / "clip.megan.mp4")
    assert len(images) == 9 and images[0].shape == (160, 192, 3)


def test_engines_are_chosen_and_say_why_not(preset, monkeypatch):
    from keras_megan.video.models import engines

    monkeypatch.setattr(engines, "has_gpu", lambda: False)
    fp32 = {"precision": "fp32"}
    assert find_model(preset, **fp32).engine == "litert"
    assert find_model(preset).engine == "litert"  # it has no int8 files, but these
    assert find_model(preset, precision="int8").engine == "keras"
    assert find_model(preset, needs_times=True, **fp32).engine == "keras"
    assert find_model(preset, "keras", **fp32).engine == "keras"
    monkeypatch.setattr(engines, "has_gpu", lambda: True)
    assert find_model(preset, **fp32).engine == "keras"
    assert find_model(preset, "litert", **fp32).engine == "litert"
    timed = {"engine": "litert", "needs_times": True, **fp32}
    for asked, words in (
        (timed, "half-way between two given"),
        ({"engine": "litert", "precision": "int8"}, "carries no int8 files"),
        ({"engine": "abacus"}, "Unknown engine"),
        ({"precision": "int4"}, "Unknown precision"),
    ):
        with pytest.raises(VideoError, match=words):
            find_model(preset, **asked)


def test_files_of_other_weights_are_not_used_and_damaged_ones_are_refused(
    preset, tmp_path
):
    copy = tmp_path / "copy"
    shutil.copytree(preset, copy)
    (file, *_) = read_listing(copy)
    path = copy / file.file
    path.write_bytes(path.read_bytes()[:-16])
    with pytest.raises(VideoError, match="checksum is not the one"):
        find_files(str(copy), "fp32").for_size(HEIGHT, WIDTH)
    path.unlink()
    with pytest.raises(VideoError, match="lacks its file"):
        find_files(str(copy), "fp32").for_size(HEIGHT, WIDTH)
    config = json.loads((copy / "config.json").read_text())
    config["weights_sha256"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(config))
    assert read_listing(copy) == () and find_files(str(copy), "fp32") is None
    assert find_model(copy).engine == "keras"
    with pytest.raises(VideoError, match="carries no files for LiteRT"):
        find_model(copy, "litert")
    (copy / "litert.json").write_text("{}")
    with pytest.raises(VideoError, match="it is damaged. Make it again"):
        read_listing(copy)


def test_the_file_that_wastes_least_is_taken(monkeypatch):
    sizes = [(128, 72), (256, 148), (360, 180)]
    files = [PresetFile(f"{w}x{h}", "", w, h, "int8", w * h) for w, h in sizes]
    chosen = PresetFiles(Path("preset"), files)
    monkeypatch.setattr(chosen, "_open", lambda file: file.file)
    for width, height, expected in (
        (128, 72, "128x72"),
        (100, 60, "128x72"),
        (256, 144, "256x148"),
        (320, 180, "360x180"),
        (480, 270, "256x148"),
    ):
        assert chosen.for_size(height, width) == expected
    monkeypatch.setattr(preset_files, "memory_to_use", lambda: 128 * 72)
    assert chosen.for_size(180, 320) == "128x72"  # the others do not fit
    monkeypatch.setattr(preset_files, "memory_to_use", lambda: 1)
    assert chosen.for_size(180, 320) == "128x72"
    pixels, tiles = pixels_computed(files[1], 270, 480)
    assert (pixels, tiles) == (4 * 256 * 148, 4)


@pytest.mark.parametrize("texts", [[], ["128"], ["0x72"], ["128x72", "a"]])
def test_sizes_that_are_not_sizes(texts):
    with pytest.raises(ExportError, match="Expected sizes such as 128x72"):
        parse_sizes(texts)


def test_presets_without_weights_or_of_no_name_are_refused(tmp_path):
    config = {"class": "MEGAN", "config": {}, "description": "Untrained."}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name, words in ((tmp_path, "no trained weights"), ("megan_x", "Unknown")):
        wish = Wish(str(name), ((WIDTH, HEIGHT),))
        with pytest.raises(ExportError, match=words):
            make_engines(wish, Console(file=io.StringIO()))
