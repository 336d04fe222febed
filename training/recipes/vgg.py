"""VGG classifiers, grown and pruned while they train; choose one by its name:

    python -m training.train --recipe training/recipes/vgg.py:cifar_slim \
        --data cifar10.npz --validation cifar10.npz --out RUN

    cifar_scratch   what the others are compared with: the whole network, all epochs
    cifar_short     the control: the same in half of the steps
    cifar_broad     half the filters first, then widened exactly to all, and refreshed
    cifar_slim      the same, then pruned to 0.57 and taught by the whole network
    tiny_imagenet_scratch, tiny_imagenet_slim
                    VGG19 at 64x64 for a GPU; these two have never been run
    ci              every kind of change in a minute; tries the machinery

The CIFAR-10 network is VGG11 with a quarter of the published filters, small enough for
CPU cores, on 500 images of each class, as many as TinyImageNet has; so a quarter of an
hour comes to where training from scratch gains no more. Schedules and their cost are in
`training.classifiers.schedules`; what was measured, including the schedules on subsets
that ended 7 and 9 points lower, is in docs/cumulative_training.md.
"""

from typing import Any

from training.classifiers.schedules import BROAD, SLIM, VggSchedule, lean
from training.stages.recipe import Recipe
from training.tasks.images import ImageTask

CIFAR = VggSchedule(
    phases=SLIM,
    depth=11,
    width=0.25,
    side=32,
    classes=10,
    samples=5_000,
    epochs=160,
    batch_size=128,
    learning_rate=3e-3,
)
CIFAR_TASK = ImageTask(size=32, shift=4, images=CIFAR.samples)

#: Steps are counted for 25,000 images; give four times as many for all 100,000.
TINY_IMAGENET = VggSchedule(
    phases=SLIM,
    depth=19,
    width=1.0,
    side=64,
    classes=200,
    samples=25_000,
    epochs=80,
    batch_size=128,
)
TINY_IMAGENET_TASK = ImageTask(size=64, shift=8)

#: An eighth of VGG11's filters and a few hundred steps.
CI = VggSchedule(
    phases=lean(shallow=11, deep=13),
    depth=13,
    width=0.125,
    side=32,
    classes=10,
    samples=12_800,
    epochs=2,
    batch_size=64,
)

#: Settings that all recipes share unless they say otherwise.
_LEARNING: dict[str, Any] = {
    "beta_2": 0.999,
    "weight_decay": 0.05,
    "ema_decay": 0.998,
    "log_every": 50,
    "validate_every": 390,
    "save_every": 390,
}


def grown(name, schedule, task, expected, **settings) -> Recipe:
    """A schedule's phases as a recipe."""
    return Recipe(
        name=f"vgg_{name}",
        task=task,
        model=schedule.first,
        stages=schedule.stages(),
        batch_size=schedule.batch_size,
        expected=expected,
        **{**_LEARNING, **settings},
    )


def from_scratch(name, schedule, task, expected, epochs: float = 1.0) -> Recipe:
    """The whole network from the first step on, for a share of the epochs."""
    return Recipe(
        name=f"vgg_{name}",
        task=task,
        model=schedule.whole,
        stages=schedule.scratch_stages(epochs),
        batch_size=schedule.batch_size,
        expected=expected,
        **_LEARNING,
    )


RECIPES = {
    recipe.name.removeprefix("vgg_"): recipe
    for recipe in (
        from_scratch(
            "cifar_scratch",
            CIFAR,
            CIFAR_TASK,
            "0.711; what the other recipes are compared with",
        ),
        from_scratch(
            "cifar_short",
            CIFAR,
            CIFAR_TASK,
            "0.705: what half of the compute gives without growing",
            epochs=0.5,
        ),
        grown(
            "cifar_broad",
            CIFAR.with_phases(BROAD),
            CIFAR_TASK,
            "0.709 at half of the multiply-adds of training from scratch",
        ),
        grown(
            "cifar_slim",
            CIFAR,
            CIFAR_TASK,
            "0.709 at half of the training and 0.55 of the inference",
        ),
        from_scratch(
            "tiny_imagenet_scratch",
            TINY_IMAGENET,
            TINY_IMAGENET_TASK,
            "not measured: never run",
        ),
        grown(
            "tiny_imagenet_slim",
            TINY_IMAGENET,
            TINY_IMAGENET_TASK,
            "not measured: never run",
        ),
        grown(
            "ci",
            CI,
            ImageTask(size=32, shift=4),
            "better than chance after each stage",
            weight_decay=0.0,
            ema_decay=0.98,
            log_every=20,
            validate_every=200,
            save_every=100,
        ),
    )
}
