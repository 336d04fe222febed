"""Mutual inference: the networks of all stages judge an input together.

Cumulative training leaves a network behind after every stage. An input that was changed
to fool the last of them often does not fool the others in the same way, so how much
they disagree tells such inputs from ordinary ones.

    images (B, H, W, C) -> every network's probabilities p_i (N, B, classes)
      -> prediction (B, classes)    their mean, or their votes
      -> scores (B,)                one per way to measure disagreement; higher: more so
      -> detected (B,)              score above a threshold fitted on clean images

Scores, in the registry `SCORES`:

    vote_disagreement   1 - (votes of the most frequent label) / N
    jensen_shannon      entropy of the mean - mean of the entropies, in nats
    inconsistency       1 - mean of p_i(label that the last network gives)

A committee of one network is the usual baseline: its ``inconsistency`` is 1 minus the
network's own confidence.

Sources: Feng and Panda, arXiv:2003.01204 (the idea; it publishes no formula here); Lin,
IEEE Transactions on Information Theory 37, 1991 (Jensen-Shannon divergence).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_megan.files import appearing


def vote_disagreement(probabilities: Any) -> Any:
    """(N, B, classes) -> (B,): share of networks outvoted; 0 if all agree."""
    return 1.0 - ops.max(_vote_shares(probabilities), axis=-1)


def jensen_shannon(probabilities: Any) -> Any:
    """(N, B, classes) -> (B,): divergence of the networks, 0 to log N, in nats."""
    mean = ops.mean(probabilities, axis=0)
    return _entropy(mean) - ops.mean(_entropy(probabilities), axis=0)


def inconsistency(probabilities: Any) -> Any:
    """(N, B, classes) -> (B,): 1 - mean probability of the last network's label."""
    classes = probabilities.shape[-1]
    label = ops.one_hot(ops.argmax(probabilities[-1], axis=-1), classes)
    label = ops.cast(label, probabilities.dtype)
    return 1.0 - ops.mean(ops.sum(probabilities * label, axis=-1), axis=0)


def _vote_shares(probabilities):
    votes = ops.one_hot(ops.argmax(probabilities, axis=-1), probabilities.shape[-1])
    return ops.mean(ops.cast(votes, probabilities.dtype), axis=0)


def _entropy(probabilities):
    # The smallest normal float32, because log(0) * 0 is not a number.
    logs = ops.log(ops.maximum(probabilities, 1.2e-38))
    return -ops.sum(probabilities * logs, axis=-1)


def _mean_prediction(probabilities):
    return ops.mean(probabilities, axis=0)


def _vote_prediction(probabilities):
    # The mean has one more vote: it decides ties and the sum remains 1.
    count = probabilities.shape[0]
    votes = _vote_shares(probabilities) * count
    return (votes + _mean_prediction(probabilities)) / (count + 1.0)


#: Name -> function (N, B, classes) -> (B,). Higher means less agreement.
SCORES: dict[str, Callable] = {
    "vote_disagreement": vote_disagreement,
    "jensen_shannon": jensen_shannon,
    "inconsistency": inconsistency,
}
#: Name -> function (N, B, classes) -> (B, classes) whose sum is 1.
PREDICTIONS: dict[str, Callable] = {
    "mean": _mean_prediction,
    "vote": _vote_prediction,
}


@keras.saving.register_keras_serializable("keras_megan")
class MutualInference(keras.Model):
    """A committee of classifiers that predicts, and tells when it disagrees.

    Args:
        models: Built classifiers of one input shape and the same classes, in the order
            of their training; the last one is the network that is watched.
        prediction: ``"mean"`` of the probabilities, or ``"vote"``: shares of votes,
            where the mean has one vote too and so decides ties.
        score: The score that `detect` uses; a name in `SCORES`.
        threshold: Scores above it are detected; None until `fit_threshold`.
        from_logits: Whether the models give logits (else probabilities).
        name: The model's name.

    Call arguments: images (B, ...), as the models take them. Output: (B, classes).

    Raises:
        ValueError: If the models do not fit together, or a name is unknown.

    Example:

        committee = MutualInference([small, wider, final])
        committee.fit_threshold(clean_images, false_positive_rate=0.05)
        labels = committee.predict(images).argmax(-1)
        suspicious = committee.detect(images)
    """

    def __init__(
        self,
        models: Sequence[keras.Model],
        prediction: str = "mean",
        score: str = "inconsistency",
        threshold: float | None = None,
        from_logits: bool = True,
        name: str = "mutual_inference",
    ):
        super().__init__(name=name)
        _check_name("prediction", prediction, PREDICTIONS)
        _check_name("score", score, SCORES)
        _check_members(models)
        self.members = list(models)
        self.prediction, self.score = prediction, score
        self.threshold = None if threshold is None else float(threshold)
        self.from_logits = bool(from_logits)
        self.built = True  # as the models are: nothing waits for a first call

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """(B, ...) -> (B, classes)."""
        return (input_shape[0], self.members[0].output_shape[-1])

    def probabilities(self, inputs: Any, training: bool = False) -> Any:
        """Every network's probabilities.

        Args:
            inputs: (B, ...).
            training: As in `keras.Model.__call__`.

        Returns:
            (N, B, classes), at least float32.
        """
        outputs = [model(inputs, training=training) for model in self.members]
        outputs = ops.cast(ops.stack(outputs), "float32")
        return ops.softmax(outputs, axis=-1) if self.from_logits else outputs

    def call(self, inputs: Any, training: bool = False) -> Any:
        return PREDICTIONS[self.prediction](self.probabilities(inputs, training))

    def scores(self, inputs: Any) -> dict:
        """All scores of a batch as tensors: name -> (B,)."""
        probabilities = self.probabilities(inputs)
        return {name: score(probabilities) for name, score in SCORES.items()}

    def predict_scores(self, x: Any, batch_size: int = 32) -> dict[str, np.ndarray]:
        """All scores of many images.

        Args:
            x: Array (M, ...).
            batch_size: Images at once.

        Returns:
            Name -> float32 (M,).
        """
        return scores_of(self.predict_members(x, batch_size))

    def predict_members(self, x: Any, batch_size: int = 32) -> np.ndarray:
        """Every network's probabilities of many images: float32 (N, M, classes)."""
        if len(x) == 0:
            raise ValueError("Expected at least one image; received none.")
        predictions = [
            model.predict(x, batch_size, verbose=0) for model in self.members
        ]
        found = np.stack(predictions).astype(np.float32)
        if self.from_logits:
            found = np.exp(found - found.max(-1, keepdims=True))
            found /= found.sum(-1, keepdims=True)
        return found

    def fit_threshold(
        self, x: Any, false_positive_rate: float = 0.05, batch_size: int = 32
    ) -> float:
        """Sets the threshold so that few clean images are above it.

        Args:
            x: Clean images (M, ...) that were not trained on.
            false_positive_rate: Largest share of them to be detected, in [0, 1).
            batch_size: Images at once.

        Returns:
            The threshold, which is also kept when the committee is saved.
        """
        clean = self.predict_scores(x, batch_size)[self.score]
        self.threshold = threshold_at(clean, false_positive_rate)
        return self.threshold

    def detect(self, x: Any, batch_size: int = 32) -> np.ndarray:
        """Whether each image's score is above the threshold: bool (M,).

        Raises:
            ValueError: Before a threshold was fitted or given.
        """
        if self.threshold is None:
            raise ValueError(
                "There is no threshold yet. Call fit_threshold with clean images, or "
                "give one to MutualInference."
            )
        return self.predict_scores(x, batch_size)[self.score] > self.threshold

    def export_saved_model(self, folder: str | Path) -> None:
        """Writes one graph that runs without this package.

        Its ``serving_default`` takes ``images`` and gives ``prediction`` (B, classes),
        every score by name (B,), and, if there is a threshold, ``detected`` (B,).

        Args:
            folder: Appears complete or not at all; replaced if it exists.
        """
        shape = tuple(self.members[0].input_shape)
        dtype = self.members[0].inputs[0].dtype
        signature = keras.InputSpec(dtype=dtype, shape=shape, name="images")
        archive = keras.export.ExportArchive()
        archive.track(self)
        archive.add_endpoint("serve", self._serve, [signature])
        with appearing(Path(folder)) as aside:
            archive.write_out(str(aside), verbose=False)

    def _serve(self, images):
        probabilities = self.probabilities(images)
        results = {name: score(probabilities) for name, score in SCORES.items()}
        if self.threshold is not None:
            results["detected"] = results[self.score] > self.threshold
        results["prediction"] = PREDICTIONS[self.prediction](probabilities)
        return results

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "models": [serialize(model) for model in self.members],
            "prediction": self.prediction,
            "score": self.score,
            "threshold": self.threshold,
            "from_logits": self.from_logits,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MutualInference":
        deserialize = keras.saving.deserialize_keras_object
        models = [deserialize(model) for model in config["models"]]
        return cls(**{**config, "models": models})


def _check_name(what: str, name: str, registry: dict) -> None:
    if name not in registry:
        raise ValueError(
            f"{what} must be one of {', '.join(registry)}; received {name!r}."
        )


def _check_members(models) -> None:
    if not models:
        raise ValueError("A committee needs at least one model; received none.")
    shapes = [(model.input_shape, model.output_shape) for model in models]
    if len(set(shapes)) > 1 or len(shapes[0][1]) != 2:
        raise ValueError(
            "The models of a committee must take the same input and give (B, classes); "
            "received "
            + ", ".join(f"{taken} -> {given}" for taken, given in shapes)
            + "."
        )


# === Judging scores ===================================================================
def scores_of(probabilities: Any) -> dict[str, np.ndarray]:
    """All scores of given probabilities (N, M, classes): name -> float32 (M,)."""
    probabilities = ops.convert_to_tensor(probabilities, "float32")
    return {
        name: ops.convert_to_numpy(score(probabilities))
        for name, score in SCORES.items()
    }


def threshold_at(clean: Any, false_positive_rate: float = 0.05) -> float:
    """The smallest clean score with at most that share of clean scores above it.

    Args:
        clean: Scores (M,) of clean images.
        false_positive_rate: In [0, 1).

    Raises:
        ValueError: Without scores, or for another rate.
    """
    clean = np.sort(np.asarray(clean))[::-1]
    if not len(clean) or not 0 <= false_positive_rate < 1:
        raise ValueError(
            "Expected clean scores and a false_positive_rate in [0, 1); received "
            f"{len(clean)} scores and {false_positive_rate!r}."
        )
    # The little more lets 0.05 of 100 be 5, which in binary fractions it is not.
    allowed = int(false_positive_rate * len(clean) + 1e-9)
    return float(clean[allowed])


def true_positive_rate(
    clean: Any, attacked: Any, false_positive_rate: float = 0.05
) -> float:
    """Share of attacked scores above the threshold fitted on the clean ones."""
    threshold = threshold_at(clean, false_positive_rate)
    return float(np.mean(np.asarray(attacked) > threshold))


def roc_curve(clean: Any, attacked: Any) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates for all thresholds.

    Args:
        clean: Scores (M,).
        attacked: Scores (K,).

    Returns:
        Two arrays, from (0, 0) to (1, 1); equal scores are one step of both.
    """
    clean, attacked = np.sort(np.asarray(clean)), np.sort(np.asarray(attacked))
    if not len(clean) or not len(attacked):
        raise ValueError(
            f"Expected scores of both kinds; received {len(clean)} of clean and "
            f"{len(attacked)} of attacked images."
        )
    limits = np.unique(np.concatenate([clean, attacked]))[::-1]
    rates = [
        np.concatenate([[0.0], 1.0 - np.searchsorted(scores, limits) / len(scores)])
        for scores in (clean, attacked)
    ]
    return rates[0], rates[1]


def auroc(clean: Any, attacked: Any) -> float:
    """Area under that curve: chance that an attacked image scores above a clean one.

    Equal scores count one half.
    """
    false_rates, true_rates = roc_curve(clean, attacked)
    heights = (true_rates[1:] + true_rates[:-1]) / 2.0
    return float(np.sum(np.diff(false_rates) * heights))
