"""What the training loop asks of a task; implement it to train something else.

A task says what a network learns: where the data comes from, what a sample is, what the
losses are and how a network is scored. The loop, the stages and the checkpoints know
nothing else about it. `training.tasks.video` and `training.tasks.images` are the two
that ship; a recipe names one:

    Recipe(name="...", task=ImageTask(size=32), ...)

Tasks are frozen dataclasses of plain settings, so that a run's folder can record them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras
import numpy as np

#: Sample number -> one sample: a tuple of arrays without a batch axis. A pure function
#: of its number, so that a run can continue anywhere.
Sampler = Callable[[int], tuple[Any, ...]]


class Lesson(Protocol):
    """The part of a task that the training step computes."""

    def with_auxiliary(self, model: keras.Model) -> keras.Model:
        """Returns the network with whatever else the losses need as outputs.

        Raises:
            TrainingError: If the network does not have it.
        """
        ...

    def losses(
        self, network: keras.Model, batch: tuple[Any, ...], progress: Any
    ) -> dict[str, Any]:
        """Computes the losses of every sample in a batch, inside the training step.

        Args:
            network: What `with_auxiliary` returned.
            batch: Samples stacked along a new first axis, as tensors.
            progress: float32 scalar, 0 as the stage begins and 1 as it ends.

        Returns:
            Name -> float32 tensor (B,). ``"loss"`` is minimised; the others are logged.
        """
        ...


class Validator(Protocol):
    """Scores networks on data that is not trained on."""

    def __call__(self, model: keras.Model) -> dict[str, float]:
        """Returns name -> score; higher is better for the task's ``score_name``."""
        ...

    def strips(self, model: keras.Model) -> Mapping[str, np.ndarray]:
        """Returns name -> picture, uint8 (H, W, 3), for TensorBoard; may be empty."""
        ...


class Task(Lesson, Protocol):
    """Data, losses and scores.

    Attributes:
        score_name: The score of the validator that decides which weights are best.
    """

    @property
    def score_name(self) -> str: ...

    def open(self, data: str, report: Callable[[str], None]) -> Any:
        """Opens the training data, decoding it on first use.

        Args:
            data: What ``--data`` names.
            report: Takes lines about what is going on.

        Returns:
            Whatever `sampler` takes.

        Raises:
            TrainingError: If there is not enough of it, or it cannot be read.
        """
        ...

    def sampler(self, data: Any, seed: int, fraction: float) -> Sampler:
        """Returns the function that draws samples.

        Args:
            data: What `open` returned.
            seed: Samples follow from the seed and their number alone.
            fraction: Share of the data, above 0 and at most 1. Smaller shares are parts
                of larger ones.
        """
        ...

    def inputs(self, sample: Sampler) -> np.ndarray:
        """Returns a float32 batch of network inputs, for pruning that looks at data."""
        ...

    def sample_shape(self) -> tuple[int, ...] | list[tuple[int, ...]]:
        """Returns the shape of one input of what `with_auxiliary` gives, or a list.

        Shapes are without the batch axis.
        """
        ...

    def validator(self, path: str) -> Validator:
        """Opens the validation data that ``--validation`` names.

        Raises:
            TrainingError: If it cannot be used.
        """
        ...
