"""The narrow VGG11 on CIFAR-10 from scratch: what cumulative training is compared with.

Network, epochs, batch, augmentation and learning rates are those that end
vgg_cifar_cumulative.py.
"""

import dataclasses

from training.recipes.vgg_cifar_cumulative import RECIPE as CUMULATIVE
from training.recipes.vgg_cifar_cumulative import SCHEDULE

RECIPE = dataclasses.replace(
    CUMULATIVE,
    name="vgg_cifar_scratch",
    model=SCHEDULE.whole,
    stages=SCHEDULE.scratch_stages(),
    expected="the accuracy that the cumulative recipes are measured by",
)
