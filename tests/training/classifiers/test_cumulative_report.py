"""The report's numbers are those of the folders, by hand; a real run fits in."""

import json

import cv2
import numpy as np
import pytest

from keras_megan import net2net
from keras_megan.classifiers.vgg import vgg_bn
from tests.training.conftest import run_program, write_pack
from training.classifiers.cost_account import (
    choose_baseline,
    cost_to_reach,
    gather_ways,
    read_account,
)
from training.classifiers.cumulative_report import make_report
from training.classifiers.robustness_tables import (
    mean_detection,
    mean_noise,
    read_robustness,
)
from training.errors import TrainingError

BATCH = 10


def write_run(folder, way, seed, stages):
    """A finished run's folder. Stages: name, steps, macs, scores by step, rate."""
    folder.mkdir(parents=True)
    names = [{"name": name} for name, *_ in stages]
    recipe = {"name": way, "seed": seed, "stages": names}
    (folder / "config.json").write_text(json.dumps({"recipe": recipe}))
    rows, total = [], 0.0
    for number, (name, steps, macs, scores, rate) in enumerate(stages):
        place = folder / f"stage_{number}_{name}"
        place.mkdir()
        lines = ["step,accuracy,training_macs"]
        for step, score in scores.items():
            lines.append(f"{step},{score},{total + 3 * step * BATCH * macs}")
        (place / "validation.csv").write_text("\n".join(lines) + "\n")
        log = ["step,loss,clips_per_second"]
        log += [f"{step},1.0,{rate}" for step in range(10, steps + 1, 10)]
        (place / "log.csv").write_text("\n".join(log) + "\n")
        total += 3 * steps * BATCH * macs
        best, first = max(scores.values()), next(iter(scores.values()))
        rows.append(
            {
                "name": name,
                "folder": place.name,
                "changes": ["widen factor=2"] if number else [],
                "fraction": (number + 1) / len(stages),
                "steps": steps,
                "samples": steps * BATCH,
                "parameters": 100 * (number + 1),
                "training_macs": total,
                "forward_macs_per_sample": macs,
                "first": {"accuracy": first},
                "last": {"accuracy": best},
                "best": {"accuracy": best},
            }
        )
    (folder / "stages.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def runs(tmp_path):
    """From scratch twice, cumulative twice."""
    folders = []
    for seed, gain in ((0, 0.0), (1, 0.02)):
        scores = {0: 0.1, 20: 0.5 + gain, 40: 0.8 + gain}
        folders.append(
            write_run(
                tmp_path / f"scratch{seed}", "s", seed, [("only", 40, 1e9, scores, 100)]
            )
        )
        stages = [
            ("small", 20, 2e8, {0: 0.1, 20: 0.6}, 400),
            ("large", 15, 1e9, {0: 0.6, 10: 0.806 + gain, 15: 0.803 + gain}, 100),
        ]
        folders.append(write_run(tmp_path / f"grown{seed}", "c", seed, stages))
    return folders


def test_the_account_is_steps_times_batch_times_multiply_adds(runs):
    run = read_account(runs[1])
    assert [stage.forward_macs for stage in run.stages] == [200 * 2e8, 150 * 1e9]
    assert run.training_macs == 3 * (200 * 2e8 + 150 * 1e9)
    assert run.seconds == pytest.approx(200 / 400 + 150 / 100)
    assert run.best == 0.806 and (run.way, run.seed) == ("c", 0)
    assert run.macs_to_reach(0.7) == 3 * (200 * 2e8 + 100 * 1e9)
    assert run.macs_to_reach(0.9) is None


def test_seeds_are_grouped_by_recipe_and_the_single_stage_is_the_baseline(runs):
    ways = gather_ways(reversed(runs))
    assert {name: [r.seed for r in way.runs] for name, way in ways.items()} == {
        "c": [0, 1],
        "s": [0, 1],
    }
    baseline = choose_baseline(ways)
    assert baseline.name == "s" and np.mean(baseline.bests) == pytest.approx(0.81)
    # 0.81 - 0.005 is reached by both, at step 10 of the second stage.
    expected = (200 * 2e8 + 100 * 1e9) / (400 * 1e9)
    assert cost_to_reach(ways["c"], baseline, 0.005) == pytest.approx(expected)
    assert cost_to_reach(ways["c"], baseline, 0.0) is None  # seed 0 never does
    assert choose_baseline(ways, "c").name == "c"


def test_the_report_holds_the_ratios_and_the_verdicts(runs, tmp_path):
    text = make_report(runs, tmp_path / "out")
    row = next(line for line in text.splitlines() if line.startswith("| c | 0, 1 |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # forward, training, relative, to the margin, inference, relative, parameters
    relative = (200 * 2e8 + 150 * 1e9) / (400 * 1e9)
    assert cells[2:9] == [
        "0.19",
        "0.57",
        f"{relative:.3f}",
        "0.350",
        "1000.00",
        "1.000",
        "0.000",
    ]
    assert cells[10:] == ["0.8160 +- 0.0141", "+0.60"]
    assert "c ends 0.60 points above s at 0.475 of its training multiply-adds" in text
    assert (tmp_path / "out" / "report.md").read_text() == text
    assert cv2.imread(str(tmp_path / "out" / "accuracy.png")).shape == (480, 1200, 3)
    assert not (tmp_path / "out" / "noise.png").exists()
    worse = write_run(tmp_path / "w", "w", 0, [("a", 1, 1e9, {0: 0.1, 1: 0.2}, 1)] * 2)
    text = make_report([*runs, worse], tmp_path / "out")
    assert "w ends 61.00 points below s" in text and "NOT within the margin" in text


def robustness(final_drop, single, stages):
    def network(drop):
        rows = [
            {"strength": 0.1, "accuracies": [0.8], "mean": 0.8 - drop, "drop": drop}
        ]
        values = {"accuracy": 0.8, "training_accuracy": 0.9, "gap": 0.1}
        return {**values, "noise": {"gaussian": rows, "salt_and_pepper": rows}}

    detection = [
        {
            "attack": attack,
            "epsilon": 4.0,
            "detector": detector,
            "score": "inconsistency",
            "attacked": 10,
            "succeeded": 5,
            "accuracy": 0.5,
            "committee_accuracy": 0.6,
            "auroc": value,
            "true_positive_rate": None if value is None else value / 2,
            "roc": None if value is None else [[0.0, 0.5, 1.0], [0.0, value, 1.0]],
        }
        for attack in ("fgsm", "pgd")
        for detector, value in (("single", single), ("stages", stages))
    ]
    networks = {"final": network(final_drop), "scratch": network(0.2)}
    return {"networks": networks, "detection": detection}


@pytest.mark.slow
def test_noise_and_detection_are_averaged_over_seeds_and_judged(runs, tmp_path):
    files = []
    for number, values in enumerate(((0.1, 0.6, 0.8), (0.2, 0.7, None))):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(robustness(*values)))
    documents = [read_robustness(file) for file in files]
    noise = mean_noise(documents)
    assert noise["final", "gaussian", 0.1]["drop"] == pytest.approx(0.15)
    detection = mean_detection(documents)
    # The second seed's committee saw no attack that succeeded.
    assert detection["fgsm", 4.0, "stages", "inconsistency"]["auroc"] == 0.8
    assert detection["fgsm", 4.0, "single", "inconsistency"]["auroc"] == pytest.approx(
        0.65
    )
    text = make_report(runs, tmp_path / "out", files)
    assert "loses 15.00 points, less than the one from scratch (20.00)" in text
    line = next(line for line in text.splitlines() if line.startswith("- pgd at 4/255"))
    assert "one network's confidence 0.650; of the committee 'stages'" in line
    assert line.endswith("inconsistency 0.800 (above).")
    # One row of one score, two columns of attacks.
    assert cv2.imread(str(tmp_path / "out" / "roc.png")).shape == (310, 600, 3)
    assert cv2.imread(str(tmp_path / "out" / "noise.png")).shape == (420, 960, 3)
    files[0].write_text(json.dumps(robustness(0.3, 0.9, 0.8)))
    text = make_report(runs, tmp_path / "out", files[:1])
    assert "loses 30.00 points, NOT less than" in text
    assert "confidence 0.900; of the committee 'stages'" in text
    assert "inconsistency 0.800 (NOT above)" in text


def test_runs_that_cannot_be_reported_are_explained(runs, tmp_path):
    with pytest.raises(TrainingError, match="Expected one or more folders"):
        make_report([], tmp_path / "out")
    with pytest.raises(TrainingError, match="does not hold a run"):
        make_report([tmp_path], tmp_path / "out")
    with pytest.raises(TrainingError, match="--baseline, .* one of c; 0 of them"):
        make_report([runs[1]], tmp_path / "out")
    with pytest.raises(
        TrainingError, match="was not written by training.classifiers.robustness"
    ):
        make_report(runs, tmp_path / "out", [runs[0] / "config.json"])
    stages = json.loads((runs[1] / "stages.json").read_text())
    (runs[1] / "stages.json").write_text(json.dumps(stages[:1]))
    with pytest.raises(TrainingError, match="has finished 1 of 2 stages"):
        make_report(runs, tmp_path / "out")


# === From recipe to report ============================================================
RECIPE = """
from training.stages.recipe import Recipe
from training.classifiers.schedules import Phase, VggSchedule
from training.tasks.images import ImageTask

SCHEDULE = VggSchedule(
    phases=(Phase("half", 0.5, 0.4, 0.5), Phase("lean", 1.0, 0.6, prune=0.2, growth=2)),
    depth=11, width=0.0625, side=32, classes=2, samples=48, epochs=1, batch_size=8)
RECIPE = Recipe(
    name="grown", task=ImageTask(size=32, shift=2), model=SCHEDULE.first,
    stages=SCHEDULE.stages(), batch_size=8, ema_decay=0.5, log_every=1,
    validate_every=100, save_every=100)
"""


@pytest.fixture
def pack(tmp_path):
    """Bright and dark pictures."""
    random, splits = np.random.default_rng(0), {}
    for split, count in (("train", 48), ("val", 12)):
        labels = np.arange(count) % 2
        pictures = random.integers(0, 120, (count, 32, 32, 3))
        pictures += 120 * labels[:, None, None, None]
        splits[split] = pictures, labels
    return write_pack(tmp_path / "pack.npz", splits)


@pytest.mark.slow
def test_the_recipe_runs_on_two_replicas_and_is_reported(pack, tmp_path):
    recipe, run = tmp_path / "grown.py", tmp_path / "grown"
    recipe.write_text(RECIPE)
    status, _, error = run_program(
        "training.train",
        *("--recipe", recipe, "--data", pack, "--validation", pack, "--out", run),
        *("--strategy=mirrored", "--logical_cpus=2"),
    )
    assert status == 0, error
    account = read_account(run)
    assert [stage.steps for stage in account.stages] == [1, 4]
    macs = net2net.count_macs(vgg_bn(11, 0.0625, (32, 32, 3), 2))
    half = net2net.count_macs(vgg_bn(11, 0.03125, (32, 32, 3), 2))
    # Pruned to a fifth, then twice as wide; small widths round coarsely.
    assert account.stages[0].macs == half and np.isfinite(account.seconds)
    assert 0.4 < account.stages[1].macs / macs < 0.85
    kept = json.loads((run / "stages.json").read_text())[-1]["training_macs"]
    assert account.training_macs == pytest.approx(kept)
    whole = write_run(
        tmp_path / "s", "s", 0, [("all", 6, float(macs), {0: 0.5, 6: 0.9}, 9)]
    )
    text = make_report([whole, run], tmp_path / "report")
    assert f"| {account.training_macs / (3 * 60 * macs):.3f} |" in text
