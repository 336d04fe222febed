"""`megan models`: the presets that come with the package, without loading one."""

import argparse
import json
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_megan.presets import WEIGHTS, preset_folder, preset_names
    from keras_megan.video.models.engines import DEFAULT_MODEL
    from keras_megan.video.models.preset_files import read_listing

    models: list[dict[str, Any]] = []
    for name, description in preset_names().items():
        folder = preset_folder(name)
        weights = folder / WEIGHTS
        size = weights.stat().st_size if weights.is_file() else 0
        files = read_listing(folder)
        models.append(
            {
                "name": name,
                "description": description,
                "default": name == DEFAULT_MODEL,
                "trained": size > 0,
                "megabytes": round(size / 1e6, 1),
                "litert": [f"{f.precision} {f.width}x{f.height}" for f in files],
            }
        )
    if arguments.json:
        print(json.dumps({"models": models}))
        return
    for model in models:
        default = " (default)" if model["default"] else ""
        print(f"{model['name']}{default}: {model['description']}")
        state = f"{model['megabytes']} MB" if model["trained"] else "not trained yet"
        engines = ", ".join(model["litert"]) or "none: it runs on Keras"
        print(f"    weights: {state}; files for LiteRT: {engines}")
