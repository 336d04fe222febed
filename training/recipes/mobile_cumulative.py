"""megan_mobile by cumulative training: half its width on half of the data first.

    half     half the channels, half of the clips
    whole    widened exactly to megan_mobile, all clips
    motion, large, motion_again, large_again, motion_last    as in mobile_scratch.py

A step of the half-wide network costs less than a third of the multiply-adds, so much
is learned cheaply before the whole network sees all data. The final network, the loss
and the last five stages are those of mobile_scratch.py;
`python -m training.curves --runs A,B` compares them by multiply-adds of training.

Source: cumulative training: the data grow and the network with them (Net2Net, Chen et
al., ICLR 2016).
"""

from keras_megan.megan import MEGAN
from training.recipes.mobile_scratch import FINAL, TASK
from training.stages.changes import widen
from training.stages.recipe import Recipe, Stage


def halved(config):
    """The config of a MEGAN of half the width; its matching stays as it is."""
    options = dict(config["alignment_options"])
    finest = options.get("finest_filters") or options["matching_filters"]
    options["finest_filters"] = finest // 2
    options["motion_filters"] = options["motion_filters"] // 2
    return {
        **config,
        "filters": config["filters"] // 2,
        "tail_filters": config["tail_filters"] // 2,
        "alignment_options": options,
    }


def build():
    """megan_mobile with half the channels and fresh weights."""
    whole = MEGAN.from_preset("megan_mobile", load_weights=False).get_config()
    return MEGAN.from_config(halved(whole))


RECIPE = Recipe(
    name="mobile_cumulative",
    task=TASK,
    model=build,
    stages=(
        Stage(
            "half",
            2000,
            1.2e-3,
            fraction=0.5,
            warmup_steps=200,
            final_learning_rate=0.3,
        ),
        Stage("whole", 4000, 1e-3, changes=(widen(factor=2),)),
        *FINAL,
    ),
    batch_size=8,
    ema_decay=0.999,
    cpu_bfloat16=True,
    validate_every=500,
    expected="30.2 dB on the validation clips, 32.3 on given frames",
)
