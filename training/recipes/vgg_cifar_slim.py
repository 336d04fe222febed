"""The narrow VGG11 on CIFAR-10, grown, pruned and taught by the whole network.

    half     half the filters
    whole    widened exactly to the whole network, and refreshed
    slim     pruned to 0.57 of it by the density of activations, taught by the whole

All data in every stage, at the cost of vgg_cifar_cumulative.py;
`training.classifiers.schedules.SLIM`.
"""

import dataclasses

from training.classifiers.schedules import SLIM
from training.recipes.vgg_cifar_cumulative import RECIPE as CUMULATIVE
from training.recipes.vgg_cifar_cumulative import SCHEDULE as WHOLE

SCHEDULE = dataclasses.replace(WHOLE, phases=SLIM)

RECIPE = dataclasses.replace(
    CUMULATIVE,
    name="vgg_cifar_slim",
    model=SCHEDULE.first,
    stages=SCHEDULE.stages(),
    expected="within 0.5 points of vgg_cifar_scratch at half of its training and 0.57 "
    "of its inference",
)
