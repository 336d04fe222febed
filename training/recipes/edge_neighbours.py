"""megan_edge, third part: given frames learn from their neighbours in the window.

    neighbours   crops of 192x192 of clips; all seven frames

    python -m training.train --recipe training/recipes/edge_neighbours.py \
        --model runs/edge_motion/stage_0_motion/best.keras \
        --data SHARDS --validation VALIDATION --out runs/edge_neighbours

The still network continues to learn, together with the fusions of neighbours in it;
the motion field stays as edge_motion.py left it.
"""

from training.data.sampling import SamplingSettings
from training.recipes.finetune import build
from training.stages.recipe import Recipe, Stage
from training.tasks.video import VideoTask

RECIPE = Recipe(
    name="edge_neighbours",
    task=VideoTask(
        sampling=SamplingSettings(crop=192),
        motion_weight=0.0,
        validation_downscale="1",
    ),
    model=build,
    stages=(Stage("neighbours", 4000, 3e-4, warmup_steps=200, layers=("still",)),),
    batch_size=2,
    optimizer="muon",
    clip_norm=None,
    ema_decay=0.998,
    cpu_bfloat16=True,
    validate_every=1000,
    expected="32.6 dB on the validation clips' given frames",
)
