"""Convolutions in bfloat16 on CPUs that compute it.

Server CPUs with AVX512-BF16 or AMX multiply bfloat16 numbers at twice the rate of
float32 and more, and add them up in float32. TensorFlow's graph optimizer can rewrite a
traced function so that its convolutions and matrix products do this while weights and
optimizer stay float32; no loss scaling is needed. Left alone it takes sums, products
and roots along too, down to the loss: displacements then lose their fractions, and a
motion field trained so diverged. Those stay float32 here.

What is called under `bfloat16_convolutions` is rewritten, so the training step is and
the validation is not.
"""

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf

_OPTION = "auto_mixed_precision_onednn_bfloat16"
_KEEP_FLOAT32 = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_INFERLIST_REMOVE"
_ARITHMETIC = (
    "Add AddN AddV2 AccumulateNV2 Sub Mul Div RealDiv Inv Reciprocal Neg Maximum "
    "Minimum Square SquaredDifference Sqrt SqrtGrad Rsqrt RsqrtGrad Sigmoid "
    "SigmoidGrad Tanh Sum Mean Softmax"
).split()


@contextlib.contextmanager
def bfloat16_convolutions(wanted: bool = True) -> Iterator[None]:
    """Functions called inside convolve in bfloat16, where the CPU can."""
    if wanted:
        os.environ[_KEEP_FLOAT32] = ",".join(_ARITHMETIC)
    options = tf.config.optimizer
    before = options.get_experimental_options().get(_OPTION, False)
    options.set_experimental_options({_OPTION: wanted})
    try:
        yield
    finally:
        options.set_experimental_options({_OPTION: before})
