"""The narrow VGG11 on CIFAR-10 in two stages that both learn from all data.

    half     half the filters
    whole    widened exactly to the whole network, and refreshed

The cost of vgg_cifar_cumulative.py, spent otherwise;
`training.classifiers.schedules.BROAD`.
"""

import dataclasses

from training.classifiers.schedules import BROAD
from training.recipes.vgg_cifar_cumulative import RECIPE as CUMULATIVE
from training.recipes.vgg_cifar_cumulative import SCHEDULE as WHOLE

SCHEDULE = dataclasses.replace(WHOLE, phases=BROAD)

RECIPE = dataclasses.replace(
    CUMULATIVE,
    name="vgg_cifar_broad",
    model=SCHEDULE.first,
    stages=SCHEDULE.stages(),
    expected="within 0.5 points of vgg_cifar_scratch at half of its multiply-adds",
)
