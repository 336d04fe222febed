"""Brings every rule and count of Keras's own operations into the registries."""

import importlib

from keras_megan.net2net.rules.base import reads, register_rule, writes

_MODULES = (
    "attention",
    "conv",
    "dense",
    "elementwise",
    "normalization",
    "recurrent",
    "reduction",
    "repetition",
    "shape",
    "slicing",
    "softmax",
    "spatial",
)
for _module in _MODULES:
    importlib.import_module(f"keras_megan.net2net.rules.{_module}")
importlib.import_module("keras_megan.net2net.counting.operations")

__all__ = ["reads", "register_rule", "writes"]
