"""megan_edge from scratch: the whole network and all data from the first step.

    all      crops of 128x128
    large    crops of 192x192, as in edge_cumulative.py

The counterpart of edge_cumulative.py: the same final network, data and loss, and about
the same wall time on 2 CPU cores, where its 2,000 steps of the half-wide network take
as long as 1,200 of the whole one. On a GPU give ``--steps 60000 --batch_size 16``.
"""

from keras_megan.megan import MEGAN
from training.data.sampling import SamplingSettings
from training.recipe import Recipe, Stage
from training.tasks.video import VideoTask


def build():
    """The network of the preset, with fresh weights."""
    return MEGAN.from_preset("megan_edge", load_weights=False)


def task(crop, motion_weight, final_motion_weight):
    """Crops of a size, and how much the photometric term weighs."""
    return VideoTask(
        validation_downscale="1",
        sampling=SamplingSettings(crop=crop),
        motion_weight=motion_weight,
        final_motion_weight=final_motion_weight,
    )


RECIPE = Recipe(
    name="edge_scratch",
    task=task(128, 1.0, 0.1),
    model=build,
    stages=(
        Stage("all", 5200, 1e-3, warmup_steps=200),
        Stage("large", 1000, 3e-4, task=task(192, 0.1, 0.05)),
    ),
    batch_size=8,
    ema_decay=0.999,
    cpu_bfloat16=True,
    validate_every=1000,
    expected="30.2 dB on the validation clips, 32.3 on given frames",
)
