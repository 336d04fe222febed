"""megan_base on Vimeo-90K: the paper's size and the field's schedule.

    python -m training.prepare --videos vimeo_septuplet --out SHARDS \
        --length 7 --still_pixels 0 --max_motion 1000 --downscale 1 --codec png
    python -m training.train --recipe training/recipes/base_vimeo.py --data SHARDS \
        --validation vid4 --out runs/base --mixed_precision

Crops of 128x128, all 64,612 septuplets, 600,000 steps of 24. base_short.py shows in
minutes that it learns. Cost in GPU hours: docs/training.md.

Source: the schedule of Xiang et al., Zooming Slow-Mo, CVPR 2020, with one cosine in
place of four restarts.
"""

from keras_megan.megan import MEGAN
from training.data.sampling import SamplingSettings
from training.stages.recipe import Recipe, Stage
from training.tasks.video import VideoTask


def build():
    """The network of the paper's size: 64 channels, deformable alignment."""
    return MEGAN(name="megan_base")


TASK = VideoTask(
    sampling=SamplingSettings(
        crop=128,
        strides=((1, 1.0),),
        candidate_share=0.0,
        most_per_group=None,
    ),
    validation_frames=None,
    validation_downscale="1",
)

RECIPE = Recipe(
    name="base_vimeo",
    task=TASK,
    model=build,
    stages=(Stage(name="all", steps=600_000, learning_rate=4e-4, warmup_steps=2000),),
    batch_size=24,
    ema_decay=0.9995,
    validate_every=10_000,
    save_every=1000,
    expected="26.3 dB on Vid4, 36.8 on Vimeo-Fast (the published neighbours' level)",
)
