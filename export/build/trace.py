"""A network as a graph of fixed size with four axes, for one device.

    subject, height, width -> concrete function: (T, H, W, 3) -> (2T-1, sH, sW, 3)

Inside, time is folded into the batch, so with one clip nothing has more than four axes;
the clip's own axis appears only in reshapes that converters remove. A graph for mobile
GPUs is traced under `mobile_operations`: the layers then use only what those GPUs
compute rightly. With ``uint8`` both ends hold bytes, as cameras and screens do.
"""

import tensorflow as tf

from export.errors import ExportError
from export.build.subjects import Subject
from keras_megan.layers.mobile_operations import mobile_operations

#: Name of the only input and the only output of every artefact.
INPUT, OUTPUT = "frames", "output"


def trace(
    subject: Subject,
    height: int,
    width: int,
    mobile: bool = False,
    uint8: bool = False,
) -> tf.types.experimental.ConcreteFunction:
    """Traces the network for one size.

    Args:
        subject: The network.
        height, width: Size of the input in pixels.
        mobile: For a mobile GPU.
        uint8: Bytes at both ends, 0 to 255, instead of float32.

    Raises:
        ExportError: If the network cannot take that size.
    """
    shape = subject.tensor_shape(height, width)
    if min(shape) < 1:
        raise ExportError(f"Height and width must be positive; got {height}x{width}.")

    def forward(frames):
        output = subject.forward(_from_bytes(frames) if uint8 else frames)
        return {OUTPUT: _to_bytes(output) if uint8 else output}

    dtype = tf.uint8 if uint8 else tf.float32
    function = tf.function(
        forward, input_signature=[tf.TensorSpec(shape, dtype, name=INPUT)]
    )
    try:
        with mobile_operations(mobile):
            return function.get_concrete_function()
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        # Errors of traced code begin with its source; what was said comes last.
        text = str(error).rsplit("ValueError: ", 1)[-1]
        text = " ".join(text.split("Arguments received by")[0].split())
        raise ExportError(
            f"{subject.name} cannot take {width}x{height}: {text[:300]}"
        ) from error


def _from_bytes(frames):
    return tf.cast(frames, tf.float32) * (1.0 / 255.0)


def _to_bytes(output):
    return tf.cast(tf.round(tf.clip_by_value(output, 0.0, 1.0) * 255.0), tf.uint8)
