"""Concrete function -> TFLite flatbuffer. The only file that knows the converter.

TensorFlow announces that ``tf.lite`` will leave its package; whatever follows it only
has to give `convert`. Built-in operations alone: a flex operation would need all of
TensorFlow on the device.

The converter is given a SavedModel with one signature, because the quantizer that comes
after it finds inputs by their signature's names.
"""

import re
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

from export.errors import ExportError


def convert(
    function: tf.types.experimental.ConcreteFunction,
    model: keras.Model,
    half: bool = False,
    sparse: bool = False,
) -> bytes:
    """Converts a traced network.

    Args:
        function: From `trace`.
        model: Owner of its weights.
        half: Weights in float16; half the size, computed in float32 or, on GPUs, in
            float16.
        sparse: Weights that are zero are left out where the runtime has sparse kernels
            for them, and the file gets smaller.

    Returns:
        The flatbuffer.

    Raises:
        ExportError: If an operation has no built-in counterpart.
    """
    module = tf.Module()
    module.kept = [variable.value for variable in model.variables]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "traced")
        tf.saved_model.save(module, path, signatures=function)
        converter = tf.lite.TFLiteConverter.from_saved_model(path)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if half:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        elif sparse:
            converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        try:
            return converter.convert()
        except Exception as error:  # the converter has no exception of its own
            raise ExportError(_explain(error)) from error


def _explain(error: Exception) -> str:
    text = str(error)
    refused = re.findall(r"(?:Flex|custom) ops?: ([\w, ]+)", text)
    refused += re.findall(r"'(tf\.\w+)' op is neither a custom op nor a flex op", text)
    if refused:
        names = ", ".join(sorted(set(refused)))
        return (
            f"Cannot convert: {names} has no built-in TFLite operation. Replace the "
            "layer that uses it, or export a SavedModel."
        )
    return f"Cannot convert: {' '.join(text.split())[:400]}"
