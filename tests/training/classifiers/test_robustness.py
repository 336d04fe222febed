"""Attacks have closed forms and bounds, noise its statistics; the program runs."""

import json

import keras
import numpy as np
import pytest

from keras_megan.classifiers.mutual_inference import auroc, true_positive_rate
from tests.training.conftest import run_program, write_pack
from training.classifiers.attacks import ATTACKS, OBJECTIVES, Attacker
from training.classifiers.detection import DetectionSettings, measure_detection
from training.classifiers.robustness import (
    RobustnessSettings,
    accuracy,
    gaussian_noise,
    measure_robustness,
    salt_and_pepper,
)
from training.errors import TrainingError

SIDE, CLASSES = 8, 3


def linear(seed=0, classes=CLASSES):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x))


def curved(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(6, 3, activation="gelu", kernel_initializer="he_normal")(
        inputs
    )
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="logits")(x))


@pytest.fixture
def images(rng):
    return (0.3 + 0.4 * rng.random((21, SIDE, SIDE, 3))).astype(np.float32)


@pytest.fixture
def labels(rng):
    return rng.integers(0, CLASSES, 21)


def cross_entropy(model, images, labels):
    logits = np.asarray(model(images), np.float64)
    logs = logits - logits.max(-1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(-1, keepdims=True))
    return -logs[np.arange(len(labels)), labels]


# === Attacks ==========================================================================
def test_fgsm_on_a_linear_classifier_is_its_closed_form(images, labels):
    model = linear()
    weights = model.get_layer("logits").kernel.numpy().astype(np.float64)
    logits = np.asarray(model(images), np.float64)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    gradient = (p - np.eye(CLASSES)[labels]) @ weights.T
    expected = images + 0.02 * np.sign(gradient).reshape(images.shape)
    attacker = Attacker(OBJECTIVES["last"]([model]), batch_size=8)
    found = attacker.fgsm(images, labels, 0.02)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.all(
        cross_entropy(model, found, labels) > cross_entropy(model, images, labels)
    )


def test_two_classes_of_a_linear_classifier_cannot_be_attacked_more_strongly(images):
    # The margin is linear, so one step to the corner of the ball is the best there is.
    model, labels = linear(classes=2), np.zeros(21, int)
    attacker = Attacker(OBJECTIVES["last"]([model]))
    fast, slow = (ATTACKS[n](attacker, images, labels, 0.02) for n in ("fgsm", "pgd"))
    np.testing.assert_allclose(
        attacker.values(slow, labels), attacker.values(fast, labels), atol=1e-5
    )


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_attacks_stay_in_their_ball_and_in_range(attack, objective, labels, rng):
    images = rng.random((21, SIDE, SIDE, 3), np.float32).round(1)  # touches 0 and 1
    attacker = Attacker(OBJECTIVES[objective]([curved(1), curved(2)]), batch_size=8)
    found = ATTACKS[attack](attacker, images, labels, 8 / 255)
    assert found.shape == images.shape and found.dtype == np.float32
    assert np.abs(found - images).max() <= 8 / 255 + 1e-6
    assert np.abs(found - images).max() > 7 / 255  # and it uses its ball
    assert found.min() >= 0.0 and found.max() <= 1.0
    raised = attacker.values(found, labels) - attacker.values(images, labels)
    assert np.mean(raised) > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_pgd_is_never_weaker_than_fgsm_and_mostly_stronger(objective, images, labels):
    attacker = Attacker(OBJECTIVES[objective]([curved(1), curved(2)]))
    fast, slow = (
        attacker.values(ATTACKS[n](attacker, images, labels, 0.1), labels)
        for n in ("fgsm", "pgd")
    )
    assert np.all(slow >= fast - 1e-5)
    assert np.mean(slow > fast + 1e-4) > 0.5


def test_objectives_are_those_of_their_definitions(images, labels):
    models = [curved(1), curved(2), curved(3)]
    parts = np.stack([cross_entropy(model, images, labels) for model in models])
    values = {
        name: Attacker(make(models)).values(images, labels)
        for name, make in OBJECTIVES.items()
    }
    np.testing.assert_allclose(values["last"], parts[-1], rtol=1e-4)
    np.testing.assert_allclose(values["all"], parts.sum(0), rtol=1e-4)
    logits = np.stack([np.asarray(model(images), np.float64) for model in models])
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    for image, label in enumerate(labels):
        others = [c for c in range(CLASSES) if c != label]
        target = max(others, key=lambda c: p[:, image, c].mean())
        expected = np.log(p[:, image, target]).mean()
        assert values["agreement"][image] == pytest.approx(expected, rel=1e-4)


def test_pgd_repeats_itself_by_its_seed(images, labels):
    attacker = Attacker(OBJECTIVES["last"]([curved(1)]), batch_size=8)
    first, same, other = (
        attacker.pgd(images, labels, 0.3, steps=8, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other)


# === Noise ============================================================================
def test_gaussian_noise_has_its_deviation_and_stays_in_range():
    grey = np.full((50, 16, 16, 3), 0.5, np.float32)
    noisy = gaussian_noise(grey, 0.1, seed=1)
    assert noisy.std() == pytest.approx(0.1, rel=0.02)
    assert noisy.mean() == pytest.approx(0.5, abs=2e-3)
    np.testing.assert_array_equal(noisy, gaussian_noise(grey, 0.1, seed=1))
    assert np.any(noisy != gaussian_noise(grey, 0.1, seed=2))
    strong = gaussian_noise(grey, 2.0, seed=1)
    assert strong.min() == 0.0 and strong.max() == 1.0 and strong.dtype == np.float32


def test_salt_and_pepper_touch_their_share_of_whole_pixels():
    grey = np.full((50, 16, 16, 3), 0.5, np.float32)
    noisy = salt_and_pepper(grey, 0.1, seed=1)
    assert np.all(noisy == noisy[..., :1])
    for value in (0.0, 1.0):
        assert np.mean(noisy == value) == pytest.approx(0.05, rel=0.1)
    assert np.mean(noisy == 0.5) == pytest.approx(0.9, rel=0.01)
    np.testing.assert_array_equal(salt_and_pepper(grey, 0.0, seed=1), grey)


def test_accuracy_is_counted_over_all_batches(images):
    model = linear()
    found = np.asarray(model(images)).argmax(-1)
    labels = np.where(np.arange(21) < 5, (found + 1) % CLASSES, found)
    assert accuracy(model, images, labels, batch_size=4) == pytest.approx(16 / 21)


# === Detection ========================================================================
SHORT = DetectionSettings(epsilons=(8.0, 32.0), batch_size=16)


@pytest.mark.slow
def test_detection_is_measured_on_attacks_that_succeed(images):
    stages = [curved(1), curved(2), curved(3)]
    labels = np.asarray(stages[-1](images)).argmax(-1)
    labels[:4] = (labels[:4] + 1) % CLASSES  # four are not classified rightly
    results = measure_detection(
        {"single": stages[-1:], "stages": stages}, images, labels, SHORT
    )
    attacks = {(row["attack"], row["detector"]) for row in results}
    assert attacks == {
        *((attack, name) for attack in ATTACKS for name in ("single", "stages")),
        ("adaptive_all", "stages"),
        ("adaptive_agreement", "stages"),
    }
    assert all(row["attacked"] == 17 for row in results)
    # The strong attack again, by hand.
    attacker = Attacker(OBJECTIVES["last"](stages[-1:]), 16)
    changed = attacker.fgsm(images[4:], labels[4:], 32 / 255)

    def doubt(some):
        logits = np.asarray(stages[-1](some), np.float64)
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return 1 - (p / p.sum(-1, keepdims=True)).max(-1), logits.argmax(-1)

    clean, (attacked, found) = doubt(images)[0], doubt(changed)
    fooled = found != labels[4:]
    assert 0 < fooled.sum()

    def of_single(score):
        (row,) = (
            row
            for row in results
            if (row["attack"], row["detector"]) == ("fgsm", "single")
            and row["score"] == score
            and row["epsilon"] == 32
        )
        return row

    row = of_single("inconsistency")
    assert row["succeeded"] == fooled.sum()
    assert row["accuracy"] == pytest.approx(1 - fooled.mean())
    assert row["auroc"] == pytest.approx(auroc(clean, attacked[fooled]), abs=0.02)
    assert row["true_positive_rate"] == pytest.approx(
        true_positive_rate(clean, attacked[fooled]), abs=0.08
    )
    grid, rates = row["roc"]
    assert len(grid) == len(rates) == 101 and rates == sorted(rates)
    assert np.mean(rates) == pytest.approx(row["auroc"], abs=0.02)
    coarse = of_single("vote_disagreement")
    # One network never disagrees with itself: all scores are equal.
    assert coarse["auroc"] == 0.5 and coarse["true_positive_rate"] == 0.0
    np.testing.assert_allclose(*coarse["roc"], atol=1e-9)


def test_if_no_attack_succeeds_nothing_is_detected(images):
    model = linear()
    labels = np.asarray(model(images)).argmax(-1)
    model.get_layer("logits").kernel.assign(np.zeros((SIDE * SIDE * 3, CLASSES)))
    model.get_layer("logits").bias.assign([0.0, 9.0, 0.0])
    labels[:] = 1
    rows = measure_detection({"single": [model]}, images, labels, SHORT)
    assert rows and all(row["auroc"] is row["roc"] is None for row in rows)
    assert all(row["accuracy"] == 1.0 for row in rows)
    with pytest.raises(TrainingError, match="classifies none of the 21 images"):
        measure_detection({"single": [model]}, images, labels * 0, SHORT)


def test_detectors_must_watch_one_network(images, labels):
    with pytest.raises(ValueError, match="received 2 different ones"):
        measure_detection({"a": [curved(1)], "b": [curved(2)]}, images, labels)


# === The program ======================================================================
@pytest.fixture
def pack(tmp_path):
    """Bright, dark and striped pictures."""
    random, splits = np.random.default_rng(0), {}
    for split, count in (("train", 24), ("val", 18)):
        labels = np.arange(count) % CLASSES
        base = np.stack([np.full((SIDE, SIDE), v) for v in (30, 200, 30)])
        base[2, ::2] = 200
        pictures = base[labels][..., None] + random.integers(
            0, 50, (count, SIDE, SIDE, 3)
        )
        splits[split] = pictures, labels
    return write_pack(tmp_path / "pack.npz", splits)


TINY = RobustnessSettings(
    noises={"gaussian": (0.1, 5.0), "salt_and_pepper": (0.1,)},
    seeds=(0, 1),
    training_images=12,
    attacked_images=9,
    detection=DetectionSettings(epsilons=(8.0,), adaptive=("all",), batch_size=9),
)


@pytest.mark.slow
def test_all_measurements_are_made_and_are_json(pack):
    stages = [curved(1), curved(2), curved(3)]
    document = measure_robustness(stages, str(pack), TINY, linear(), [curved(4)])
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text)["networks"] == document["networks"]
    assert document["images"] == {"train": 12, "val": 18}
    assert list(document["networks"]) == ["final", "scratch"]
    for network in document["networks"].values():
        assert network["gap"] == pytest.approx(
            network["training_accuracy"] - network["accuracy"]
        )
        rows = network["noise"]["gaussian"]
        assert [row["strength"] for row in rows] == [0.1, 5.0]
        for row in rows:
            assert len(row["accuracies"]) == 2
            assert row["mean"] == pytest.approx(np.mean(row["accuracies"]))
            assert row["drop"] == pytest.approx(network["accuracy"] - row["mean"])
    assert document["networks"]["scratch"]["macs"] == SIDE * SIDE * 3 * CLASSES
    names = {row["detector"] for row in document["detection"]}
    assert names == {"single", "stages", "independent"}
    assert len(document["stages"]) == 3


def test_networks_that_do_not_fit_are_one_clear_error(pack):
    with pytest.raises(TrainingError, match="must take and give the same"):
        measure_robustness([curved(1), linear(classes=2)], str(pack), TINY)
    with pytest.raises(TrainingError, match="at least 3 classes, .* tell 2 apart"):
        measure_robustness([linear(classes=2)], str(pack), TINY)


@pytest.mark.slow
def test_the_program_writes_its_json_and_fails_in_one_line(pack, tmp_path):
    for seed in (1, 2):
        curved(seed).save(tmp_path / f"{seed}.keras")
    models = f"{tmp_path / '1.keras'},{tmp_path / '2.keras'}"
    out = tmp_path / "new" / "robustness.json"
    flags = (f"--models={models}", f"--data={pack}", f"--out={out}")
    status, _, error = run_program(
        "training.classifiers.robustness", *flags, "--attacked_images=6"
    )
    assert status == 0, error
    document = json.loads(out.read_text())
    assert document["models"] == models.split(",")
    assert document["settings"]["attacked_images"] == 6
    status, _, error = run_program("training.classifiers.robustness", f"--data={pack}")
    assert status == 1 and "robustness: Expected --models" in error
