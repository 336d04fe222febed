"""Convolutions in bfloat16 on CPUs that compute it.

Server CPUs with AVX512-BF16 or AMX multiply bfloat16 numbers at twice the rate of
float32 and more, and add them up in float32. TensorFlow's graph optimizer can rewrite a
traced function so that its convolutions and matrix products do this while weights,
optimizer and everything delicate stay float32; no loss scaling is needed. What is
traced under `bfloat16_convolutions` is rewritten, so the training step is and the
validation is not.
"""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

_OPTION = "auto_mixed_precision_onednn_bfloat16"


@contextlib.contextmanager
def bfloat16_convolutions(wanted: bool = True) -> Iterator[None]:
    """Functions called inside convolve in bfloat16, where the CPU can."""
    options = tf.config.optimizer
    before = options.get_experimental_options().get(_OPTION, False)
    options.set_experimental_options({_OPTION: wanted})
    try:
        yield
    finally:
        options.set_experimental_options({_OPTION: before})
