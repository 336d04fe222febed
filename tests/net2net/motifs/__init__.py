"""Small models, one per motif that channels can pass through.

Every entry of `MOTIFS` is a function without arguments that returns a model. The
first layer before the motif is free to change, and so is what follows it, so that the
motif is in the middle of what a plan rewrites.
"""

from tests.net2net.motifs import (  # noqa: F401
    branches,
    convolutions,
    layouts,
    normalization,
    products,
    sequences,
    structures,
)
from tests.net2net.motifs.base import MOTIFS, head, through
from tests.net2net.motifs.structures import Scale

__all__ = ["MOTIFS", "Scale", "head", "through"]
