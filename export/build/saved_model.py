"""Keras model -> SavedModel: for TensorFlow Serving and any TensorFlow program.

One signature, ``serving_default``: ``frames`` -> ``output``, float32 RGB from 0 to 1,
any number of clips of any height and width. It loads with `tf.saved_model.load` where
this package and Keras are not installed:

    served = tf.saved_model.load(folder).signatures["serving_default"]
    large = served(frames=small)["output"]
"""

from pathlib import Path

import keras
import tensorflow as tf

from export.build.trace import INPUT, OUTPUT
from keras_megan.files import appearing


def write_saved_model(model: keras.Model, folder: Path) -> None:
    """Writes the SavedModel; the folder appears complete or not at all.

    Args:
        model: With one input and one output. Sizes it leaves open stay open. A MEGAN
            that knows other times than halfway has them as a second endpoint,
            ``at_times``, of frames and times.
        folder: Is replaced if it exists.
    """
    signature = [tf.TensorSpec(tuple(model.input_shape), tf.float32, name=INPUT)]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve", lambda frames: {OUTPUT: model(frames, training=False)}, signature
    )
    if (getattr(model, "config", None) or {}).get("still_blocks"):
        timed = model.at_times
        times = tf.TensorSpec((None, model.num_frames - 1), tf.float32, name="times")
        archive.add_endpoint(
            "at_times",
            lambda frames, times: {OUTPUT: timed([frames, times], training=False)},
            [*signature, times],
        )
    with appearing(folder) as aside:
        archive.write_out(str(aside), verbose=False)
