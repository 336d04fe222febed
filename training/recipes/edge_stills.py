"""megan_edge, first part: the still network alone, on photographs and single frames.

    stills   crops of 192x192, Charbonnier, at the end the squared error

    python -m training.prepare --videos CLIPS --photos PHOTOS --out SHARDS
    python -m training.train --recipe training/recipes/edge_stills.py \
        --data SHARDS --validation VALIDATION --out runs/edge_stills

The rest of the network is untouched; training continues with edge_motion.py. A network
that has the motion field of an earlier megan_edge makes good new frames at once: give
it with ``--model``.
"""

from keras_megan.megan import MEGAN
from training.stages.recipe import Recipe, Stage
from training.tasks.stills import StillTask


def build():
    """The network of the preset, with fresh weights."""
    return MEGAN.from_preset("megan_edge", load_weights=False)


RECIPE = Recipe(
    name="edge_stills",
    task=StillTask(),
    model=build,
    stages=(Stage("stills", 8000, 1e-3, warmup_steps=200, layers=("still",)),),
    batch_size=8,
    optimizer="muon",
    clip_norm=None,
    ema_decay=0.999,
    cpu_bfloat16=True,
    validate_every=1000,
    expected="32.5 dB on the validation clips' given frames",
)
