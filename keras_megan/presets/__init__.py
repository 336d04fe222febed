"""Named models: a preset is a folder with a config, weights and a model card.

    config.json         {"class": "MEGAN", "config": constructor arguments,
                         "description": ..., "weights_sha256": ... or null}
    model.weights.h5    the weights; absent where the preset is untrained
    README.md           the model card

A network that is not a MEGAN any more, because net2net has pruned its layers
unevenly, is held as {"class": "Functional", "config": its graph}; see
`presets.architecture`.

`from_preset` takes the name of a folder that ships with the package or the path of
any such folder; `save_to_preset` writes one. The config is data, the weights are
arrays: loading a preset runs no code that came with it. Names and configs can be read
without loading Keras.
"""

import difflib
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from keras_megan.files import appearing, write_whole

SHIPPED = Path(__file__).parent
CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
CARD = "README.md"


def preset_names() -> dict[str, str]:
    """The shipped presets: name -> one-line description."""
    return {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))["description"]
        for path in sorted(SHIPPED.glob(f"*/{CONFIG}"))
    }


def preset_folder(preset: str | Path) -> Path:
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
            f"The folder {folder} is not a preset: it has no {CONFIG}. "
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

    presets: dict[str, str] = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        from keras_megan.presets.architecture import register_class

        register_class(cls)

    @classmethod
    def from_preset(
        cls, preset: str | Path, load_weights: bool = True, **overrides: Any
    ) -> Any:
        """The network a preset describes; see `load_preset`."""
        return load_preset(preset, load_weights, **overrides)

    def save_to_preset(
        self, folder: str | Path, description: str = "", card: str | None = None
    ) -> None:
        """Writes the model as a preset folder; see `save_to_preset`."""
        save_to_preset(self, folder, description, card)


def load_preset(preset: str | Path, load_weights: bool = True, **overrides: Any) -> Any:
    """Builds the network a preset describes, with its weights.

    Args:
        preset: name of a shipped preset (`MEGAN.presets`) or path of a folder.
        load_weights: False: the architecture with fresh weights. A preset without
            weights gives fresh weights too, with a warning.
        **overrides: constructor arguments that replace the preset's; for presets that
            hold a MEGAN.

    Returns:
        A MEGAN; or a plain functional `keras.Model` of the same inputs and outputs
        where the preset holds a network that net2net has pruned.

    Raises:
        ValueError: unknown preset, a folder that is damaged, a config of an unknown
            class, or weights that are missing or whose checksum is not the one the
            config names.
    """
    from keras_megan.presets.architecture import build

    folder = preset_folder(preset)
    described = read_config(folder)
    try:
        model = build(described["class"], described["config"], overrides)
    except ValueError as error:
        raise ValueError(f"Cannot load the preset {folder.name}: {error}") from error
    if not load_weights:
        return model
    weights, expected = folder / WEIGHTS, described.get("weights_sha256")
    if expected is None and not weights.exists():
        warnings.warn(
            f"The preset {folder.name} has no trained weights: the model equals "
            "trilinear upsampling until it is trained.",
            stacklevel=3,
        )
        return model
    received = _sha256(weights) if weights.is_file() else "no such file"
    if expected != received:
        raise ValueError(
            f"{weights} is damaged or not the preset's: expected sha256 {expected}, "
            f"received {received}. Restore the folder, or load only the architecture "
            "with load_weights=False."
        )
    try:
        with warnings.catch_warnings():
            # Keras only warns of layers for which a file has no weights.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(weights)
    except (KeyError, OSError, UserWarning, ValueError) as error:
        raise ValueError(
            f"{weights} holds weights of another network than {folder / CONFIG}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    return model


def save_to_preset(
    model: Any, folder: str | Path, description: str = "", card: str | None = None
) -> None:
    """Writes a network as a preset folder: config, weights, model card.

    The files appear complete or not at all; the config, which names the weights'
    checksum, comes last.

    Args:
        model: a MEGAN or a functional `keras.Model`, such as a pruned MEGAN.
        folder: path, made if it does not exist.
        description: one line.
        card: text of the model card, or None to leave it as it is.

    Raises:
        ValueError: for any other model, or one with a layer that carries code.
    """
    from keras_megan.presets.architecture import FUNCTIONAL, describe

    class_name, config = describe(model)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    with appearing(weights) as aside:
        model.save_weights(aside)
    described = {
        "class": class_name,
        "description": description,
        "weights_sha256": _sha256(weights),
        "config": config,
    }
    if card is not None:
        write_whole(folder / CARD, card)
    # Nobody reads the graph of a network; indented it would be three times as large.
    indent = None if class_name == FUNCTIONAL else 2
    write_whole(folder / CONFIG, json.dumps(described, indent=indent) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of a preset's config, checked for their kind.

    Raises:
        ValueError: if it is missing or damaged.
    """
    path = folder / CONFIG
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The preset's {path} cannot be read: {error}.") from error
    kinds = {"class": str, "config": dict}
    if not isinstance(described, dict) or not all(
        isinstance(described.get(key), kind) for key, kind in kinds.items()
    ):
        raise ValueError(
            f"{path} is not the config of a preset: expected a JSON object with a text "
            "'class' and an object 'config', as `save_to_preset` writes."
        )
    return described


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
