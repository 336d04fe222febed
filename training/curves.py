"""Score against training compute, for one run or several side by side.

    python -m training.curves --runs RUN_A,RUN_B --out FILE.png

Reads the ``validation.csv`` of every stage. Stages of a run are joined into one line,
with a mark where a new stage begins (a grown network computes what the old one did, so
the line does not jump). The table of the figure is printed as well.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path

from absl import app, flags
from rich.console import Console
from rich.table import Table

from keras_megan.errors import run_program
from keras_megan.files import write_whole
from training.errors import TrainingError, saving
from training.runs.logs import read_csv


def read_curve(run: Path, score: str | None = None) -> list[dict]:
    """The validations of a run: stage, step, training_macs, score; in order.

    Raises:
        TrainingError: If the folder does not hold a run.
    """
    path = Path(run) / "config.json"
    if not path.exists():
        raise TrainingError(f"'{run}' does not hold a run: it has no config.json.")
    stages = json.loads(path.read_text(encoding="utf-8"))["recipe"]["stages"]
    points = []
    for number, stage in enumerate(stages):
        folder = Path(run) / f"stage_{number}_{stage['name']}"
        for row in read_csv(folder / "validation.csv"):
            name = score or next(k for k in row if k != "step")
            points.append(
                {
                    "stage": stage["name"],
                    "step": int(row["step"]),
                    "training_macs": float(row["training_macs"]),
                    "score": float(row[name]),
                    "name": name,
                }
            )
    return points


def draw_curves(runs: Mapping[str, Path], path: Path, score: str | None = None) -> None:
    """Draws the runs' curves into a PNG, unless nothing was scored yet.

    Args:
        runs: Label -> run folder.
        path: Path of the PNG.
        score: Column of ``validation.csv``; None: the first.
    """
    curves = {label: read_curve(run, score) for label, run in runs.items()}
    curves = {label: points for label, points in curves.items() if points}
    if not curves:
        return
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for label, points in curves.items():
        macs = [point["training_macs"] / 1e15 for point in points]
        (line,) = axes.plot(macs, [p["score"] for p in points], label=label)
        first = [
            p
            for before, p in zip([None, *points], points, strict=False)
            if before is None or before["stage"] != p["stage"]
        ]
        axes.plot(
            [point["training_macs"] / 1e15 for point in first],
            [point["score"] for point in first],
            "o",
            color=line.get_color(),
        )
    axes.set_xlabel("training compute, 10^15 multiply-adds")
    axes.set_ylabel(next(iter(curves.values()))[0]["name"])
    axes.grid(alpha=0.3)
    axes.legend()
    picture = io.BytesIO()
    # No date or version inside: the same numbers give the same file.
    metadata = {"Software": f"matplotlib {matplotlib.__version__}"}
    figure.savefig(picture, format="png", metadata=metadata)
    with saving(path):
        write_whole(path, picture.getvalue())


def make_table(runs: Mapping[str, Path]) -> Table:
    """Stages, steps, parameters, compute and scores of finished stages."""
    table = Table()
    for column in ("run", "stage", "steps", "parameters", "10^15 MACs", "last", "best"):
        table.add_column(
            column, justify="left" if column in ("run", "stage") else "right"
        )
    for label, run in runs.items():
        path = Path(run) / "stages.json"
        for stage in json.loads(path.read_text()) if path.exists() else []:
            scores = [_first_score(stage[which]) for which in ("last", "best")]
            table.add_row(
                label,
                stage["name"],
                f"{stage['steps']:,}",
                f"{stage['parameters']:,}",
                f"{stage['training_macs'] / 1e15:.3f}",
                *scores,
            )
    return table


def _first_score(row: dict | None) -> str:
    if not row:
        return "-"
    name = next(key for key in row if key != "step")
    return f"{name} {row[name]:.3f}"


def _define_flags() -> None:
    """Only in the program itself: flags are global, and modules import each other."""
    flags.DEFINE_list("runs", [], "Folders of runs.")
    flags.DEFINE_string("out", "curves.png", "PNG file to write.")
    flags.DEFINE_string(
        "score", None, "Column of validation.csv to show; by default the first."
    )


def _main() -> int:
    if not flags.FLAGS.runs:
        raise TrainingError("Expected --runs RUN_A,RUN_B: the runs to compare.")
    runs = {Path(run).resolve().name: Path(run) for run in flags.FLAGS.runs}
    draw_curves(runs, Path(flags.FLAGS.out), flags.FLAGS.score)
    console = Console()
    console.print(make_table(runs))
    console.print(f"Wrote {flags.FLAGS.out}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    _define_flags()
    app.run(lambda argv: run_program("curves", _main))
