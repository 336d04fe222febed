"""Tables, figures and verdicts from the files of `training.classifiers.robustness`.

Several files, one per seed, are averaged: noise by network and strength, detection by
attack, strength, detector and score. Where no attack of a seed succeeded, its numbers
are left out of that mean.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from training.errors import TrainingError

#: The strength of the noise by which the verdict is given.
VERDICT_SIGMA = 0.1
#: What committees are compared with: one network's own confidence.
REFERENCE = ("single", "inconsistency")


def read_robustness(path: str | Path) -> dict:
    """Reads one file.

    Raises:
        TrainingError: If `training.classifiers.robustness` did not write it.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if {"networks", "detection"} <= set(document):
            return document
        reason = "it lacks 'networks' or 'detection'"
    except (OSError, ValueError, TypeError) as error:
        reason = str(error)
    raise TrainingError(
        f"'{path}' was not written by training.classifiers.robustness ({reason}). Make "
        "it with python -m training.classifiers.robustness."
    )


def mean_noise(documents: Sequence[Mapping]) -> dict[tuple, dict[str, float]]:
    """(network, noise, strength) -> means of ``mean`` and ``drop``."""
    return _means(
        ((network, noise, row["strength"]), row)
        for document in documents
        for network, found in document["networks"].items()
        for noise, rows in found["noise"].items()
        for row in rows
    )


def mean_detection(documents: Sequence[Mapping]) -> dict[tuple, dict[str, float]]:
    """(attack, epsilon, detector, score) -> means of the numbers measured."""
    return _means(
        ((row["attack"], row["epsilon"], row["detector"], row["score"]), row)
        for document in documents
        for row in document["detection"]
    )


def _means(pairs) -> dict[tuple, dict[str, float]]:
    found: dict[tuple, dict[str, list]] = {}
    for key, row in pairs:
        values = found.setdefault(key, {})
        for name, value in row.items():
            if name not in key and isinstance(value, int | float):
                values.setdefault(name, []).append(value)
    return {
        key: {name: float(np.mean(some)) for name, some in values.items()}
        for key, values in found.items()
    }


def robustness_markdown(documents: Sequence[Mapping], table: Callable) -> str:
    """The report's part on robustness.

    Args:
        documents: From `read_robustness`.
        table: (head, rows) -> Markdown.
    """
    parts = [
        "## Generalisation",
        table(*_gaps(documents)),
        "## Noise",
        table(*_noise_rows(mean_noise(documents))),
        "![](noise.png)",
        "## Detection of attacks",
        table(*_detection_rows(mean_detection(documents))),
        "![](roc.png)",
        "\n".join(f"- {line}" for line in verdicts(documents)),
    ]
    return "\n\n".join(part for part in parts if part)


def _gaps(documents):
    names = {name: None for document in documents for name in document["networks"]}
    rows = []
    for name in names:
        some = [d["networks"][name] for d in documents if name in d["networks"]]
        keys = ("training_accuracy", "accuracy", "gap")
        means = [f"{np.mean([x[key] for x in some]):.4f}" for key in keys]
        rows.append((name, str(len(some)), *means))
    return ("network", "seeds", "training accuracy", "accuracy", "gap"), rows


def _noise_rows(means):
    names = list(dict.fromkeys(network for network, _, _ in means))
    rows = []
    for noise, strength in dict.fromkeys((n, s) for _, n, s in means):
        cells = [noise, f"{strength:g}"]
        for name in names:
            found = means.get((name, noise, strength))
            cells += (
                [f"{found[x]:.4f}" for x in ("mean", "drop")] if found else ["-"] * 2
            )
        rows.append(tuple(cells))
    head = ["noise", "strength"]
    for name in names:
        head += [f"{name}: accuracy", "drop"]
    return head, rows


def _detection_rows(means):
    scores = list(dict.fromkeys(score for *_, score in means))
    rows = []
    for attack, epsilon, detector in dict.fromkeys(key[:3] for key in means):
        found = [means[attack, epsilon, detector, score] for score in scores]
        cells = [attack, detector, f"{epsilon:g}", f"{found[0]['succeeded']:.0f}"]
        cells += [f"{found[0][x]:.3f}" for x in ("accuracy", "committee_accuracy")]
        for values in found:
            cells += [
                f"{values[x]:.3f}" if x in values else "-"
                for x in ("auroc", "true_positive_rate")
            ]
        rows.append(tuple(cells))
    head = [
        "attack",
        "detector",
        "eps, 255ths",
        "succeeded",
        "accuracy",
        "of committee",
    ]
    for score in scores:
        head += [f"{score}: AUROC", "TPR at 5 % FPR"]
    return head, rows


def verdicts(documents: Sequence[Mapping]) -> list[str]:
    """Says whether the grown network is more robust and the committee better."""
    lines, noise = [], mean_noise(documents)
    drops = [
        noise.get((name, "gaussian", VERDICT_SIGMA)) for name in ("final", "scratch")
    ]
    if all(drops):
        grown, scratch = (drop["drop"] for drop in drops)
        word = "less than" if grown < scratch else "NOT less than"
        lines.append(
            f"At sigma {VERDICT_SIGMA:g} the grown network loses {100 * grown:.2f} "
            f"points, {word} the one from scratch ({100 * scratch:.2f})."
        )
    detection = mean_detection(documents)
    committees = dict.fromkeys(key[2] for key in detection if key[2] != REFERENCE[0])
    for attack, epsilon in dict.fromkeys(key[:2] for key in detection):
        alone = detection.get((attack, epsilon, *REFERENCE), {}).get("auroc")
        for name in committees if alone is not None else ():
            parts = [
                f"{score} {values['auroc']:.3f} "
                f"({'above' if values['auroc'] > alone else 'NOT above'})"
                for (*key, score), values in detection.items()
                if key == [attack, epsilon, name] and "auroc" in values
            ]
            lines.append(
                f"{attack} at {epsilon:g}/255: AUROC of one network's confidence "
                f"{alone:.3f}; of the committee '{name}': {', '.join(parts) or '-'}."
            )
    return lines


# === Figures ==========================================================================
def draw_noise(documents: Sequence[Mapping]):
    """Accuracy against the strength of each noise, a line per network."""
    from matplotlib.figure import Figure

    means = mean_noise(documents)
    noises = list(dict.fromkeys(noise for _, noise, _ in means))
    figure = Figure(figsize=(4 * len(noises), 3.5), dpi=120, layout="constrained")
    for axes, noise in zip(
        np.ravel(figure.subplots(1, len(noises), sharey=True)), noises, strict=True
    ):
        for name in dict.fromkeys(network for network, _, _ in means):
            some = [d["networks"][name] for d in documents if name in d["networks"]]
            points = [(0.0, float(np.mean([found["accuracy"] for found in some])))]
            points += [
                (strength, values["mean"])
                for (network, kind, strength), values in means.items()
                if (network, kind) == (name, noise)
            ]
            axes.plot(*zip(*sorted(points), strict=True), "o-", label=name)
        axes.set_xlabel(noise.replace("_", " "))
        axes.grid(alpha=0.3)
    axes.legend()
    figure.axes[0].set_ylabel("accuracy")
    return figure


def draw_roc(documents: Sequence[Mapping]):
    """ROC curves at the middle strength: a row per score, a column per attack.

    The curve of one network's own confidence is in every row.
    """
    from matplotlib.figure import Figure

    rows = [row for document in documents for row in document["detection"]]
    strengths = sorted({row["epsilon"] for row in rows})
    middle = strengths[len(strengths) // 2]
    attacks, scores, detectors = (
        list(dict.fromkeys(row[key] for row in rows))
        for key in ("attack", "score", "detector")
    )
    size = (3.0 * len(attacks), 0.5 + 2.6 * len(scores))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    grid = figure.subplots(
        len(scores), len(attacks), sharex=True, sharey=True, squeeze=False
    )
    for (line, column), axes in np.ndenumerate(grid):
        for number, detector in enumerate(detectors):
            score = REFERENCE[1] if detector == REFERENCE[0] else scores[line]
            wanted = (attacks[column], middle, detector, score)
            curves = [
                row["roc"]
                for row in rows
                if row["roc"]
                and tuple(row[k] for k in ("attack", "epsilon", "detector", "score"))
                == wanted
            ]
            if curves:
                axes.plot(*np.mean(curves, axis=0), color=f"C{number}", label=detector)
        axes.plot([0, 1], [0, 1], ":", color="grey")
        axes.grid(alpha=0.3)
        if line == 0:
            axes.set_title(f"{attacks[column]}, {middle:g}/255", fontsize=9)
        if column == 0:
            axes.set_ylabel(f"{scores[line]}\ntrue positives", fontsize=9)
        if line == len(scores) - 1:
            axes.set_xlabel("false positives")
    grid[0, 0].legend(fontsize=8)
    return figure
