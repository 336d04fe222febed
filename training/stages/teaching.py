"""Teaching: a stage learns what networks of earlier stages think of every sample.

    teachers' logits t_1 .. t_n (B, classes), the network's logits z, labels y
    soft = mean over teachers of softmax(t / T)
    loss = (1 - share) * loss(z, y) + share * T^2 * cross-entropy(soft, softmax(z / T))

A pruned network is too small to learn again by itself what the whole one knew. Told how
likely every class is, and not only which is right, it regains the whole network's
accuracy. Several teachers are a committee. They see the same augmented
samples and do not learn; each costs one forward pass per sample.

Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015
(arXiv:1503.02531).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import ops

from training.errors import TrainingError
from training.tasks.task import Lesson


@dataclass(frozen=True)
class Teaching:
    """Which networks teach a stage, and how much they count.

    Attributes:
        stages: Names of earlier stages; their kept networks teach.
        temperature: T; the higher it is, the more unlikely classes count.
        share: The teachers' share of the loss, above 0 and at most 1; the rest is the
            task's own.
    """

    stages: tuple[str, ...]
    temperature: float = 4.0
    share: float = 0.9

    def __post_init__(self):
        if not self.stages or not self.temperature > 0 or not 0 < self.share <= 1:
            raise TrainingError(
                "Teaching expects names of earlier stages, temperature > 0 and 0 < "
                f"share <= 1; received {self.stages}, {self.temperature} and "
                f"{self.share}."
            )


class TaughtTask:
    """A task with classes whose loss also follows teachers.

    Args:
        task: Computes the labels' loss; its network returns logits (B, classes).
        teaching: How much the teachers count.
        teachers: Networks of the same inputs and classes.
    """

    def __init__(
        self, task: Lesson, teaching: Teaching, teachers: Sequence[keras.Model]
    ):
        self.task, self.teaching, self.teachers = task, teaching, tuple(teachers)

    def with_auxiliary(self, model: keras.Model) -> keras.Model:
        """Returns the task's network, after checking the teachers.

        Raises:
            TrainingError: If a teacher's outputs are not logits of the same classes.
        """
        for network in (model, *self.teachers):
            shape = network.output_shape
            if len(shape) != 2 or shape[-1] != model.output_shape[-1]:
                raise TrainingError(
                    "Teaching needs networks that give logits of the same classes, "
                    f"(batch, {model.output_shape[-1]}); received {shape}."
                )
        return self.task.with_auxiliary(model)

    def losses(self, network: keras.Model, batch, progress) -> dict:
        """The task's losses; ``"taught"`` is the teachers' part of ``"loss"``."""
        watched = _Watched(network)
        losses = self.task.losses(watched, batch, progress)
        temperature, share = self.teaching.temperature, self.teaching.share

        def softened(logits):
            return ops.cast(logits, "float32") / temperature

        judgements = [
            ops.softmax(softened(teacher(watched.inputs, training=False)))
            for teacher in self.teachers
        ]
        wanted = ops.stop_gradient(sum(judgements) / len(judgements))
        answers = softened(watched.logits)
        taught = ops.categorical_crossentropy(wanted, answers, from_logits=True)
        taught = taught * temperature**2
        loss = (1.0 - share) * losses["loss"] + share * taught
        return {**losses, "loss": loss, "taught": taught}


class _Watched:
    """Remembers what a network was given and what it answered."""

    def __init__(self, network: keras.Model):
        self.network = network
        self.inputs = self.logits = None

    def __call__(self, inputs, training: bool):
        self.inputs = inputs
        self.logits = self.network(inputs, training=training)
        return self.logits
