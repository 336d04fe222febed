"""The narrow VGG11 on CIFAR-10 from scratch in half of the steps: the control.

Whatever cumulative training saves must be held against simply training less. The same
as vgg_cifar_scratch.py, with the whole learning rate schedule in 0.5 of its epochs.
"""

import dataclasses

from training.recipes.vgg_cifar_cumulative import RECIPE as CUMULATIVE
from training.recipes.vgg_cifar_cumulative import SCHEDULE

RECIPE = dataclasses.replace(
    CUMULATIVE,
    name="vgg_cifar_short",
    model=SCHEDULE.whole,
    stages=SCHEDULE.scratch_stages(epochs=0.5),
    expected="what half of the compute gives without growing",
)
