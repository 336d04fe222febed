"""The task of image classification, for cumulative training of any classifier.

Data: the splits ``train`` and ``val`` of any layout that `training.data.images.sources`
knows: folders of classes, TinyImageNet, CIFAR-10, or one ``.npz`` file of JPEGs.

Batch, per replica: images uint8 (B, H, W, 3) RGB and labels int64 (B,). The network
takes float32 images in [0, 1] and gives logits (B, classes). Loss: cross-entropy.
Score: accuracy on the ``val`` split. Smaller fractions of the data are class-balanced
parts of larger ones.

Source: the augmentation (4 pixels of shift, flips) is that of He et al., CVPR 2016.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from training.data.images.sources import read_images
from training.data.sampling import generator, round_order
from training.data.subsets import nested_order
from training.errors import TrainingError


@dataclass(frozen=True)
class ImageTask:
    """Settings of the task.

    Attributes:
        size: Side of the images in pixels.
        shift: Largest random shift, in pixels.
        flip: Whether images are mirrored, by half.
        label_smoothing: Label smoothing of the cross-entropy.
        validation_batch: Images scored at once.
        images: Number of images of the training split to use, balanced over the
            classes; None: all. Fractions of stages are fractions of these.
    """

    size: int = 32
    shift: int = 4
    flip: bool = True
    label_smoothing: float = 0.0
    validation_batch: int = 250
    images: int | None = None

    score_name = "accuracy"

    def open(self, data: str, report: Callable[[str], None]) -> dict:
        """The training split, decoded: ``images`` uint8 (N, H, W, 3), ``labels``.

        Raises:
            TrainingError: If there are fewer images than asked for.
        """
        found = _read_split(data, "train", self.size)
        if self.images is None:
            return found
        if len(found["labels"]) < self.images:
            raise TrainingError(
                f"The recipe trains on {self.images} images; '{data}' has "
                f"{len(found['labels'])}."
            )
        chosen = nested_order(found["labels"], seed=0)[: self.images]
        return {name: values[chosen] for name, values in found.items()}

    def sampler(self, data: dict, seed: int, fraction: float) -> Callable:
        """n -> (image, label)."""
        images, labels = data["images"], data["labels"]
        order = nested_order(labels, seed)[: max(1, round(fraction * len(labels)))]

        def sample(number: int) -> tuple[np.ndarray, np.ndarray]:
            rounds, place = divmod(int(number), len(order))
            index = order[round_order(seed, rounds, len(order))[place]]
            random = generator(seed, number)
            return self._augment(images[index], random), labels[index]

        return sample

    def _augment(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        pad, side = self.shift, self.size
        top, left = random.integers(0, 2 * pad + 1, size=2)
        padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        image = padded[top : top + side, left : left + side]
        if self.flip and random.random() < 0.5:
            image = image[:, ::-1]
        return np.ascontiguousarray(image)

    def inputs(self, sample: Callable, count: int = 256) -> np.ndarray:
        """float32 (count, H, W, 3): inputs for importances that look at data."""
        images = np.stack([sample(number)[0] for number in range(count)])
        return images.astype(np.float32) / np.float32(255.0)

    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one input of the network."""
        return (self.size, self.size, 3)

    def with_auxiliary(self, model: keras.Model) -> keras.Model:
        """The network itself: the loss needs its output alone."""
        return model

    def losses(self, network: keras.Model, batch, progress) -> dict:
        """Cross-entropy and accuracy of every sample of a batch.

        Returns:
            ``"loss"`` and ``"accuracy"``, (B,) float32.
        """
        images, labels = batch
        logits = network(ops.cast(images, "float32") / 255.0, training=True)
        logits = ops.cast(logits, "float32")
        classes = logits.shape[-1]
        wanted = ops.one_hot(labels, classes)
        wanted = wanted * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        right = ops.equal(ops.cast(labels, "int64"), ops.argmax(logits, -1))
        return {
            "loss": ops.categorical_crossentropy(wanted, logits, from_logits=True),
            "accuracy": ops.cast(right, "float32"),
        }

    def validator(self, path: str) -> "ImageValidator":
        """Scores networks on the ``val`` split of a file."""
        return ImageValidator(self, path)


class ImageValidator:
    """The ``val`` split in memory.

    Args:
        task: What and how.
        path: File or folder.
    """

    def __init__(self, task: ImageTask, path: str):
        self.batch = task.validation_batch
        self.data = _read_split(path, "val", task.size)

    def __call__(self, model: keras.Model) -> dict[str, float]:
        """``accuracy`` and ``cross_entropy`` over all images.

        Raises:
            TrainingError: If the images have more classes than the network.
        """
        classes, needed = model.output_shape[-1], int(self.data["labels"].max()) + 1
        if needed > classes:
            raise TrainingError(
                f"The images have {needed} classes, but the network has {classes}; "
                "give the recipe's network as many."
            )
        right, entropy = 0.0, 0.0
        count = len(self.data["labels"])
        for first in range(0, count, self.batch):
            some = slice(first, first + self.batch)
            labels = self.data["labels"][some]
            images = self.data["images"][some].astype(np.float32) / np.float32(255.0)
            logits = np.asarray(model.predict_on_batch(images), np.float64)
            logits -= logits.max(-1, keepdims=True)
            logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            right += float((logits.argmax(-1) == labels).sum())
            entropy -= float(logs[np.arange(len(labels)), labels].sum())
        return {"accuracy": right / count, "cross_entropy": entropy / count}

    def strips(self, model: keras.Model) -> dict[str, np.ndarray]:
        """Returns no pictures."""
        return {}


def _read_split(path: str, split: str, size: int) -> dict[str, np.ndarray]:
    found = read_images(path, split, size)
    return {"images": found.images, "labels": found.labels}
