"""The narrow VGG11 on CIFAR-10, grown, trained and pruned, always on all data.

    half     half the filters
    whole    widened exactly to the whole network, and refreshed
    slim     pruned to 0.57 of it by the density of activations

The cost of vgg_cifar_cumulative.py, spent otherwise; `training.schedules.SLIM`.
"""

import dataclasses

from training.recipes.vgg_cifar_cumulative import RECIPE as CUMULATIVE
from training.recipes.vgg_cifar_cumulative import SCHEDULE as WHOLE
from training.schedules import SLIM

SCHEDULE = dataclasses.replace(WHOLE, phases=SLIM)

RECIPE = dataclasses.replace(
    CUMULATIVE,
    name="vgg_cifar_slim",
    model=SCHEDULE.first,
    stages=SCHEDULE.stages(),
    expected="within 1 point of vgg_cifar_scratch at 0.57 of its inference",
)
