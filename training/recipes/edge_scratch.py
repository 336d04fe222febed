"""megan_edge from scratch: one stage, the whole network, all data.

The counterpart of edge_cumulative.py: the same final network and data. Steps are for
hours on a few CPU cores; on a GPU give ``--steps 60000 --batch_size 16``.
"""

from keras_megan.megan import MEGAN
from training.data.sampling import SamplingSettings
from training.recipe import Recipe, Stage
from training.tasks.video import VideoTask


def build():
    """The network of the preset, with fresh weights."""
    return MEGAN.from_preset("megan_edge", load_weights=False)


RECIPE = Recipe(
    name="edge_scratch",
    task=VideoTask(
        validation_downscale="1",
        sampling=SamplingSettings(crop=128),
        motion_weight=1.0,
        final_motion_weight=0.1,
    ),
    model=build,
    stages=(Stage(name="all", steps=6500, learning_rate=1e-3, warmup_steps=200),),
    batch_size=8,
    ema_decay=0.999,
    cpu_bfloat16=True,
    validate_every=1000,
    expected="30.2 dB on the validation clips, 32.3 on given frames",
)
