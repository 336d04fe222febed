"""VGG19 on TinyImageNet, grown, pruned and taught by the whole network.

    half     half the filters
    whole    widened exactly to VGG19, and refreshed
    slim     pruned to 0.57 of it by the density of activations, taught by the whole

All data in every stage; `training.classifiers.schedules.SLIM`, which did best on
CIFAR-10. Otherwise as vgg_tiny_imagenet_cumulative.py.
"""

import dataclasses

from training.classifiers.schedules import SLIM
from training.recipes.vgg_tiny_imagenet_cumulative import RECIPE as CUMULATIVE
from training.recipes.vgg_tiny_imagenet_cumulative import SCHEDULE as WHOLE

SCHEDULE = dataclasses.replace(WHOLE, phases=SLIM)

RECIPE = dataclasses.replace(
    CUMULATIVE,
    name="vgg_tiny_imagenet_slim",
    model=SCHEDULE.first,
    stages=SCHEDULE.stages(),
    expected="not measured; vgg_cifar_slim reached vgg_cifar_scratch within 0.5 points",
)
