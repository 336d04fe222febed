"""Adversarial images: small changes that raise a network's loss as far as they can.

    images (N, H, W, 3) in [0, 1], labels (N,) -> attacked images, same shape

Every attack stays inside the ball of `epsilon` in the maximum norm around the image,
and inside [0, 1]. What is attacked is an objective, a function (images, labels) -> (B,)
to be raised; the registry `OBJECTIVES` makes them for a list of classifiers:

    last         cross-entropy of the last network: the usual attack
    all          sum of all networks' cross-entropies: knows the committee
    agreement    all networks towards one wrong label, the likeliest by their mean:
                 knows that the committee looks for disagreement

Sources: FGSM: Goodfellow et al., ICLR 2015 (arXiv:1412.6572). PGD: Madry et al., ICLR
2018 (arXiv:1706.06083); that the best image of all steps is kept, not the last one, is
as in Croce and Hein, ICML 2020 (arXiv:2003.01690).
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

Objective = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def _cross_entropy(model: keras.Model, images, labels):
    logits = tf.cast(model(images, training=False), tf.float32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def _last(models: Sequence[keras.Model]) -> Objective:
    return lambda images, labels: _cross_entropy(models[-1], images, labels)


def _all(models: Sequence[keras.Model]) -> Objective:
    def objective(images, labels):
        return tf.add_n([_cross_entropy(model, images, labels) for model in models])

    return objective


def _agreement(models: Sequence[keras.Model]) -> Objective:
    def objective(images, labels):
        logits = tf.stack([model(images, training=False) for model in models])
        logs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        mean = tf.reduce_mean(tf.stop_gradient(tf.exp(logs)), axis=0)
        right = tf.one_hot(labels, tf.shape(mean)[-1])
        target = tf.one_hot(tf.argmax(mean - 2.0 * right, -1), tf.shape(mean)[-1])
        return tf.reduce_mean(tf.reduce_sum(logs * target, -1), axis=0)

    return objective


#: Name -> function (classifiers that give logits) -> objective.
OBJECTIVES: dict[str, Callable[[Sequence[keras.Model]], Objective]] = {
    "last": _last,
    "all": _all,
    "agreement": _agreement,
}


class Attacker:
    """Attacks one objective; compiled once for all images.

    Args:
        objective: (images, labels) -> (B,), differentiable in the images.
        batch_size: Images in a batch; the last batch is padded, so that one graph
            serves for all.
    """

    def __init__(self, objective: Objective, batch_size: int = 250):
        self.batch_size = batch_size

        @tf.function(reduce_retracing=True)
        def rise(images, labels):
            with tf.GradientTape() as tape:
                tape.watch(images)
                values = objective(images, labels)
            return values, tape.gradient(values, images)

        self.rise = rise

    def values(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The objective of every image: float32 (N,)."""
        return np.concatenate(
            [
                self.rise(*batch)[0].numpy()[:count]
                for batch, count in self._batches(images, labels)
            ]
        )

    def fgsm(self, images, labels, epsilon: float) -> np.ndarray:
        """The fast gradient sign method: one step to the edge of the ball.

        Args:
            images: float32 (N, H, W, C) in [0, 1].
            labels: int (N,).
            epsilon: Radius of the ball, in units of the images.
        """
        found = []
        for (some, classes), count in self._batches(images, labels):
            found.append(self._fgsm(some, classes, epsilon).numpy()[:count])
        return np.concatenate(found)

    def pgd(
        self, images, labels, epsilon: float, steps: int = 20, seed: int = 0
    ) -> np.ndarray:
        """Projected gradient descent from a random start, in steps of epsilon / 4.

        The image with the highest objective is kept: among those of all steps, the
        clean one and the one of `fgsm`, so that the attack is never weaker than it.

        Args:
            images: float32 (N, H, W, C) in [0, 1].
            labels: int (N,).
            epsilon: Radius of the ball, in units of the images.
            steps: Number of them.
            seed: Seed of the starting point.
        """
        random = np.random.Generator(np.random.Philox(key=seed))
        found = []
        for (some, classes), count in self._batches(images, labels):
            start = random.uniform(-epsilon, epsilon, some.shape).astype(np.float32)
            keeper = _Best(some, self.rise(some, classes)[0])
            simple = self._fgsm(some, classes, epsilon)
            keeper.offer(simple, self.rise(simple, classes)[0])
            now = _inside(some + start, some, epsilon)
            for _ in range(steps):
                values, gradient = self.rise(now, classes)
                keeper.offer(now, values)
                now = _inside(now + epsilon / 4.0 * tf.sign(gradient), some, epsilon)
            keeper.offer(now, self.rise(now, classes)[0])
            found.append(keeper.images.numpy()[:count])
        return np.concatenate(found)

    def _fgsm(self, images, labels, epsilon):
        _, gradient = self.rise(images, labels)
        return _inside(images + epsilon * tf.sign(gradient), images, epsilon)

    def _batches(self, images, labels):
        for first in range(0, len(images), self.batch_size):
            some = np.asarray(images[first : first + self.batch_size], np.float32)
            classes = np.asarray(labels[first : first + self.batch_size], np.int64)
            count = len(some)
            lacking = self.batch_size - count if len(images) > self.batch_size else 0
            some = np.concatenate([some, np.repeat(some[-1:], lacking, 0)])
            classes = np.concatenate([classes, np.repeat(classes[-1:], lacking)])
            yield (tf.constant(some), tf.constant(classes)), count


#: Name -> function (attacker, images, labels, epsilon) -> attacked images.
ATTACKS: dict[str, Callable] = {"fgsm": Attacker.fgsm, "pgd": Attacker.pgd}


class _Best:
    """Keeps, for every image of a batch, the one with the highest objective."""

    def __init__(self, images, values):
        self.images, self.values = images, values

    def offer(self, images, values) -> None:
        better = values > self.values
        self.images = tf.where(better[:, None, None, None], images, self.images)
        self.values = tf.maximum(values, self.values)


def _inside(images, centre, epsilon):
    ball = tf.clip_by_value(images, centre - epsilon, centre + epsilon)
    return tf.clip_by_value(ball, 0.0, 1.0)
