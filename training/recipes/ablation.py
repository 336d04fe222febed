"""What the parts of the first paper earn: trunks of equal cost on one still network.

    python -m training.train --recipe training/recipes/ablation.py:whole \
        --data SHARDS --validation VALIDATION --out runs/ablation_whole

Every network starts as megan_edge, exactly, and gets a trunk over the features of all
seven frames, which learns what megan_edge misses; nothing else learns. Where a part is
left out, residual blocks after the fusion take its multiply-adds.

    whole          memory of all frames (LMGA, "bank"), non-local block, two fusions
    intra          the same, but the memory sees one frame at a time
    recurrent      the same, but the memory goes from frame to frame
    no_memory      without LMGA
    no_non_local   without the non-local block
    no_fusion      without progressive fusion: frames do not see each other there
    fusion_alone   without LMGA and without the non-local block
"""

from typing import Any

import keras

from keras_megan.megan import MEGAN
from training.data.sampling import SamplingSettings
from training.stages.recipe import Recipe, Stage
from training.tasks.video import VideoTask

WHOLE = {
    "memory": "bank",
    "descriptor_size": 8,
    "non_local_blocks": 1,
    "fusion_blocks": 2,
    "reconstruction_blocks": 1,
}
#: Name -> what differs from the whole trunk, at nearly the same cost.
VARIANTS: dict[str, dict[str, Any]] = {
    "whole": {},
    "intra": {"memory": "intra"},
    "recurrent": {"memory": "recurrent"},
    "no_memory": {"memory": None, "reconstruction_blocks": 2},
    "no_non_local": {"non_local_blocks": 0, "reconstruction_blocks": 2},
    "no_fusion": {"fusion_blocks": 0, "reconstruction_blocks": 3},
    "fusion_alone": {
        "memory": None,
        "non_local_blocks": 0,
        "reconstruction_blocks": 3,
    },
}


def network(**changes: Any) -> MEGAN:
    """megan_edge with a trunk that adds nothing yet."""
    keras.utils.set_random_seed(0)
    trained = MEGAN.from_preset("megan_edge")
    whole = {**trained.get_config(), **WHOLE, **changes, "name": "megan_with_trunk"}
    made = MEGAN.from_config(whole)
    known = {variable.path: variable for variable in trained.variables}
    for variable in made.variables:
        if variable.path in known:
            variable.assign(known[variable.path])
    return made


def _recipe(name: str, changes: dict[str, Any]) -> Recipe:
    def build():
        return network(**changes)

    parts = {**WHOLE, **changes}
    fusions = [f"fusion_{i}" for i in range(parts["fusion_blocks"])]
    layers = ["memory"] * bool(parts["memory"]) + ["reconstruct", *fusions]
    layers += ["non_local_0"] * parts["non_local_blocks"]
    return Recipe(
        name=f"ablation_{name}",
        task=VideoTask(sampling=SamplingSettings(crop=128), validation_downscale="1"),
        model=build,
        stages=(Stage("trunk", 600, 5e-4, warmup_steps=100, layers=tuple(layers)),),
        batch_size=4,
        optimizer="muon",
        clip_norm=None,
        ema_decay=0.998,
        cpu_bfloat16=True,
        validate_every=300,
        expected="a little more than megan_edge",
    )


RECIPES = {name: _recipe(name, changes) for name, changes in VARIANTS.items()}
