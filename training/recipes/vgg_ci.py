"""The cumulative recipe in minutes: it tries the machinery, not the claim.

All that vgg_cifar_lean.py does (subsets, widening, deepening, pruning by the density of
activations) with an eighth of VGG11's filters and a few hundred steps, on 32x32 images
of ten classes.
"""

from training.classifiers.schedules import VggSchedule, lean
from training.stages.recipe import Recipe
from training.tasks.images import ImageTask

SCHEDULE = VggSchedule(
    phases=lean(shallow=11, deep=13),
    depth=13,
    width=0.125,
    side=32,
    classes=10,
    samples=12_800,
    epochs=2,
    batch_size=64,
)

RECIPE = Recipe(
    name="vgg_ci",
    task=ImageTask(size=32, shift=4),
    model=SCHEDULE.first,
    stages=SCHEDULE.stages(),
    batch_size=SCHEDULE.batch_size,
    beta_2=0.999,
    ema_decay=0.98,
    log_every=20,
    validate_every=200,
    save_every=100,
    expected="better than chance after each stage",
)
