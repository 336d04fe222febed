"""Named models: a preset is a folder with a config, weights and a model card.

    config.json         {"class": "MEGAN", "config": constructor arguments,
                         "description": ..., "weights_sha256": ... or null}
    model.weights.h5    the weights; absent where the preset is untrained
    README.md           the model card

`from_preset` takes the name of a folder that ships with the package or the path of
any such folder; `save_to_preset` writes one. The config is data, the weights are
arrays: loading a preset runs no code that came with it.
"""

import difflib
import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path

SHIPPED = Path(__file__).parent
CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
CARD = "README.md"


def preset_names():
    """The shipped presets: name -> one-line description."""
    return {
        folder.parent.name: json.loads(folder.read_text())["description"]
        for folder in sorted(SHIPPED.glob(f"*/{CONFIG}"))
    }


def preset_folder(preset):
    """The folder of a shipped preset's name or of a preset folder's path.

    Raises:
        ValueError: if there is no such preset, with the nearest names.
    """
    names = preset_names()
    if str(preset) in names:
        return SHIPPED / str(preset)
    folder = Path(preset)
    if (folder / CONFIG).is_file():
        return folder
    if folder.is_dir():
        raise ValueError(
            f"The folder {folder} is no preset: it has no {CONFIG}. "
            "`model.save_to_preset(folder)` writes one."
        )
    near = difflib.get_close_matches(str(preset), names, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"Unknown preset {str(preset)!r}.{hint} Expected one of {', '.join(names)} "
        "or the path of a folder written by `save_to_preset`."
    )


class Presets:
    """Gives a model class `from_preset`, `save_to_preset` and `presets`."""

    presets = {}

    @classmethod
    def from_preset(cls, preset, load_weights=True, **overrides):
        """Builds the model a preset describes, with its weights.

        Args:
            preset: name of a shipped preset (`cls.presets`) or path of a folder.
            load_weights: False: the architecture with fresh weights. A preset
                without weights gives fresh weights too, with a warning.
            **overrides: constructor arguments that replace the preset's.

        Raises:
            ValueError: unknown preset, a config of another class, or weights whose
                checksum is not the one the config names.
        """
        folder = preset_folder(preset)
        described = json.loads((folder / CONFIG).read_text())
        if described.get("class") != cls.__name__:
            raise ValueError(
                f"The preset {folder.name} holds a {described.get('class')}, expected "
                f"a {cls.__name__}."
            )
        model = cls(**{**described["config"], **overrides})
        weights = folder / WEIGHTS
        if load_weights and weights.is_file():
            expected = described.get("weights_sha256")
            received = _sha256(weights)
            if expected != received:
                raise ValueError(
                    f"{weights} is damaged or not the preset's: expected sha256 "
                    f"{expected}, received {received}."
                )
            model.load_weights(weights)
        elif load_weights:
            warnings.warn(
                f"The preset {folder.name} has no trained weights: the model equals "
                "trilinear upsampling until it is trained.",
                stacklevel=2,
            )
        return model

    def save_to_preset(self, folder, description="", card=None):
        """Writes the model as a preset folder: config, weights, model card.

        The files appear complete or not at all; the config, which names the weights'
        checksum, comes last.

        Args:
            folder: path, made if it does not exist.
            description: one line.
            card: text of the model card, or None to leave it as it is.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / WEIGHTS
        aside = folder / f".aside-{os.getpid()}.weights.h5"
        try:
            self.save_weights(aside)
            _sync(aside)
            os.replace(aside, weights)
        finally:
            aside.unlink(missing_ok=True)
        config = self.get_config()
        described = {
            "class": type(self).__name__,
            "description": description,
            "config": {k: v for k, v in config.items() if k != "dtype"},
            "weights_sha256": _sha256(weights),
        }
        if card is not None:
            _write(folder / CARD, card)
        _write(folder / CONFIG, json.dumps(described, indent=2) + "\n")


def _write(path, text):
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".aside-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        Path(aside).unlink(missing_ok=True)


def _sync(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
