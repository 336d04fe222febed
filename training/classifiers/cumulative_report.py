"""Tables and figures of cumulative training against training from scratch.

    python -m training.classifiers.cumulative_report RUN... --out FOLDER \
        [--robustness A.json,B.json] [--baseline RECIPE] [--margin 0.005]

Runs of one recipe with different seeds are put together. The program writes
``report.md`` with the cost account and, given files of
`training.classifiers.robustness`, noise and detection; ``accuracy.png`` (score against
multiply-adds of training), ``noise.png`` and ``roc.png``. The report also says in words
which claims do not hold.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags
from rich.console import Console

from keras_megan.errors import run_program
from keras_megan.files import write_whole
from training.classifiers.cost_account import (
    StageAccount,
    Way,
    choose_baseline,
    cost_to_reach,
    gather_ways,
)
from training.classifiers.robustness_tables import (
    draw_noise,
    draw_roc,
    read_robustness,
    robustness_markdown,
)
from training.errors import TrainingError, saving

#: Share of the highest score that the closer look at a figure's top shows.
SHOWN_AT_THE_TOP = 0.1


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first two are numbers, to the right."""
    rule = ["---" if column < 2 else "---:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def cost_table(ways: Mapping[str, Way], baseline: Way, margin: float) -> str:
    """One row per way: cost, size and score, relative to the baseline."""
    head = (
        "recipe",
        "seeds",
        "forward, 10^12",
        "training, 10^12",
        "relative",
        f"to within {100 * margin:g} points",
        "inference, 10^6",
        "relative",
        "M parameters",
        "minutes",
        baseline.runs[0].score_name,
        "difference, points",
    )
    whole, size = baseline.mean("training_macs"), baseline.final.macs
    best = float(np.mean(baseline.bests))
    rows = []
    for way in ways.values():
        macs, reached = way.mean("training_macs"), cost_to_reach(way, baseline, margin)
        mean = float(np.mean(way.bests))
        rows.append(
            (
                way.name,
                ", ".join(str(run.seed) for run in way.runs),
                f"{macs / 3e12:.2f}",
                f"{macs / 1e12:.2f}",
                f"{macs / whole:.3f}",
                "never" if reached is None else f"{reached:.3f}",
                f"{way.final.macs / 1e6:.2f}",
                f"{way.final.macs / size:.3f}",
                f"{way.final.parameters / 1e6:.3f}",
                f"{way.mean('seconds') / 60:.1f}",
                _with_deviation(way.bests),
                f"{100 * (mean - best):+.2f}",
            )
        )
    return markdown_table(head, rows)


def _with_deviation(values: Sequence[float]) -> str:
    text = f"{np.mean(values):.4f}"
    return f"{text} +- {np.std(values, ddof=1):.4f}" if len(values) > 1 else text


def stage_table(ways: Mapping[str, Way], baseline: Way) -> str:
    """One row per stage, of each way's first seed."""
    head = (
        "recipe",
        "stage, changes before it",
        "data",
        "steps",
        "samples",
        "M parameters",
        "10^6 MACs",
        "training, 10^12",
        "share of from scratch",
        "minutes",
        "first",
        "best",
    )
    whole = baseline.mean("training_macs")
    rows = [
        (
            way.name,
            _stage_text(stage),
            f"{stage.fraction:g}",
            f"{stage.steps:,}",
            f"{stage.samples:,}",
            f"{stage.parameters / 1e6:.3f}",
            f"{stage.macs / 1e6:.2f}",
            f"{stage.training_macs / 1e12:.3f}",
            f"{stage.training_macs / whole:.3f}",
            f"{stage.seconds / 60:.1f}",
            f"{stage.first:.4f}",
            f"{stage.best:.4f}",
        )
        for way in ways.values()
        for stage in way.runs[0].stages
    ]
    return markdown_table(head, rows)


def _stage_text(stage: StageAccount) -> str:
    """A stage's name, what was done to the network, and who taught it."""
    taught = [f"taught by {' and '.join(stage.teachers)}"] if stage.teachers else []
    return "; ".join((stage.name, *map(_short, stage.changes), *taught))


def _short(change: str) -> str:
    """A change without the widths of every layer."""
    return change if len(change) <= 40 else change.split(" ", 1)[0]


def verdicts(ways: Mapping[str, Way], baseline: Way, margin: float) -> list[str]:
    """In words: does each way reach the baseline's score, and at what cost?"""
    lines, best = [], float(np.mean(baseline.bests))
    for way in ways.values():
        if way is baseline:
            continue
        share = way.mean("training_macs") / baseline.mean("training_macs")
        below = 100 * (best - float(np.mean(way.bests)))
        where = "below" if below > 0 else "above"
        within = "within" if below <= 100 * margin else "NOT within"
        lines.append(
            f"{way.name} ends {abs(below):.2f} points {where} {baseline.name} at "
            f"{share:.3f} of its training multiply-adds: {within} the margin of "
            f"{100 * margin:g} points."
        )
    return lines


def draw_accuracy(ways: Mapping[str, Way]) -> bytes:
    """Score against multiply-adds of training, a line per run, as a PNG's bytes.

    On the left all of it, on the right the last of it, where ways differ.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    whole, top = figure.subplots(1, 2)
    for axes in (whole, top):
        _draw_runs(axes, ways)
    runs = [run for way in ways.values() for run in way.runs]
    highest = max(score for run in runs for _, score in run.curve)
    top.set_ylim((1 - SHOWN_AT_THE_TOP) * highest, 1.01 * highest)
    whole.legend()
    return png(figure)


def _draw_runs(axes, ways: Mapping[str, Way]) -> None:
    for number, way in enumerate(ways.values()):
        for run in way.runs:
            macs, scores = np.asarray(run.curve).T
            axes.plot(
                macs / 1e12,
                scores,
                color=f"C{number}",
                alpha=0.8,
                label=way.name if run is way.runs[0] else None,
            )
            ends = np.cumsum([stage.training_macs for stage in run.stages])
            for end in ends[:-1]:
                axes.axvline(end / 1e12, color=f"C{number}", alpha=0.2)
    axes.set_xlabel("training compute, 10^12 multiply-adds")
    axes.set_ylabel(next(iter(ways.values())).runs[0].score_name)
    axes.grid(alpha=0.3)


def png(figure) -> bytes:
    """A figure as a PNG file's bytes, without dates."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def make_report(
    folders: Sequence[str | Path],
    out: Path,
    robustness: Sequence[str | Path] = (),
    baseline: str | None = None,
    margin: float = 0.005,
) -> str:
    """Writes the report and its figures.

    Args:
        folders: Folders of finished runs.
        out: Folder to write to.
        robustness: Files of `training.classifiers.robustness`.
        baseline: Recipe that is training from scratch; None: the only one with a single
            stage.
        margin: How much lower a score may be and still count as equal.

    Returns:
        The report's text.

    Raises:
        TrainingError: If a run has not finished, or a file is not what it should be.
    """
    if not folders:
        raise TrainingError("Expected one or more folders of runs to report.")
    ways = gather_ways(folders)
    scratch = choose_baseline(ways, baseline)
    measured = [read_robustness(path) for path in robustness]
    parts = [
        "# Cumulative training: report",
        "## Cost and accuracy",
        cost_table(ways, scratch, margin),
        "\n".join(f"- {line}" for line in verdicts(ways, scratch, margin)),
        "![](accuracy.png)",
        "## Stages",
        stage_table(ways, scratch),
    ]
    pictures = {"accuracy.png": draw_accuracy(ways)}
    if measured:
        parts += [robustness_markdown(measured, markdown_table)]
        pictures["noise.png"] = png(draw_noise(measured))
        pictures["roc.png"] = png(draw_roc(measured))
    text = "\n\n".join(part for part in parts if part) + "\n"
    with saving(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            write_whole(out / name, picture)
        write_whole(out / "report.md", text)
    return text


def _define_flags() -> None:
    """Only in the program itself: flags are global, and modules import each other."""
    flags.DEFINE_string("out", "runs/report", "Folder for report.md and the figures.")
    flags.DEFINE_list(
        "robustness", [], "JSON files of training.classifiers.robustness."
    )
    flags.DEFINE_string(
        "baseline", None, "Name of the recipe that trains from scratch."
    )
    flags.DEFINE_float(
        "margin", 0.005, "Difference that still counts as equal accuracy, as a share."
    )


def _main(runs: list[str]) -> int:
    given = flags.FLAGS
    text = make_report(
        runs, Path(given.out), given.robustness, given.baseline, given.margin
    )
    console = Console()
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Wrote {Path(given.out) / 'report.md'}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    _define_flags()
    app.run(lambda argv: run_program("cumulative_report", lambda: _main(argv[1:])))
