"""Trains a network further: after pruning, or on your own footage.

    python -m training.train --recipe training/recipes/finetune.py --model FILE ...

One stage at half the usual rate, whatever the network; without ``--model`` megan_edge.
"""

from keras_megan.megan import MEGAN
from training.data.sampling import SamplingSettings
from training.stages.recipe import Recipe, Stage
from training.tasks.video import VideoTask


def build():
    """The trained megan_edge."""
    return MEGAN.from_preset("megan_edge")


TASK = VideoTask(
    validation_downscale="1",
    sampling=SamplingSettings(crop=128, pan=16, pan_share=0.25, shutter=0.8),
    motion_weight=0.2,
    final_motion_weight=0.05,
)

RECIPE = Recipe(
    name="finetune",
    task=TASK,
    model=build,
    stages=(Stage("finetune", 1500, 5e-4),),
    batch_size=8,
    ema_decay=0.998,
    cpu_bfloat16=True,
    validate_every=500,
    expected="most of what pruning took away",
)
