"""megan_base for minutes: shows on a CPU that it learns, before a GPU is paid for.

    python -m training.train --recipe training/recipes/base_short.py --data SHARDS \
        --validation CLIPS --out RUN

Network and loss of base_vimeo.py on 420 batches of 8 crops of 64x64. The result is not
fit for use: nearly all of the training is still ahead. Its curve: docs/training.md.
"""

import dataclasses

from training.data.sampling import SamplingSettings
from training.recipes.base_vimeo import RECIPE as WHOLE
from training.recipes.base_vimeo import TASK
from training.stages.recipe import Stage

RECIPE = dataclasses.replace(
    WHOLE,
    name="base_short",
    task=dataclasses.replace(
        TASK, sampling=SamplingSettings(crop=64), validation_frames=9
    ),
    stages=(Stage("all", 420, 6e-4, warmup_steps=40),),
    batch_size=8,
    ema_decay=0.95,
    cpu_bfloat16=True,
    log_every=10,
    validate_every=70,
    expected="half a decibel above trilinear, and rising",
)
