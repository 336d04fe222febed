"""How robust trained classifiers are: noise, generalisation, and attacks.

    python -m training.classifiers.robustness \
        --models STAGE_0.keras,STAGE_1.keras,FINAL.keras --data PACK_OR_FOLDER \
        --out robustness.json [--scratch SCRATCH.keras] \
        [--independent A.keras,B.keras]

``--models`` are the networks of a cumulative run in order; the last one is judged, and
all together are the committee. ``--scratch`` is the network to compare it with,
``--independent`` networks that were trained separately, for a committee of the other
kind: for networks of the same sizes, take earlier stages of runs with other seeds.

Written as JSON, measured on the validation split: accuracy on clean images and under
noise (each strength with every seed), the gap between training and validation accuracy,
and how well attacks are detected (`training.classifiers.detection`). Images are in
[0, 1]; after noise they are cut to that range.

Sources of the noises: additive Gaussian and salt-and-pepper as in Gonzalez and Woods,
Digital Image Processing, chapter 5.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
from absl import app, flags
from rich.console import Console

from keras_megan.errors import run_program
from keras_megan.files import write_json
from keras_megan.net2net import count_macs, count_params
from training.classifiers.detection import DetectionSettings, measure_detection
from training.data.images.sources import read_images
from training.data.subsets import nested_order
from training.engine.networks import load_model
from training.errors import TrainingError, saving


def gaussian_noise(images: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """Adds independent normal noise to every value and cuts to [0, 1].

    Args:
        images: float32 (N, H, W, C) in [0, 1].
        sigma: Standard deviation, in units of the images.
        seed: Seed of the noise.
    """
    random = np.random.Generator(np.random.Philox(key=seed))
    noise = random.standard_normal(images.shape, np.float32) * np.float32(sigma)
    return np.clip(images + noise, 0.0, 1.0)


def salt_and_pepper(images: np.ndarray, amount: float, seed: int) -> np.ndarray:
    """Makes a share of the pixels black or white, by half, in all channels.

    Args:
        images: float32 (N, H, W, C) in [0, 1].
        amount: Chance of each pixel.
        seed: Seed of the noise.
    """
    random = np.random.Generator(np.random.Philox(key=seed))
    chance = random.random((*images.shape[:-1], 1), np.float32)
    images = np.where(chance < amount / 2.0, np.float32(0.0), images)
    return np.where(chance >= 1.0 - amount / 2.0, np.float32(1.0), images)


#: Name -> function (images, strength, seed) -> noisy images.
NOISES: dict[str, Callable] = {
    "gaussian": gaussian_noise,
    "salt_and_pepper": salt_and_pepper,
}


@dataclass(frozen=True)
class RobustnessSettings:
    """What to measure.

    Attributes:
        noises: Name in `NOISES` -> strengths.
        seeds: Seeds with which each noise is drawn.
        training_images: How many of the training split, balanced over the classes, the
            gap is measured on.
        attacked_images: How many of the scored split are attacked, balanced likewise.
        detection: See `training.classifiers.detection`.
        batch_size: Images at once.
    """

    noises: dict[str, tuple[float, ...]] = field(
        default_factory=lambda: {
            "gaussian": (0.02, 0.05, 0.1, 0.2),
            "salt_and_pepper": (0.01, 0.02, 0.05, 0.1),
        }
    )
    seeds: tuple[int, ...] = (0, 1, 2)
    training_images: int = 10_000
    attacked_images: int = 1_000
    detection: DetectionSettings = DetectionSettings()
    batch_size: int = 250


def accuracy(model: keras.Model, images: np.ndarray, labels, batch_size: int) -> float:
    """Share of images (N, H, W, C) in [0, 1] whose highest logit is their label's."""
    right = 0
    for first in range(0, len(labels), batch_size):
        some = slice(first, first + batch_size)
        logits = np.asarray(model.predict_on_batch(images[some]))
        right += int(np.sum(logits.argmax(-1) == labels[some]))
    return right / len(labels)


def measure_network(
    model: keras.Model, train: tuple, scored: tuple, settings: RobustnessSettings
) -> dict:
    """Cost, accuracies and noise curves of one network.

    Args:
        model: Images -> logits.
        train, scored: Pairs of images float32 (N, H, W, C) and labels.
        settings: What to measure.

    Returns:
        ``parameters``, ``macs``, ``accuracy``, ``training_accuracy``, ``gap`` (their
        difference), ``noise``: name -> rows of ``strength``, ``accuracies`` (one per
        seed), ``mean``, ``drop`` (of the mean below the clean accuracy).
    """
    batch = settings.batch_size
    clean = accuracy(model, *scored, batch)
    seen = accuracy(model, *train, batch)
    noise = {}
    for name, strengths in settings.noises.items():
        noise[name] = []
        for strength in strengths:
            found = [
                accuracy(
                    model, NOISES[name](scored[0], strength, seed), scored[1], batch
                )
                for seed in settings.seeds
            ]
            mean = float(np.mean(found))
            row = {"strength": strength, "accuracies": found, "mean": mean}
            noise[name].append({**row, "drop": clean - mean})
    return {
        "parameters": int(count_params(model)),
        "macs": int(count_macs(model)),
        "accuracy": clean,
        "training_accuracy": seen,
        "gap": seen - clean,
        "noise": noise,
    }


def measure_robustness(
    models: list[keras.Model],
    data: str,
    settings: RobustnessSettings | None = None,
    scratch: keras.Model | None = None,
    independent: list[keras.Model] | tuple = (),
    report: Callable[[str], None] = lambda text: None,
) -> dict:
    """Everything this program measures, as JSON data.

    Args:
        models: Networks of the stages, in order.
        data: What `training.data.images.sources` reads.
        settings: What to measure.
        scratch: The network to compare the last one with.
        independent: Networks that were trained separately.
        report: Called with lines on the progress.

    Raises:
        TrainingError: If networks and images do not fit together.
    """
    settings = settings or RobustnessSettings()
    shapes = {(m.input_shape[1:], m.output_shape[1:]) for m in (*models, *independent)}
    if len(shapes) != 1:
        raise TrainingError(
            f"The networks must take and give the same; received {sorted(shapes)}."
        )
    ((height, width, _), (classes,)) = shapes.pop()
    if height != width:
        raise TrainingError(
            f"Expected square images; the networks take {width}x{height}."
        )
    train, scored = (_read(data, split, height, classes) for split in ("train", "val"))
    train = _some(*train, settings.training_images)
    networks = {"final": models[-1]}
    if scratch is not None:
        networks["scratch"] = scratch
    measured = {}
    for name, model in networks.items():
        measured[name] = measure_network(model, train, scored, settings)
        report(f"{name}: accuracy {measured[name]['accuracy']:.4f}")
    detectors = {"single": models[-1:]}
    if len(models) > 1:
        detectors["stages"] = list(models)
    if independent:
        detectors["independent"] = [*independent, models[-1]]
    attacked = _some(*scored, settings.attacked_images)
    detection = measure_detection(detectors, *attacked, settings.detection, report)
    return {
        "settings": asdict(settings),
        "images": {"train": len(train[1]), "val": len(scored[1])},
        "networks": measured,
        "stages": [
            {
                "name": model.name,
                "accuracy": accuracy(model, *scored, settings.batch_size),
            }
            for model in models
        ],
        "detection": detection,
    }


def _read(data: str, split: str, size: int, classes: int) -> tuple:
    found = read_images(data, split, size)
    if found.labels.max() >= classes:
        raise TrainingError(
            f"The images of '{data}' have at least {found.labels.max() + 1} classes, "
            f"the networks tell {classes} apart."
        )
    return found.images.astype(np.float32) / np.float32(255.0), found.labels


def _some(images, labels, count: int) -> tuple:
    """The first of a fixed order that is balanced over the classes."""
    order = nested_order(labels, seed=0)[:count]
    return images[order], labels[order]


def _define_flags() -> None:
    """Only in the program itself: flags are global, and modules import each other."""
    flags.DEFINE_list(
        "models", [], "Networks of the stages in order; the last one is judged."
    )
    flags.DEFINE_string("data", None, "Labelled images: a pack or a folder.")
    flags.DEFINE_string("out", None, "JSON file to write.")
    flags.DEFINE_string("scratch", None, "Network to compare the last one with.")
    flags.DEFINE_list(
        "independent",
        [],
        "Networks that were trained separately, for a committee of them.",
    )
    flags.DEFINE_integer("attacked_images", 1000, "Number of images to attack.")
    flags.DEFINE_integer(
        "training_images",
        10000,
        "Number of training images on which the gap is measured.",
    )


def _main() -> int:
    given = flags.FLAGS
    if not (given.models and given.data and given.out):
        raise TrainingError(
            "Expected --models A.keras,B.keras, --data PACK_OR_FOLDER and --out "
            "FILE.json."
        )
    if min(given.attacked_images, given.training_images) < 1:
        raise TrainingError("--attacked_images and --training_images must be positive.")
    console = Console()
    document = measure_robustness(
        [load_model(Path(path)) for path in given.models],
        given.data,
        RobustnessSettings(
            attacked_images=given.attacked_images,
            training_images=given.training_images,
        ),
        load_model(Path(given.scratch)) if given.scratch else None,
        [load_model(Path(path)) for path in given.independent],
        lambda text: console.print(text, soft_wrap=True, highlight=False),
    )
    with saving(Path(given.out)):
        Path(given.out).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(given.out), {"models": list(given.models), **document})
    console.print(f"Wrote {given.out}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    _define_flags()
    app.run(lambda argv: run_program("robustness", _main))
