"""megan_mobile with 2:4 sparsity: at most 2 of every 4 inputs of a kernel are used.

    warm       the trained megan_mobile, a few steps at a low rate: the reference
    sparse     the smaller half of the weights to zero early on, the rest trained

Sparse tensor cores compute this pattern at twice the rate; elsewhere it halves the
storage of the weights. Shapes stay as they are, so the result is a megan_mobile like
any other. The first and the last convolution, next to the pixels, stay dense.
``stages.json`` holds the scores before and after. Needs the trained weights of the
preset megan_mobile.
"""

from training.recipes.finetune import TASK
from training.recipes.nano import build
from training.stages.recipe import Recipe, Stage
from training.stages.sparsity import Sparsity

RECIPE = Recipe(
    name="mobile_sparse",
    task=TASK,
    model=build,
    stages=(
        Stage("warm", 100, 1e-4),
        Stage(
            "sparse",
            1500,
            5e-4,
            sparsity=Sparsity(
                pattern="2:4", end=0.2, leave=("extract", "reconstruct/to_pixels")
            ),
        ),
    ),
    batch_size=8,
    ema_decay=0.998,
    cpu_bfloat16=True,
    validate_every=1000,
    expected="within 0.3 dB of megan_mobile with half of its kernels' weights zero",
)
