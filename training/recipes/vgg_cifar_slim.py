"""The narrow VGG11 on CIFAR-10, grown early, pruned early, then trained for long.

    half     half the filters, half of the data, a tenth of the epochs
    whole    widened exactly to the whole network, all data
    slim     pruned to 0.57 of it by the density of activations, for the rest

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
    expected="within 0.5 points of vgg_cifar_scratch at half of its multiply-adds",
)
