"""How well one network, and committees, tell attacked images from clean ones.

A *detector* is a committee (`keras_megan.classifiers.mutual_inference`) whose last
network is the one that is attacked:

    single        that network alone; its score is 1 - its confidence
    stages        the networks that cumulative training left, in order
    independent   networks of the same kinds, trained separately, then the attacked one

Images that the network classifies correctly are attacked; only attacks that succeed
count. Their scores are compared with those of all clean images: area under the
ROC curve, and the share detected where one in twenty clean images is.

Transferred attacks know only the last network; adaptive ones know the whole committee.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_megan.classifiers.mutual_inference import (
    MutualInference,
    auroc,
    roc_curve,
    scores_of,
    true_positive_rate,
)
from training.classifiers.attacks import ATTACKS, OBJECTIVES, Attacker
from training.errors import TrainingError

#: Steps of the curves that are kept for figures.
_CURVE_POINTS = 101


@dataclass(frozen=True)
class DetectionSettings:
    """What to try.

    Attributes:
        epsilons: Radii of the attacks in 255ths.
        transferred: Names in `ATTACKS`, against the last network.
        adaptive: Names in `OBJECTIVES`, against all networks of a committee, by pgd.
        false_positive_rate: Share of the clean images that may be detected.
        batch_size: Images at once.
    """

    epsilons: tuple[float, ...] = (2.0, 4.0, 8.0)
    transferred: tuple[str, ...] = ("fgsm", "pgd")
    adaptive: tuple[str, ...] = ("all", "agreement")
    false_positive_rate: float = 0.05
    batch_size: int = 250


def measure_detection(
    detectors: Mapping[str, Sequence[keras.Model]],
    images: np.ndarray,
    labels: np.ndarray,
    settings: DetectionSettings | None = None,
    report=lambda text: None,
) -> list[dict]:
    """Attacks the last network and measures what each detector notices.

    Args:
        detectors: Name -> networks, all with the same last one.
        images: float32 (N, H, W, C) in [0, 1].
        labels: int64 (N,).
        settings: What to try.
        report: Called with a line after every attack.

    Returns:
        One dict per attack, strength, detector and score: ``attack``, ``epsilon`` (in
        255ths), ``detector``, ``score``, ``attacked`` and ``succeeded`` (counts),
        ``accuracy`` of the last network and ``committee_accuracy`` of the detector's
        mean, both of the attacked images, ``auroc``, ``true_positive_rate``, ``roc``
        (two lists). The last three are None where no attack succeeded.

    Raises:
        ValueError: If the detectors watch different networks.
        TrainingError: If the network classifies no image rightly.
    """
    settings = settings or DetectionSettings()
    last = {id(models[-1]) for models in detectors.values()}
    if len(last) != 1:
        raise ValueError(
            "All detectors must watch the same network, their last one; received "
            f"{len(last)} different ones."
        )
    bench = _Bench(detectors, images, labels, settings)
    target = next(iter(detectors.values()))[-1:]
    results = []
    for attack in settings.transferred:
        attacker = Attacker(OBJECTIVES["last"](target), settings.batch_size)
        for epsilon in settings.epsilons:
            changed = ATTACKS[attack](attacker, *bench.attacked, epsilon / 255.0)
            results += bench.judge(attack, epsilon, changed, detectors)
            report(f"{attack}, {epsilon:g}/255")
    for objective in settings.adaptive:
        for name, models in detectors.items():
            if len(models) < 2:
                continue
            attacker = Attacker(OBJECTIVES[objective](models), settings.batch_size)
            for epsilon in settings.epsilons:
                changed = attacker.pgd(*bench.attacked, epsilon / 255.0)
                attack = f"adaptive_{objective}"
                results += bench.judge(attack, epsilon, changed, [name])
                report(f"{attack} on {name}, {epsilon:g}/255")
    return results


class _Bench:
    """The clean images with every detector's scores, and how attacks are judged."""

    def __init__(self, detectors, images, labels, settings):
        self.settings = settings
        self.committees = {
            name: MutualInference(models) for name, models in detectors.items()
        }
        members = {name: self._members(name, images) for name in detectors}
        self.clean = {name: scores_of(found) for name, found in members.items()}
        found = next(iter(members.values()))[-1].argmax(-1)
        right = np.flatnonzero(found == labels)
        if not len(right):
            raise TrainingError(
                f"The network classifies none of the {len(labels)} images rightly, so "
                "there is nothing to attack. Is it trained, and on these classes?"
            )
        self.attacked = (images[right], labels[right])

    def _members(self, name, images):
        batch = self.settings.batch_size
        return self.committees[name].predict_members(images, batch)

    def judge(self, attack, epsilon, changed, names) -> list[dict]:
        labels, results = self.attacked[1], []
        for name in names:
            members = self._members(name, changed)
            fooled = members[-1].argmax(-1) != labels
            common = {
                "attack": attack,
                "epsilon": float(epsilon),
                "detector": name,
                "attacked": len(labels),
                "succeeded": int(fooled.sum()),
                "accuracy": float(1.0 - fooled.mean()),
                "committee_accuracy": float(
                    np.mean(members.mean(0).argmax(-1) == labels)
                ),
            }
            for score, values in scores_of(members).items():
                clean = self.clean[name][score]
                measured = self._measure(clean, values[fooled])
                results.append({**common, "score": score, **measured})
        return results

    def _measure(self, clean, fooled) -> dict:
        if not len(fooled):
            return {"auroc": None, "true_positive_rate": None, "roc": None}
        false_rates, true_rates = roc_curve(clean, fooled)
        grid = np.linspace(0.0, 1.0, _CURVE_POINTS)
        rate = self.settings.false_positive_rate
        return {
            "auroc": auroc(clean, fooled),
            "true_positive_rate": true_positive_rate(clean, fooled, rate),
            # Equal scores of both kinds make slopes, as in the area.
            "roc": [grid.tolist(), np.interp(grid, false_rates, true_rates).tolist()],
        }
