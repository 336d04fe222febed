"""Measurements anyone can repeat; run from a checkout, `python -m benchmarks.NAME`.

TensorFlow's start-up messages are left out; ``TF_CPP_MIN_LOG_LEVEL=0`` shows them.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_megan  # noqa: F401  so that Keras loads without messages, when it does
