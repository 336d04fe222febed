"""VGG19 on TinyImageNet, cumulatively, at half the cost of training from scratch.

    half     half the filters, a quarter of the data
    wider    widened exactly to three quarters, half of the data
    whole    widened exactly to VGG19, all data

For a GPU. Data: TinyImageNet's folder (200 classes, 100,000 images: with ``--steps`` of
four times as many), or a pack of some of its classes; steps are counted for 25,000
images. The network is the published one for 64x64 images, 1.593 GMAC and 20.5 M
parameters.
"""

from training.classifiers.schedules import HALF_COST, VggSchedule
from training.stages.recipe import Recipe
from training.tasks.images import ImageTask

SCHEDULE = VggSchedule(
    phases=HALF_COST,
    depth=19,
    width=1.0,
    side=64,
    classes=200,
    samples=25_000,
    epochs=80,
    batch_size=128,
)

RECIPE = Recipe(
    name="vgg_tiny_imagenet_cumulative",
    task=ImageTask(size=64, shift=8),
    model=SCHEDULE.first,
    stages=SCHEDULE.stages(),
    batch_size=SCHEDULE.batch_size,
    beta_2=0.999,
    weight_decay=0.05,
    ema_decay=0.998,
    log_every=50,
    validate_every=390,
    save_every=390,
    expected="not measured; the same schedule fell 7 points short on CIFAR-10",
)
