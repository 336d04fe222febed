"""Exact growing and pruning of any Keras 3 model."""

from keras_megan.net2net.channels.channel_graph import ChannelGraph
from keras_megan.net2net.channels.index_map import IndexMap
from keras_megan.net2net.counting.macs import count_macs, count_params, register_macs
from keras_megan.net2net.deepen import deepen
from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.optimizer_state import transfer_optimizer
from keras_megan.net2net.plan import Plan
from keras_megan.net2net.pruning.blocks import (
    block_influence,
    remove_blocks,
    residual_blocks,
)
from keras_megan.net2net.pruning.data_importances import (
    ActivationDensity,
    HessianDiagonal,
    Taylor,
)
from keras_megan.net2net.pruning.gradually import prune_gradually
from keras_megan.net2net.pruning.group_lasso import GroupLasso
from keras_megan.net2net.pruning.importance import (
    IMPORTANCES,
    Importance,
    register_importance,
)
from keras_megan.net2net.pruning.latency import latency_table, measure_latency
from keras_megan.net2net.pruning.prune import prune
from keras_megan.net2net.pruning.recalibrate import recalibrate
from keras_megan.net2net.pruning.weight_importances import (
    LAMP,
    BatchNormScale,
    FilterNorm,
    GroupNorm,
    RandomImportance,
)
from keras_megan.net2net.rewriting.rewrite import register_model_rebuilder
from keras_megan.net2net.rules.all_rules import reads, register_rule, writes
from keras_megan.net2net.widen import widen

__all__ = [
    "IMPORTANCES",
    "LAMP",
    "ActivationDensity",
    "BatchNormScale",
    "ChannelGraph",
    "FilterNorm",
    "GroupLasso",
    "GroupNorm",
    "HessianDiagonal",
    "Importance",
    "IndexMap",
    "Net2NetError",
    "Plan",
    "RandomImportance",
    "Taylor",
    "block_influence",
    "count_macs",
    "count_params",
    "deepen",
    "latency_table",
    "measure_latency",
    "prune",
    "prune_gradually",
    "reads",
    "recalibrate",
    "register_importance",
    "register_macs",
    "register_model_rebuilder",
    "register_rule",
    "remove_blocks",
    "residual_blocks",
    "transfer_optimizer",
    "widen",
    "writes",
]
