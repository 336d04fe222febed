"""megan_nano: megan_edge pruned step by step to its budget, with training in between.

    warm       the trained megan_edge, a few steps at a low rate: the reference
    halfway    pruned to 16 GMAC, trained
    nano       pruned to 8 GMAC, trained

GMAC: multiply-adds for 4 -> 7 frames at 112x64. Channels are kept in multiples of 8,
which is what mobile GPUs compute in. ``stages.json`` tells what each step cost: the
first score of a stage is the reference minus what pruning took away, the last what
training gave back. Needs the trained weights of the preset megan_edge.
"""

from keras_megan.megan import MEGAN
from training.changes import prune
from training.data.sampling import SamplingSettings
from training.recipe import Recipe, Stage
from training.tasks.video import VideoTask

#: Where multiply-adds are counted: 4 frames of 112x64.
FRAMES = (4, 64, 112, 3)


def build():
    """The trained megan_edge."""
    return MEGAN.from_preset("megan_edge")


def to_budget(macs):
    """Prunes to so many multiply-adds, in multiples of 8 channels."""
    return prune(macs=macs, input_shape=FRAMES, round_to=8)


RECIPE = Recipe(
    name="nano",
    task=VideoTask(
        validation_downscale="1",
        sampling=SamplingSettings(crop=128),
        motion_weight=0.2,
        final_motion_weight=0.05,
    ),
    model=build,
    stages=(
        Stage("warm", 100, 1e-4),
        Stage("halfway", 1500, 5e-4, changes=(to_budget(16e9),)),
        Stage("nano", 3000, 5e-4, changes=(to_budget(8e9),)),
    ),
    batch_size=8,
    ema_decay=0.998,
    validate_every=500,
    expected="within 0.5 dB of megan_edge at a third of its multiply-adds",
)
