"""Exact growing and pruning of any Keras 3 model."""

from keras_megan.net2net.channels.channel_graph import ChannelGraph
from keras_megan.net2net.channels.index_map import IndexMap
from keras_megan.net2net.counting.macs import count_macs, count_params, register_macs
from keras_megan.net2net.deepen import deepen
from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.importance import (
    ActivationDensity,
    BatchNormScale,
    FilterNorm,
    Importance,
    RandomImportance,
    Taylor,
)
from keras_megan.net2net.optimizer_state import transfer_optimizer
from keras_megan.net2net.plan import Plan
from keras_megan.net2net.prune import prune
from keras_megan.net2net.rewriting.rewrite import register_model_rebuilder
from keras_megan.net2net.rules.all_rules import reads, register_rule, writes
from keras_megan.net2net.widen import widen

__all__ = [
    "ActivationDensity",
    "BatchNormScale",
    "ChannelGraph",
    "FilterNorm",
    "Importance",
    "IndexMap",
    "Net2NetError",
    "Plan",
    "RandomImportance",
    "Taylor",
    "count_macs",
    "count_params",
    "deepen",
    "prune",
    "reads",
    "register_macs",
    "register_model_rebuilder",
    "register_rule",
    "transfer_optimizer",
    "widen",
    "writes",
]
