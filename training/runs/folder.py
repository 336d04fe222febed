"""The run's folder: which recipe it belongs to, and the results.

``config.json`` holds the recipe as data and where it ran first; a second run with
another recipe in the same folder is refused, setting by setting. ``stages.json`` sums
up every finished stage: network, cost, scores.
"""

import json
import platform
from importlib import metadata
from pathlib import Path

from keras_megan.files import write_json
from keras_megan.net2net import count_params
from training.errors import TrainingError, saving
from training.runs.logs import read_csv
from training.stages.compute import PASSES
from training.stages.recipe import HARMLESS, Recipe

_PACKAGES = ("tensorflow", "keras", "numpy", "opencv-python-headless")


def begin_run(recipe: Recipe, out: Path) -> None:
    """Claims a folder for a recipe, or checks that it belongs to it.

    Raises:
        TrainingError: If another recipe has run there, or it cannot be written.
    """
    path = out / "config.json"
    document = recipe.document()
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["recipe"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"'{path}' is not a run's config ({error}). Choose another --out."
            ) from error
        differing = sorted(set(_differences(found, document)))
        if differing:
            raise TrainingError(
                f"'{out}' holds a run of another recipe: {'; '.join(differing[:3])}. "
                "Use the same settings to continue, or another --out."
            )
        return
    with saving(out):
        out.mkdir(parents=True, exist_ok=True)
    environment = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }
    with saving(path):
        write_json(path, {"recipe": document, "environment": environment})


def _differences(found, given, place=""):
    """Yields "place was A, is B" for all settings that matter."""
    if isinstance(found, dict) and isinstance(given, dict):
        # A setting that the config does not have came later; its default is what was.
        for name in found.keys():
            if not place and name in HARMLESS:
                continue
            where = f"{place}.{name}" if place else name
            yield from _differences(found.get(name), given.get(name), where)
    elif isinstance(found, list) and isinstance(given, list):
        if len(found) != len(given):
            yield f"{place} had {len(found)} entries, has {len(given)}"
        for i, pair in enumerate(zip(found, given, strict=False)):
            yield from _differences(*pair, f"{place}[{i}]")
    elif found != given:
        yield f"{place} was {found!r}, is {given!r}"


def sum_up(recipe: Recipe, out: Path, number: int, run) -> None:
    """Writes a finished stage into ``stages.json``.

    Args:
        recipe: The run's recipe.
        out: The run's folder.
        number: Number of the stage.
        run: The `training.engine.loop.StageRun`.
    """
    path, stage = out / "stages.json", run.stage
    stages = json.loads(path.read_text()) if path.exists() else []
    scores = [
        {name: float(value) for name, value in row.items()}
        for row in read_csv(run.folder / "validation.csv")
    ]
    name = recipe.task.score_name
    stages[number:] = [
        {
            "name": stage.name,
            "folder": run.folder.name,
            "changes": [change.describe() for change in stage.changes],
            "fraction": stage.fraction,
            "steps": stage.steps,
            "samples": stage.steps * recipe.batch_size,
            "parameters": int(count_params(run.kept)),
            "training_macs": run.macs(stage.steps),
            "forward_macs_per_sample": run.macs_per_sample / PASSES,
            "teacher_macs_per_sample": run.teacher_macs_per_sample,
            "teachers": list(stage.teaching.stages) if stage.teaching else [],
            "first": scores[0] if scores else None,
            "last": scores[-1] if scores else None,
            "best": max(scores, key=lambda row: row[name]) if scores else None,
        }
    ]
    with saving(path):
        write_json(path, stages)
