"""A narrow VGG11 on CIFAR-10, cumulatively, at half the cost of training from scratch.

    half     half the filters, a quarter of the data
    wider    widened exactly to three quarters, half of the data
    whole    widened exactly to the whole network, all data

The whole network is VGG11 with a quarter of the published filters, for two CPU cores.
It trains on 500 images of each class, as many as TinyImageNet has: so a run of minutes
comes to where training from scratch gains no more. The phases are
`training.classifiers.schedules.HALF_COST`; their cost follows from the arithmetic.
Data: CIFAR-10 in any layout of `training.data.image_sources`.
"""

from training.classifiers.schedules import HALF_COST, VggSchedule
from training.stages.recipe import Recipe
from training.tasks.images import ImageTask

SCHEDULE = VggSchedule(
    phases=HALF_COST,
    depth=11,
    width=0.25,
    side=32,
    classes=10,
    samples=5_000,
    epochs=160,
    batch_size=128,
    learning_rate=3e-3,
)

RECIPE = Recipe(
    name="vgg_cifar_cumulative",
    task=ImageTask(size=32, shift=4, images=SCHEDULE.samples),
    model=SCHEDULE.first,
    stages=SCHEDULE.stages(),
    batch_size=SCHEDULE.batch_size,
    beta_2=0.999,
    weight_decay=0.05,
    ema_decay=0.998,
    log_every=50,
    validate_every=390,
    save_every=390,
    expected="0.64, 7 points below vgg_cifar_scratch: subsets are learned by heart",
)
