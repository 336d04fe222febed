"""TFLite float32 -> int8, by ai-edge-quantizer.

    dynamic_int8   weights in int8, one scale per output channel; activations are
                   measured and quantized while running. No calibration.
    int8           weights and activations of convolutions in int8 with scales from
                   calibration footage: what processors without float units want.

Only operations with int8 kernels are touched; what moves pixels (displacements, masks,
the skip connection) stays float32, since a displacement in 256 steps would shake.
"""

import contextlib
import io
import warnings
from collections.abc import Iterable

import numpy as np

from export.trace import INPUT

SIGNATURE = "serving_default"


def dynamic_int8(flatbuffer: bytes) -> bytes:
    """int8 weights; activations quantized on the fly."""
    return _quantize(flatbuffer, "dynamic_wi8_afp32", None)


def static_int8(flatbuffer: bytes, calibration: Iterable[np.ndarray]) -> bytes:
    """int8 weights and activations.

    Args:
        flatbuffer: float32, with a signature.
        calibration: Inputs like those it will see; a dozen is plenty.
    """
    return _quantize(
        flatbuffer, "static_wi8_ai8", [{INPUT: tensor} for tensor in calibration]
    )


def _quantize(flatbuffer: bytes, recipe_name: str, calibration) -> bytes:
    # It takes seconds to load and is wanted by few.
    from ai_edge_quantizer import quantizer, recipe

    tool = quantizer.Quantizer(flatbuffer)
    tool.load_quantization_recipe(getattr(recipe, recipe_name)())
    result = None
    # It prints tables and progress, and warns of its own way of looking inside.
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if calibration is not None:
            result = tool.calibrate({SIGNATURE: calibration}, num_threads=2)
        quantized = tool.quantize(
            result, enable_progress_bar=False, enable_progress_report=False
        )
    return bytes(quantized.quantized_model)
