"""Presets: names, folders, checksums, and what is refused."""

import json

import numpy as np
import pytest

from keras_megan import MEGAN

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


@pytest.fixture
def saved(tmp_path, rng):
    model = MEGAN(**TINY)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.1))
    model.save_to_preset(tmp_path / "mine", description="tiny", card="# Mine\n")
    return model, tmp_path / "mine"


def test_every_shipped_preset_has_a_description_and_builds():
    assert set(MEGAN.presets) >= {"megan_base", "megan_edge"}
    for name, description in MEGAN.presets.items():
        assert description and "\n" not in description
        assert MEGAN.from_preset(name, load_weights=False).num_frames == 4


def test_a_saved_preset_loads_with_the_same_outputs(saved, rng):
    model, folder = saved
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.weights.h5",
    ]
    frames = rng.uniform(size=(1, 2, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(MEGAN.from_preset(folder)(frames), model(frames))


def test_overrides_replace_the_presets_arguments(saved):
    _, folder = saved
    model = MEGAN.from_preset(folder, load_weights=False, fusion_blocks=2)
    assert model.get_config()["fusion_blocks"] == 2


def test_damaged_weights_are_refused(saved):
    _, folder = saved
    weights = folder / "model.weights.h5"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(ValueError, match="expected sha256 .*, received"):
        MEGAN.from_preset(folder)


def test_a_preset_of_another_class_is_refused(saved):
    _, folder = saved
    config = json.loads((folder / "config.json").read_text())
    config["class"] = "Other"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="holds a Other, expected a MEGAN"):
        MEGAN.from_preset(folder)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Unknown preset 'megan_edgy'.*megan_edge"):
        MEGAN.from_preset("megan_edgy")


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no config.json"):
        MEGAN.from_preset(tmp_path)


def test_an_untrained_preset_says_so(tmp_path, saved):
    _, folder = saved
    (folder / "model.weights.h5").unlink()
    with pytest.warns(UserWarning, match="no trained weights"):
        MEGAN.from_preset(folder)
