"""megan_mobile from scratch: the whole network and all data from the first step.

    all      crops of 128x128
    motion   the motion field alone: crops of 256x256 that pan and blur, the motion
             taught by optical flow
    large    the whole network again, on crops of 160x160 that sometimes pan
    motion_again, large_again, motion_last    in turns

The counterpart of mobile_cumulative.py: the same final network, data, loss and last
five stages, and before them about the same wall time on 2 CPU cores, where 2,000 steps
of the half-wide network take as long as 1,200 of the whole one. On a GPU give
``--steps 60000 --batch_size 16``.
"""

from keras_megan.megan import MEGAN
from training.data.sampling import SamplingSettings
from training.stages.recipe import Recipe, Stage
from training.tasks.video import VideoTask


def build():
    """The network of the preset, with fresh weights."""
    return MEGAN.from_preset("megan_mobile", load_weights=False)


TASK = VideoTask(
    validation_downscale="1",
    sampling=SamplingSettings(crop=128),
    motion_weight=1.0,
    final_motion_weight=0.1,
)


def motion(name, steps, pan_share):
    """A stage that teaches the motion field alone, by optical flow."""
    return Stage(
        name,
        steps,
        1e-3,
        layers=("interpolate",),
        task=VideoTask(
            sampling=SamplingSettings(
                crop=256, candidate_share=0.25, pan=20, pan_share=pan_share, shutter=0.8
            ),
            pixel_weight=0.0,
            motion_weight=1.0,
            final_motion_weight=1.0,
            flow_weight=0.1,
        ),
    )


def large(name, steps):
    """A stage of the whole network on larger crops."""
    return Stage(
        name,
        steps,
        5e-4,
        task=VideoTask(
            sampling=SamplingSettings(crop=160, pan=20, pan_share=0.25, shutter=0.8),
            motion_weight=0.2,
            final_motion_weight=0.1,
            flow_weight=0.05,
        ),
    )


#: What follows on the first training of the whole network.
FINAL = (
    motion("motion", 1800, 0.6),
    large("large", 600),
    motion("motion_again", 1000, 0.4),
    large("large_again", 700),
    motion("motion_last", 1200, 0.35),
)

RECIPE = Recipe(
    name="mobile_scratch",
    task=TASK,
    model=build,
    stages=(Stage("all", 5200, 1e-3, warmup_steps=200), *FINAL),
    batch_size=8,
    ema_decay=0.999,
    cpu_bfloat16=True,
    validate_every=500,
    expected="30.2 dB on the validation clips, 32.3 on given frames",
)
