"""What a run cost and what it reached, read from its folder.

    RUN/config.json, stages.json, stage_*/log.csv and validation.csv -> `RunAccount`

The account of one stage is steps * batch * multiply-adds of its network, forwards
once; training counts that three times (`training.stages.compute`), and those of its
teachers once. Runs of one recipe with different seeds are one *way*, given as means and
standard deviations. Ways are compared with training from scratch, whose cost is 1; the
cost at equal accuracy is what was spent when a run first came within a margin of
from-scratch's best.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.curves import read_curve
from training.errors import TrainingError
from training.runs.logs import read_csv
from training.stages.compute import PASSES


@dataclass(frozen=True)
class StageAccount:
    """One stage.

    Attributes:
        name: Name of the stage.
        changes: What was done to the network before.
        fraction: Share of the data.
        steps, samples: Done and seen.
        parameters: Number of parameters of its network.
        macs: Multiply-adds of its network's forward pass, per sample.
        teachers: Names of the stages whose networks taught it.
        teacher_macs: Multiply-adds of the teachers' forward passes, per sample.
        seconds: Time spent training, without validation.
        first, best: Scores as it began, and the highest.
    """

    name: str
    changes: tuple[str, ...]
    fraction: float
    steps: int
    samples: int
    parameters: int
    macs: float
    seconds: float
    first: float
    best: float
    teachers: tuple[str, ...] = ()
    teacher_macs: float = 0.0

    @property
    def forward_macs(self) -> float:
        """Multiply-adds of one forward pass for every sample seen."""
        return self.samples * (self.macs + self.teacher_macs)

    @property
    def training_macs(self) -> float:
        """Multiply-adds of forward and backward passes, and of the teachers."""
        return self.samples * (PASSES * self.macs + self.teacher_macs)


@dataclass(frozen=True)
class RunAccount:
    """One finished run.

    Attributes:
        way: Name of the recipe.
        seed: The run's seed.
        stages: In order.
        curve: (training multiply-adds, score) of every validation.
        score_name: What the scores are.
    """

    way: str
    seed: int
    stages: tuple[StageAccount, ...]
    curve: tuple[tuple[float, float], ...]
    score_name: str

    @property
    def training_macs(self) -> float:
        """Multiply-adds of training all stages."""
        return sum(stage.training_macs for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Time spent training all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def best(self) -> float:
        """The last stage's best score: that of the network that comes out."""
        return self.stages[-1].best

    def macs_to_reach(self, score: float) -> float | None:
        """Training multiply-adds when the score was first reached; None: never."""
        reached = (macs for macs, found in self.curve if found >= score)
        return next(reached, None)


def read_account(folder: str | Path) -> RunAccount:
    """Reads a run's folder.

    Raises:
        TrainingError: If the folder does not hold a run, or the run has not finished.
    """
    folder = Path(folder)
    curve = read_curve(folder)
    recipe = json.loads((folder / "config.json").read_text(encoding="utf-8"))["recipe"]
    path = folder / "stages.json"
    stages = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if len(stages) < len(recipe["stages"]) or not curve:
        raise TrainingError(
            f"The run '{folder}' has finished {len(stages)} of "
            f"{len(recipe['stages'])} stages with {len(curve)} validations; finish it "
            "(with --validation) before it is reported."
        )
    name = curve[0]["name"]
    return RunAccount(
        way=recipe["name"],
        seed=recipe["seed"],
        stages=tuple(
            StageAccount(
                name=stage["name"],
                changes=tuple(stage["changes"]),
                fraction=stage["fraction"],
                steps=stage["steps"],
                samples=stage["samples"],
                parameters=stage["parameters"],
                macs=stage["forward_macs_per_sample"],
                seconds=_seconds(folder / stage["folder"], stage),
                first=stage["first"][name],
                best=stage["best"][name],
                teachers=tuple(stage.get("teachers", ())),
                teacher_macs=stage.get("teacher_macs_per_sample", 0.0),
            )
            for stage in stages
        ),
        curve=tuple((point["training_macs"], point["score"]) for point in curve),
        score_name=name,
    )


def _seconds(folder: Path, stage: dict) -> float:
    """Training time of a stage, from the rates in its log."""
    rows = read_csv(folder / "log.csv")
    if not rows:
        return float("nan")
    batch, seconds, before = stage["samples"] / stage["steps"], 0.0, 0
    for row in rows:
        step = int(row["step"])
        seconds += (step - before) * batch / float(row["clips_per_second"])
        before = step
    return seconds * stage["steps"] / before


@dataclass(frozen=True)
class Way:
    """All runs of one recipe.

    Attributes:
        name: Name of the recipe.
        runs: Seed -> run.
    """

    name: str
    runs: tuple[RunAccount, ...]

    def mean(self, attribute: str) -> float:
        """Mean of a run's attribute over the seeds."""
        return float(np.mean([getattr(run, attribute) for run in self.runs]))

    @property
    def bests(self) -> list[float]:
        """Best scores, by seed."""
        return [run.best for run in self.runs]

    @property
    def final(self) -> StageAccount:
        """The last stage of the first run, for the sizes of its network."""
        return self.runs[0].stages[-1]


def gather_ways(folders: Sequence[str | Path]) -> dict[str, Way]:
    """Reads runs and puts those of one recipe together, ordered by seed."""
    found: dict[str, list[RunAccount]] = {}
    for folder in folders:
        run = read_account(folder)
        found.setdefault(run.way, []).append(run)
    return {
        name: Way(name, tuple(sorted(runs, key=lambda run: run.seed)))
        for name, runs in found.items()
    }


def choose_baseline(ways: dict[str, Way], name: str | None = None) -> Way:
    """The way that the others are compared with.

    Args:
        ways: All of them.
        name: Name of a recipe; None: the only one with a single stage.

    Raises:
        TrainingError: If there is no such recipe, or not exactly one candidate.
    """
    single = [way for way in ways if len(ways[way].runs[0].stages) == 1]
    name = name or (single[0] if len(single) == 1 else None)
    if name not in ways:
        raise TrainingError(
            f"Expected --baseline, the recipe that trains from scratch, one of "
            f"{', '.join(ways)}; {len(single)} of them have a single stage."
        )
    return ways[name]


def cost_to_reach(way: Way, baseline: Way, margin: float) -> float | None:
    """Mean multiply-adds to come within a margin of the baseline's best, relative.

    Args:
        way: Whose cost.
        baseline: Whose best score, and whose whole cost is 1.
        margin: In units of the score.

    Returns:
        None if a run never reached it.
    """
    target = float(np.mean(baseline.bests)) - margin
    costs = [run.macs_to_reach(target) for run in way.runs]
    if any(cost is None for cost in costs):
        return None
    return float(np.mean(costs)) / baseline.mean("training_macs")
