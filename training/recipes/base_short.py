"""megan_base for minutes: shows on a CPU that it learns, before a GPU is paid for.

    python -m training.train --recipe training/recipes/base_short.py --data SHARDS \
        --validation CLIPS --out RUN

Network and loss of base_vimeo.py on crops of 64x64, 900 steps of 4. The result is no
network to use: with random weights in 8.9 M parameters, most of its way is ahead.
"""

import dataclasses

from training.data.sampling import SamplingSettings
from training.recipe import Stage
from training.recipes.base_vimeo import RECIPE as WHOLE

RECIPE = dataclasses.replace(
    WHOLE,
    name="base_short",
    task=dataclasses.replace(
        WHOLE.task,
        sampling=SamplingSettings(crop=64),
        validation_frames=9,
    ),
    stages=(Stage("all", 900, 4e-4, warmup_steps=100),),
    batch_size=4,
    ema_decay=0.98,
    cpu_bfloat16=True,
    log_every=10,
    validate_every=150,
    expected="above trilinear, which it begins at, and rising",
)
