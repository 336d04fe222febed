"""TFLite float32 -> int8, by ai-edge-quantizer.

    dynamic_int8   weights in int8, one scale per output channel; activations are
                   measured and quantized while running. No calibration.
    static_int8    activations too, with scales from calibration footage: what
                   processors without float units want.

Some layers must stay float32: a displacement in 256 steps would shake. A `Subject`
names them. Where it names any, only convolutions are calibrated and what lies between
them, sampling and blending, stays float32 as well; otherwise all operations are.
"""

import contextlib
import io
import warnings
from collections.abc import Iterable

import numpy as np

from export.build.trace import INPUT

SIGNATURE = "serving_default"
#: Least range of a calibrated activation. What is always 0 on the footage, as behind a
#: layer that has died in training, would get a step so small that XNNPACK refuses the
#: file: it multiplies by less than 256 from one layer's steps to the next one's.
LEAST_RANGE = 0.01


def dynamic_int8(flatbuffer: bytes, keep: tuple[str, ...] = ()) -> bytes:
    """int8 weights; activations quantized on the fly.

    Args:
        flatbuffer: float32, with a signature and its tensors' names.
        keep: Parts of the names of layers that stay float32.
    """
    return _quantize(flatbuffer, "dynamic_wi8_afp32", "*", keep, None)


def static_int8(
    flatbuffer: bytes, calibration: Iterable[np.ndarray], keep: tuple[str, ...] = ()
) -> bytes:
    """int8 weights and activations.

    Args:
        flatbuffer: See `dynamic_int8`.
        calibration: Inputs like those it will see; a dozen is plenty.
        keep: See `dynamic_int8`.
    """
    samples = [{INPUT: tensor} for tensor in calibration]
    operations = "CONV_2D" if keep else "*"
    return _quantize(flatbuffer, "static_wi8_ai8", operations, keep, samples)


def widen(ranges: dict[str, dict[str, np.ndarray]]) -> None:
    """Gives every calibrated activation a range of at least `LEAST_RANGE`.

    Args:
        ranges: Name of a tensor -> its "min" and "max"; changed in place.
    """
    for values in ranges.values():
        if "min" in values and np.size(values["max"]) == 1:  # weights have many
            least = values["min"] + np.float32(LEAST_RANGE)
            values["max"] = np.maximum(values["max"], least)


def _quantize(flatbuffer, recipe_name, operations, keep, calibration) -> bytes:
    # It takes seconds to load and is wanted by few.
    from ai_edge_quantizer import quantizer, recipe

    entries = getattr(recipe, recipe_name)()
    for entry in entries:
        entry["operation"] = operations
        if keep:
            entry["regex"] = f"^(?!.*({'|'.join(keep)})).*"
    # Both ends stay as the device feeds and reads them.
    entries += [
        {"regex": ".*", "operation": end, "algorithm_key": "no_quantize"}
        for end in ("INPUT", "OUTPUT")
    ]
    tool = quantizer.Quantizer(flatbuffer)
    tool.load_quantization_recipe(entries)
    result = None
    # It prints tables and progress, and warns of its own way of looking inside.
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if calibration is not None:
            result = tool.calibrate({SIGNATURE: calibration}, num_threads=2)
            widen(result)
        quantized = tool.quantize(
            result, enable_progress_bar=False, enable_progress_report=False
        )
    return bytes(quantized.quantized_model)
