"""megan_edge, second part: its motion field, on pairs of given frames.

    motion   crops of 256x256, frames two apart; the small frame halfway between them,
             and the optical flow between the two

    python -m training.train --recipe training/recipes/edge_motion.py \
        --model runs/edge_stills/stage_0_stills/best.keras \
        --data SHARDS --validation VALIDATION --out runs/edge_motion

Large frames are never computed, so a step costs a tenth of one through the whole
network. The same field moves neighbours to new frames and to each other; training
continues with edge_neighbours.py.
"""

from training.recipes.finetune import build
from training.stages.recipe import Recipe, Stage
from training.tasks.between import BetweenTask

RECIPE = Recipe(
    name="edge_motion",
    task=BetweenTask(
        crop=256,
        gaps=((2, 1.0),),
        pixel_weight=0.0,
        motion_weight=1.0,
        flow_weight=0.02,
    ),
    model=build,
    stages=(
        Stage(
            "motion",
            3000,
            2e-4,
            warmup_steps=200,
            layers=("extract", "extract_0", "extract_1", "motion"),
        ),
    ),
    batch_size=8,
    optimizer="muon",
    clip_norm=None,
    ema_decay=0.998,
    cpu_bfloat16=True,
    validate_every=1000,
    expected="28.0 dB on the validation clips' new frames",
)
