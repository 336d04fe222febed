"""megan_edge, second part: motion and the correction of new frames.

    between   triples of frames 2, 4 and 6 apart, at every time between

    python -m training.train --recipe training/recipes/edge_between.py \
        --model runs/edge_stills/stage_0_stills/best.keras \
        --data SHARDS --validation VALIDATION --out runs/edge_between

The still network stays as edge_stills.py left it, so given frames do not change.
"""

from keras_megan.megan import MEGAN
from training.stages.recipe import Recipe, Stage
from training.tasks.between import BetweenTask


def build():
    """The network of the preset, with its weights."""
    return MEGAN.from_preset("megan_edge")


RECIPE = Recipe(
    name="edge_between",
    task=BetweenTask(),
    model=build,
    stages=(
        Stage(
            "between",
            3000,
            5e-4,
            layers=("extract", "extract_0", "extract_1", "motion", "between"),
        ),
    ),
    batch_size=8,
    ema_decay=0.998,
    cpu_bfloat16=True,
    validate_every=1000,
    expected="not reached yet: 800 steps made new frames 0.02 dB worse",
)
