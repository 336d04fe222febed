"""megan_nano: megan_mobile pruned in two steps to its budget, with training in between.

    lean    the features that run through the whole network from 48 to 32, the insides
            of the blocks pruned to 60 % of the multiply-adds (13.7 G), trained
    nano    the insides of the blocks pruned to 8 GMAC, trained

GMAC: multiply-adds for 4 -> 7 frames at 112x64. Channels are kept in multiples of 8 or
4, which is what mobile GPUs compute in; 32 features because convolutions on CPUs with
AVX-512 compute 32 output channels at a time, and 40 cost them as much as 64.
``stages.json`` shows what each step cost: the first score of a stage is the reference
minus what pruning took away, the last what training gave back. Needs the trained
weights of the preset megan_mobile.
"""

from typing import Any

from keras_megan.megan import MEGAN
from training.recipes.finetune import TASK
from training.stages.changes import prune
from training.stages.recipe import Recipe, Stage


def build():
    """The trained megan_mobile."""
    return MEGAN.from_preset("megan_mobile")


#: Where multiply-adds are counted: 4 frames of 112x64; megan_mobile has 22.89 G there.
FRAMES = (4, 64, 112, 3)
FEATURES = "extract"
#: What estimates motion keeps its channels: a twentieth of the cost, and all depends on
#: it. (Names in the network after its first pruning.)
KEPT = (
    *(FEATURES, "embed", "conv_1_0", "conv_2_0", "conv_3_0"),
    *("coarse_0", "coarse_1", "coarse_2", "fine_0", "fine_1"),
)
INSIDES: dict[str, Any] = {
    "input_shape": FRAMES,
    "keep": KEPT,
    "importance": "filter_norm",
    "scope": "local",
}

RECIPE = Recipe(
    name="nano",
    task=TASK,
    model=build,
    stages=(
        Stage(
            "lean",
            1000,
            7e-4,
            changes=(
                prune(widths={FEATURES: 32}),
                prune(macs=13.73e9, round_to=8, **INSIDES),
            ),
        ),
        Stage(
            "nano",
            1500,
            7e-4,
            changes=(prune(macs=8e9, round_to=4, **INSIDES),),
        ),
    ),
    batch_size=8,
    ema_decay=0.998,
    cpu_bfloat16=True,
    validate_every=500,
    expected="lean within 0.15 dB of megan_mobile, nano within 0.5 dB",
)
