"""Presets: names, folders, checksums, networks that are not MEGANs, what is refused."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_megan import MEGAN, net2net
from keras_megan.presets import SHIPPED, load_preset, save_to_preset
from keras_megan.video.errors import VideoError
from keras_megan.video.models.runner import load_runner

pytestmark = pytest.mark.slow

TINY = {
    "filters": 8,
    "num_frames": 2,
    "extraction_blocks": 0,
    "alignment": "window",
    "alignment_options": {"levels": 2, "reach": 2},
    "descriptor_size": 4,
    "fusion_blocks": 1,
    "reconstruction_blocks": 0,
    "tail": "light",
}
FILES = ["README.md", "config.json", "model.weights.h5"]


@pytest.fixture(scope="module")
def networks():
    """A small MEGAN, and what net2net made of it: one that no config describes."""
    random, model = np.random.default_rng(0), MEGAN(**TINY)
    for weight in model.trainable_weights:
        weight.assign(random.normal(size=weight.shape, scale=0.1))
    small = net2net.prune(model, {"fusion_0/frame_conv": 5}).apply()
    assert not isinstance(small, MEGAN)
    return model, small


@pytest.fixture
def saved(tmp_path, networks):
    networks[0].save_to_preset(tmp_path / "mine", description="tiny", card="# Mine\n")
    return networks[0], tmp_path / "mine"


@pytest.fixture
def pruned(tmp_path, networks):
    save_to_preset(networks[1], tmp_path / "small", "pruned", card="# Small\n")
    return networks[1], tmp_path / "small"


@pytest.fixture
def frames(rng):
    return rng.uniform(size=(1, 2, 8, 8, 3)).astype("float32")


def edit(folder, **changes):
    """Changes entries of a preset's config; None removes one."""
    config = json.loads((folder / "config.json").read_text())
    config = {k: v for k, v in {**config, **changes}.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))


# === What ships =======================================================================
def test_every_shipped_preset_has_a_description_builds_and_is_small():
    assert set(MEGAN.presets) >= {
        "megan_edge",
        "megan_edge_real",
        "megan_mobile",
        "megan_nano",
    }
    for name, description in MEGAN.presets.items():
        assert description and "\n" not in description
        model = MEGAN.from_preset(name, load_weights=False)
        assert model.input_shape == (None, 4, None, None, 3)
        assert model.output_shape[1] == 7
        assert sum(p.stat().st_size for p in (SHIPPED / name).iterdir()) < 5 << 20


def test_shipped_weights_are_the_ones_their_configs_name():
    for name in MEGAN.presets:
        named = json.loads((SHIPPED / name / "config.json").read_text())
        has_weights = (SHIPPED / name / "model.weights.h5").exists()
        assert has_weights == (named["weights_sha256"] is not None)
        if has_weights:
            MEGAN.from_preset(name)


def test_megan_nano_is_within_its_budget_and_moves_frames():
    nano = MEGAN.from_preset("megan_nano")
    assert net2net.count_macs(nano, (4, 64, 112, 3)) <= 8e9
    assert nano.count_params() < 0.4 * 589_133
    # A textured scene that moves 2 pixels to the right per frame.
    scene = np.random.default_rng(0).uniform(size=(1, 32, 96, 3)).astype("float32")
    scene = keras.ops.average_pool(scene, 3, strides=1, padding="same")
    moving = np.stack([scene[:, :, 16 - 4 * k : 80 - 4 * k] for k in range(4)], axis=1)
    output = np.asarray(nano(moving))
    assert output.shape == (1, 7, 128, 256, 3) and np.isfinite(output).all()
    between = scene[:, 8:-8, 14 + 8 : 78 - 8]
    small = keras.ops.average_pool(output[:, 1], 4)[:, 8:-8, 8:-8]
    average = (moving[:, 0] + moving[:, 1])[:, 8:-8, 8:-8] / 2
    errors = [float(np.mean((x - between) ** 2)) for x in (small, average)]
    assert errors[0] < 0.5 * errors[1]


# === Saving and loading ===============================================================
def test_a_saved_preset_loads_with_the_same_outputs(saved, frames):
    model, folder = saved
    assert sorted(p.name for p in folder.iterdir()) == FILES
    loaded = MEGAN.from_preset(folder)
    assert isinstance(loaded, MEGAN)
    np.testing.assert_array_equal(loaded(frames), model(frames))


def test_a_pruned_network_is_a_preset_as_well(pruned, frames):
    model, folder = pruned
    assert sorted(p.name for p in folder.iterdir()) == FILES
    for loaded in (MEGAN.from_preset(folder), load_preset(str(folder))):
        assert type(loaded) is type(model)
        np.testing.assert_array_equal(loaded(frames), model(frames))
    described = json.loads((folder / "config.json").read_text())
    assert described["class"] == "Functional"
    assert described["description"] == "pruned"


def test_a_pruned_preset_can_be_saved_pruned_and_run_again(pruned, frames, tmp_path):
    model, folder = pruned
    save_to_preset(MEGAN.from_preset(folder), tmp_path / "again")
    again = MEGAN.from_preset(tmp_path / "again")
    np.testing.assert_array_equal(again(frames), model(frames))
    smaller = net2net.prune(again, ratio=0.5).apply()
    assert smaller.count_params() < 0.5 * again.count_params()
    assert np.all(np.isfinite(smaller(frames)))


def test_the_video_tools_read_shapes_from_a_pruned_preset(pruned, frames):
    model, folder = pruned
    runner = load_runner(folder)
    assert (runner.frames_in, runner.frames_out, runner.scale) == (2, 3, 4)
    assert runner.fixed_size is None and runner.name == "small" and not runner.notes
    small = np.round(frames[0] * 255).astype(np.uint8)
    expected = np.asarray(model(small[None] / np.float32(255)))[0]
    np.testing.assert_allclose(runner(small), expected, atol=1e-5)


def test_without_weights_the_architecture_comes_fresh(pruned, frames):
    model, folder = pruned
    (folder / "model.weights.h5").unlink()
    fresh = MEGAN.from_preset(folder, load_weights=False)
    shapes = [[tuple(v.shape) for v in m.variables] for m in (fresh, model)]
    assert shapes[0] == shapes[1]
    assert not np.allclose(fresh(frames), model(frames))


def test_overrides_replace_the_presets_arguments(saved):
    _, folder = saved
    model = MEGAN.from_preset(folder, load_weights=False, fusion_blocks=2)
    assert model.get_config()["fusion_blocks"] == 2


def test_a_card_stays_where_none_is_given(saved):
    model, folder = saved
    model.save_to_preset(folder, description="new")
    assert (folder / "README.md").read_text() == "# Mine\n"


# === What is refused ==================================================================
def test_a_fixed_network_takes_no_arguments(pruned):
    with pytest.raises(ValueError, match="takes no arguments; received fusion_blocks"):
        MEGAN.from_preset(pruned[1], fusion_blocks=2)


def test_arguments_a_megan_does_not_have_are_refused(saved):
    with pytest.raises(ValueError, match="a MEGAN has no argument colour; expected"):
        MEGAN.from_preset(saved[1], colour="blue")


@pytest.mark.parametrize("kind", ["saved", "pruned"])
def test_damaged_weights_are_refused(kind, request):
    _, folder = request.getfixturevalue(kind)
    weights = folder / "model.weights.h5"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(ValueError, match="expected sha256 .*, received"):
        MEGAN.from_preset(folder)
    weights.unlink()
    with pytest.raises(ValueError, match="received no such file"):
        MEGAN.from_preset(folder)
    with pytest.raises(VideoError, match="received no such file"):
        load_runner(folder)


def test_weights_of_another_network_are_refused(saved, pruned):
    folder, other = saved[1], pruned[1]
    (folder / "model.weights.h5").write_bytes((other / "model.weights.h5").read_bytes())
    named = json.loads((other / "config.json").read_text())["weights_sha256"]
    edit(folder, weights_sha256=named)
    with pytest.raises(ValueError, match="weights of another network"):
        MEGAN.from_preset(folder)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"class": "MEGAN", "conf', "cannot be read"),
        ("[1, 2]", "is not the config of a preset"),
        ('{"class": "MEGAN"}', "is not the config of a preset"),
        ('{"class": "Functional", "config": {"layers": 3}}', "describes no network"),
        ('{"class": "Functional", "config": {}}', "describes no network"),
    ],
)
def test_a_damaged_config_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        MEGAN.from_preset(tmp_path)


def test_a_damaged_graph_is_refused(pruned):
    _, folder = pruned
    config = json.loads((folder / "config.json").read_text())["config"]
    del config["layers"][3]
    edit(folder, config=config)
    with pytest.raises(ValueError, match="describes no network"):
        MEGAN.from_preset(folder)


def test_a_preset_of_another_class_is_refused(saved):
    _, folder = saved
    edit(folder, **{"class": "Other"})
    with pytest.raises(ValueError, match="holds a Other, expected one of .*MEGAN"):
        MEGAN.from_preset(folder)


def test_layers_that_carry_code_are_refused_both_ways(tmp_path, pruned):
    inputs = keras.Input((2, 8, 8, 3))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1, name="f")(inputs))
    with pytest.raises(ValueError, match="layer 'f' is a Lambda, which carries code"):
        save_to_preset(model, tmp_path / "lambda")
    assert not (tmp_path / "lambda").exists()
    config = keras.saving.serialize_keras_object(model)["config"]
    edit(pruned[1], config=config)
    with pytest.raises(ValueError, match="carries code"):
        MEGAN.from_preset(pruned[1])


def test_models_that_are_no_graph_are_refused(tmp_path):
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="functional keras.Model; received a Own"):
        save_to_preset(Own(), tmp_path / "own")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Unknown preset 'megan_edgy'.*megan_edge"):
        MEGAN.from_preset("megan_edgy")


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no config.json"):
        MEGAN.from_preset(tmp_path)


def test_an_untrained_preset_says_so(saved):
    _, folder = saved
    (folder / "model.weights.h5").unlink()
    edit(folder, weights_sha256=None)
    with pytest.warns(UserWarning, match="no trained weights") as caught:
        MEGAN.from_preset(folder)
    assert Path(caught[0].filename) == Path(__file__)
