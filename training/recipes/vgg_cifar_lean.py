"""The narrow VGG on CIFAR-10, pruned as it grows: under 0.4 of the cost.

    half     half the filters, a quarter of the data
    wider    widened exactly to three quarters, half of the data
    lean     pruned by the density of activations, widened again exactly, all data

The last network has 0.4 of the multiply-adds of vgg_cifar_scratch.py's. In every layer
the units that are seldom active go, and copies of those that are left take their place.
"""

import dataclasses

from training.classifiers.schedules import lean
from training.recipes.vgg_cifar_cumulative import RECIPE as CUMULATIVE
from training.recipes.vgg_cifar_cumulative import SCHEDULE as WHOLE

SCHEDULE = dataclasses.replace(WHOLE, phases=lean(shallow=11, deep=11))

RECIPE = dataclasses.replace(
    CUMULATIVE,
    name="vgg_cifar_lean",
    model=SCHEDULE.first,
    stages=SCHEDULE.stages(),
    expected="0.62, 9 points below vgg_cifar_scratch: subsets are learned by heart",
)
