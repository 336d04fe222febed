"""The bare package works without the extras; what needs one says which to install."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from keras_megan.extras import EXTRAS, MissingExtra, require

ROOT = Path(__file__).parents[1]
#: Modules of extras that the bare dependencies install as well.
BROUGHT_BY_KERAS = {"absl", "flatbuffers", "rich"}

BARE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocked = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Blocked())

from keras_megan.quiet import load_keras

load_keras()
import keras
import keras_megan

needs_video = []
for name in (*keras_megan.__all__, "video", "presets"):
    try:
        assert getattr(keras_megan, name) is not None
    except keras_megan.extras.MissingExtra as error:
        assert "pip install 'keras_megan[video]'" in str(error), error
        needs_video.append(name)
assert not blocked & {name.partition(".")[0] for name in sys.modules}
inputs = keras.Input((8, 8, 3))
hidden = keras.layers.Conv2D(4, 3, name="hidden")(inputs)
model = keras.Model(inputs, keras.layers.Conv2D(2, 3)(hidden))
keras_megan.net2net.widen(model, {"hidden": 6}).apply()
keras_megan.MEGAN.from_preset("megan_nano")
print(*needs_video)
"""


@pytest.mark.slow
def test_the_bare_package_works_without_the_extras():
    blocked = {name for names in EXTRAS.values() for name in names} - BROUGHT_BY_KERAS
    done = subprocess.run(
        [sys.executable, "-c", BARE, ",".join(sorted(blocked))],
        capture_output=True,
        text=True,
        timeout=170,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["upscale", "video"]
    assert done.stderr == ""


def test_a_missing_package_is_one_line_that_names_its_extra(monkeypatch):
    monkeypatch.setitem(EXTRAS, "video", ("json", "no_such_module", "no.such.parent"))
    with pytest.raises(MissingExtra) as raised:
        require("video")
    assert str(raised.value) == (
        "This needs no_such_module, no.such.parent, which are not installed. Run: "
        "pip install 'keras_megan[video]'"
    )
    assert isinstance(raised.value, ImportError)


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_modules_listed_for_an_extra_are_those_it_installs(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]

    def distributions(name):
        for requirement in extras[name]:
            if requirement == "keras_megan[video]":
                yield from distributions("video")
            else:
                yield requirement.partition(">")[0].lower()

    installed = metadata.packages_distributions()
    # Ray is not among what the tests install, and its module has the package's name.
    installed.setdefault("ray", ["ray"])
    brought = {
        name.lower().replace("_", "-")
        for module in EXTRAS[extra]
        for name in installed[module]
    }
    assert brought == set(distributions(extra))
