"""The narrow VGG13 on CIFAR-10 in two stages: the small network learns for longer.

    half     half the filters, half of the data, 1.6 E epochs of it
    whole    widened exactly to the whole network, all data, 0.28 E epochs

The cost of vgg_cifar_cumulative.py, spent otherwise; `training.schedules.PATIENT`.
"""

import dataclasses

from training.recipes.vgg_cifar_cumulative import RECIPE as CUMULATIVE
from training.recipes.vgg_cifar_cumulative import SCHEDULE as WHOLE
from training.schedules import PATIENT

SCHEDULE = dataclasses.replace(WHOLE, phases=PATIENT)

RECIPE = dataclasses.replace(
    CUMULATIVE,
    name="vgg_cifar_patient",
    model=SCHEDULE.first,
    stages=SCHEDULE.stages(),
    expected="within 0.5 points of vgg_cifar_scratch at half of its multiply-adds",
)
