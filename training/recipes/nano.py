"""megan_nano: megan_edge pruned in two steps to its budget, with training in between.

    lean    pruned to 60 % of the multiply-adds (13.9 G), trained
    nano    pruned to 8 GMAC, trained

GMAC: multiply-adds for 4 -> 7 frames at 112x64. Channels are kept in multiples of 8,
which is what mobile GPUs compute in; so for the first step the features that run
through the whole network are set to 40 of 48, and the budget holds for what lies inside
the blocks. ``stages.json`` tells what each step cost: the first score of a stage is the
reference minus what pruning took away, the last what training gave back. Needs the
trained weights of the preset megan_edge.
"""

from keras_megan.megan import MEGAN
from training.changes import prune
from training.data.sampling import SamplingSettings
from training.recipe import Recipe, Stage
from training.tasks.video import VideoTask

#: Where multiply-adds are counted: 4 frames of 112x64; megan_edge has 23.24 G there.
FRAMES = (4, 64, 112, 3)
FEATURES = "extract"


def build():
    """The trained megan_edge."""
    return MEGAN.from_preset("megan_edge")


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
        Stage(
            "lean",
            1000,
            5e-4,
            changes=(
                prune(widths={FEATURES: 40}),
                prune(macs=13.94e9, input_shape=FRAMES, round_to=8, keep=(FEATURES,)),
            ),
        ),
        Stage(
            "nano",
            2000,
            6e-4,
            changes=(prune(macs=8e9, input_shape=FRAMES, round_to=8),),
        ),
    ),
    batch_size=8,
    ema_decay=0.998,
    cpu_bfloat16=True,
    validate_every=1000,
    expected="lean within 0.15 dB of megan_edge, nano within 0.5 dB",
)
