"""Brings every rule of Keras's own operations into the registry."""

import importlib

from keras_megan.net2net.rules import reads, register_rule, writes

_MODULES = (
    "attention",
    "conv",
    "dense",
    "elementwise",
    "normalization",
    "recurrent",
    "reduction",
    "shape",
    "spatial",
)
for _module in _MODULES:
    importlib.import_module(f"keras_megan.net2net.rules_{_module}")

__all__ = ["reads", "register_rule", "writes"]
