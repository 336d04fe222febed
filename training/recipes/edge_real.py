"""megan_edge_real: megan_edge for footage that was compressed, noisy or sharpened.

    real     crops of 192x192 of clips; the given small frames are reduced by several
             kernels, blurred or sharpened, get noise, and go through a video codec

    python -m training.train --recipe training/recipes/edge_real.py \
        --data SHARDS --validation VALIDATION --out runs/edge_real

Only the still network and its fusions of neighbours learn: the motion field looks at
structure that survives compression. One sample in seven comes clean.
"""

from keras_megan.megan import MEGAN
from training.data.degradations import Degradation
from training.data.sampling import SamplingSettings
from training.stages.recipe import Recipe, Stage
from training.tasks.video import VideoTask


def build():
    """The network of the preset, with its weights."""
    return MEGAN.from_preset("megan_edge")


RECIPE = Recipe(
    name="edge_real",
    task=VideoTask(
        sampling=SamplingSettings(
            crop=192,
            strides=((1, 0.6), (2, 0.4)),
            reductions=(("bicubic", 4), ("box", 2), ("bilinear", 1), ("lanczos3", 1)),
            degradations=(
                Degradation("blur", 0.3, 0.8, 0.2),
                Degradation("sharpening", 0.2, 0.8, 0.15),
                Degradation("noise", 1.0, 8.0, 0.3),
                Degradation("codec", 0.0, 0.9, 0.8),
            ),
        ),
        motion_weight=0.0,
        validation_downscale="1",
        validation_codec="h264:28",
    ),
    model=build,
    stages=(Stage("real", 4000, 5e-4, warmup_steps=200, layers=("still",)),),
    batch_size=2,
    optimizer="muon",
    clip_norm=None,
    ema_decay=0.998,
    cpu_bfloat16=True,
    validate_every=1000,
    expected="more than megan_edge on validation clips compressed by H.264",
)
