"""VGG19 on TinyImageNet from scratch: what cumulative training is compared with.

Network, epochs, batch, augmentation and learning rates are those that end
vgg_tiny_imagenet_cumulative.py.
"""

import dataclasses

from training.recipes.vgg_tiny_imagenet_cumulative import RECIPE as CUMULATIVE
from training.recipes.vgg_tiny_imagenet_cumulative import SCHEDULE

RECIPE = dataclasses.replace(
    CUMULATIVE,
    name="vgg_tiny_imagenet_scratch",
    model=SCHEDULE.whole,
    stages=SCHEDULE.scratch_stages(),
    expected="the accuracy that the cumulative recipes are measured by",
)
