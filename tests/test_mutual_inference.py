"""The committee predicts, scores and detects as plain numpy says, saved or exported."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from keras_megan.classifiers.mutual_inference import (
    PREDICTIONS,
    SCORES,
    MutualInference,
    auroc,
    roc_curve,
    scores_of,
    threshold_at,
    true_positive_rate,
)

SIDE, CLASSES = 6, 4


def classifier(filters, seed, activation=None):
    """A small network with weights that are the same on every backend."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(filters, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.Flatten()(x)
    outputs = keras.layers.Dense(CLASSES, activation, name="logits")(x)
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(random.normal(0.0, 0.3, variable.shape))
    return model


@pytest.fixture(scope="module")
def members():
    return [classifier(3, 1), classifier(5, 2), classifier(8, 3)]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).standard_normal((40, SIDE, SIDE, 3), np.float32)


def by_hand(members, images):
    """Probabilities, and the scores image by image as they are defined."""
    found = []
    for model in members:
        logits = np.asarray(model(images), np.float64)
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        found.append(powers / powers.sum(-1, keepdims=True))
    found = np.stack(found)

    def entropy(p):
        return -sum(value * np.log(value) for value in p if value > 0)

    scores = {name: [] for name in SCORES}
    for image in range(found.shape[1]):
        p = found[:, image]
        votes = [int(np.argmax(row)) for row in p]
        most = max(votes.count(label) for label in votes)
        scores["vote_disagreement"].append(1 - most / len(votes))
        mean = entropy(p.mean(0))
        scores["jensen_shannon"].append(mean - np.mean([entropy(row) for row in p]))
        scores["inconsistency"].append(1 - p[:, votes[-1]].mean())
    return found, {name: np.array(values) for name, values in scores.items()}


def test_scores_are_those_of_the_definitions(members, images):
    found, expected = by_hand(members, images)
    committee = MutualInference(members)
    scores = committee.predict_scores(images, batch_size=16)
    in_graph = committee.scores(images)
    assert set(scores) == set(SCORES) == set(in_graph)
    for name, wanted in expected.items():
        assert np.ptp(wanted) > 0.05  # the networks do differ
        np.testing.assert_allclose(scores[name], wanted, atol=1e-5)
        np.testing.assert_allclose(np.asarray(in_graph[name]), wanted, atol=1e-5)
    np.testing.assert_allclose(committee.predict_members(images), found, atol=1e-5)


def test_agreement_scores_nothing_and_certain_disagreement_the_most():
    sure = np.eye(3, dtype=np.float32)
    agreeing = np.stack([sure[[0]]] * 3)
    for values in scores_of(agreeing).values():
        np.testing.assert_allclose(values, 0.0, atol=1e-6)
    scores = scores_of(np.stack([sure[[0]], sure[[1]], sure[[2]]]))
    np.testing.assert_allclose(scores["vote_disagreement"], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(scores["jensen_shannon"], np.log(3), rtol=1e-6)
    np.testing.assert_allclose(scores["inconsistency"], 2 / 3, rtol=1e-6)


def test_the_mean_and_the_vote_predict(members, images):
    found, _ = by_hand(members, images)
    mean = MutualInference(members).predict(images, verbose=0)
    np.testing.assert_allclose(mean, found.mean(0), atol=1e-5)
    vote = MutualInference(members, "vote").predict(images, verbose=0)
    np.testing.assert_allclose(vote.sum(-1), 1.0, atol=1e-5)
    unanimous = ties = 0
    for image, shares in enumerate(vote):
        labels = found[:, image].argmax(-1)
        counts = np.bincount(labels, minlength=CLASSES)
        winners = np.flatnonzero(counts == counts.max())
        best = winners[found.mean(0)[image][winners].argmax()]
        assert shares.argmax() == best
        unanimous += len(set(labels)) == 1
        ties += len(winners) > 1
    assert unanimous and ties
    assert set(PREDICTIONS) == {"mean", "vote"}


def test_one_network_alone_gives_its_own_confidence(members, images):
    found, _ = by_hand(members[-1:], images)
    scores = MutualInference(members[-1:]).predict_scores(images)
    np.testing.assert_allclose(scores["inconsistency"], 1 - found[0].max(-1), atol=1e-5)
    assert not scores["vote_disagreement"].any()


def test_probabilities_are_taken_as_they_are(images):
    model = classifier(3, 1, "softmax")
    committee = MutualInference([model], from_logits=False)
    np.testing.assert_allclose(
        committee.predict(images, verbose=0), model.predict(images, verbose=0), 1e-6
    )


def test_it_evaluates_like_any_keras_model(members, images):
    committee = MutualInference(members)
    committee.compile(metrics=["accuracy"], loss="sparse_categorical_crossentropy")
    labels = committee.predict(images, verbose=0).argmax(-1)
    wrong = np.where(np.arange(40) < 10, (labels + 1) % CLASSES, labels)
    results = committee.evaluate(images, wrong, verbose=0, return_dict=True)
    assert results["accuracy"] == pytest.approx(0.75)


# === Thresholds and curves ============================================================
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.33, 0.99])
@pytest.mark.parametrize("ties", [False, True])
def test_the_threshold_lets_no_more_clean_images_through_than_allowed(rng, rate, ties):
    clean = rng.integers(0, 5, 100) / 5 if ties else rng.random(100)
    threshold = threshold_at(clean, rate)
    assert np.mean(clean > threshold) <= rate
    lower = clean[clean < threshold]
    if len(lower):
        assert np.mean(clean > lower.max()) > rate  # the next lower one would not do
    if not ties:
        assert np.sum(clean > threshold) == round(rate * 100)


@pytest.mark.parametrize("levels", [3, 10, 10_000])
def test_auroc_is_the_count_of_ordered_pairs(rng, levels):
    clean = rng.integers(0, levels, 70)
    attacked = rng.integers(0, levels, 50) + levels // 4
    pairs = np.sign(attacked[:, None] - clean[None, :])
    assert auroc(clean, attacked) == pytest.approx(np.mean((pairs + 1) / 2), abs=1e-12)
    assert auroc(clean, clean) == pytest.approx(0.5)
    assert auroc(clean, clean + levels) == 1.0
    assert auroc(attacked + levels, clean) == 0.0


def test_the_roc_curve_is_the_rates_at_every_threshold(rng):
    clean, attacked = rng.integers(0, 8, 30) / 8, rng.integers(2, 10, 20) / 8
    false_rates, true_rates = roc_curve(clean, attacked)
    limits = sorted({*clean, *attacked}, reverse=True)
    assert (false_rates[0], true_rates[0]) == (0.0, 0.0)
    for limit, false, true in zip(limits, false_rates[1:], true_rates[1:], strict=True):
        assert false == pytest.approx(np.mean(clean >= limit))
        assert true == pytest.approx(np.mean(attacked >= limit))


def test_the_rate_of_detection_at_five_percent(rng):
    clean = np.arange(100) / 100
    attacked = np.array([0.5, 0.93, 0.94, 0.95, 0.99])
    # 0.94 is exceeded by 0.95 to 0.99: five of a hundred.
    assert threshold_at(clean, 0.05) == 0.94
    assert true_positive_rate(clean, attacked, 0.05) == pytest.approx(2 / 5)


def test_detection_is_the_score_above_the_fitted_threshold(members, images):
    committee = MutualInference(members, score="jensen_shannon")
    with pytest.raises(ValueError, match="Call fit_threshold with clean images"):
        committee.detect(images)
    threshold = committee.fit_threshold(images, 0.1)
    scores = committee.predict_scores(images)["jensen_shannon"]
    found = committee.detect(images)
    np.testing.assert_array_equal(found, scores > threshold)
    assert found.sum() == 4  # of 40


# === Saved and exported ===============================================================
@pytest.mark.slow
def test_it_saves_and_loads_with_safe_mode(members, images, tmp_path):
    committee = MutualInference(members, "vote", "vote_disagreement")
    committee.fit_threshold(images, 0.2)
    committee.save(tmp_path / "committee.keras")
    again = keras.saving.load_model(tmp_path / "committee.keras", safe_mode=True)
    for setting in ("prediction", "score", "threshold", "from_logits", "name"):
        assert again.get_config()[setting] == committee.get_config()[setting]
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), committee.predict(images, verbose=0)
    )
    np.testing.assert_array_equal(again.detect(images), committee.detect(images))


@pytest.mark.slow
def test_the_export_runs_where_the_package_is_not(members, images, tmp_path):
    committee = MutualInference(members)
    committee.fit_threshold(images, 0.1)
    committee.export_saved_model(tmp_path / "served")
    np.save(tmp_path / "images.npy", images)
    program = """
        import sys
        sys.modules["keras_megan"] = sys.modules["keras"] = None  # cannot be imported
        import numpy as np, tensorflow as tf
        folder = sys.argv[1]
        serve = tf.saved_model.load(folder + "/served").signatures["serving_default"]
        images = np.load(folder + "/images.npy")
        outputs = serve(images=tf.constant(images))
        np.savez(folder + "/out.npz", **{k: v.numpy() for k, v in outputs.items()})
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        check=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    with np.load(tmp_path / "out.npz") as outputs:
        assert set(outputs.files) == {"prediction", "detected", *SCORES}
        for name, wanted in committee.predict_scores(images).items():
            np.testing.assert_allclose(outputs[name], wanted, atol=1e-5)
        np.testing.assert_array_equal(outputs["detected"], committee.detect(images))
        np.testing.assert_allclose(
            outputs["prediction"], committee.predict(images, verbose=0), atol=1e-5
        )


# === Mistakes =========================================================================
def test_models_that_do_not_fit_together_are_refused(members):
    inputs = keras.Input((SIDE, SIDE, 3))
    other = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match="must take the same input and give"):
        MutualInference([*members, other])
    with pytest.raises(ValueError, match="at least one model; received none"):
        MutualInference([])
    with pytest.raises(ValueError, match="score must be one of vote_disagreement"):
        MutualInference(members, score="doubt")
    with pytest.raises(ValueError, match="prediction must be one of mean, vote"):
        MutualInference(members, prediction="dice")


def test_scores_that_are_not_there_are_refused(members):
    with pytest.raises(ValueError, match="at least one image"):
        MutualInference(members).predict_scores(np.zeros((0, SIDE, SIDE, 3)))
    with pytest.raises(ValueError, match="in .0, 1.; received 2 scores and 1"):
        threshold_at([1.0, 2.0], 1.0)
    with pytest.raises(ValueError, match="0 of clean and 1 of attacked"):
        auroc([], [1.0])
