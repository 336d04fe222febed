"""Exact growing and pruning of any Keras 3 model.

    plan = net2net.widen(model, 1.5)     # or prune, deepen: what is to change
    print(plan)                          # every variable, and what stays as it is
    student = plan.apply()               # the new model, compared with the old one

What is not understood is kept whole and what it touches stays as it is; the plan says
so at its top. The words that the code uses, in the order in which a model meets them:

- *call*: one call of one primitive operation: a layer, or a raw ``keras.ops`` one.
  `tracing` lays a model out as a list of them, joined by *tensors*. A *source* is a
  call too: of a variable or constant that a raw operation uses directly.
- *region*: the calls that one composite layer was laid out as. It is *whole* if it may
  only come back as the layer it is. A layer that cannot be laid out is a *kept* call.
- *unit*: a filter, a head, a neuron: what is copied or left out. A *group* is a set of
  units that change the same way wherever they appear; a *layout* says which groups lie
  along one axis of a tensor or variable (`channels.layout`).
- *rule*: what one operation does to layouts (`rules`). It sees a *site*: one call with
  the layouts of its inputs. It says for every axis of a variable whether it *writes* or
  *reads* a layout: its *role*.
- *map*: for each unit of a changed group, which old unit it copies and its *share*, how
  much it counts (`channels.index_map`). A *plan* is a map per group, and insertions.
- *replay*: a call, made again in the new model (`rewriting`); a *player* is a rule's
  own way of doing so. To *remake* a region is to rebuild its layer by its own class.
"""

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
from keras_megan.net2net.pruning.gradually import prune_gradually
from keras_megan.net2net.pruning.group_lasso import GroupLasso
from keras_megan.net2net.pruning.importances.from_data import (
    ActivationDensity,
    HessianDiagonal,
    Taylor,
)
from keras_megan.net2net.pruning.importances.from_weights import (
    LAMP,
    BatchNormScale,
    FilterNorm,
    GroupNorm,
    RandomImportance,
)
from keras_megan.net2net.pruning.importances.importance import (
    IMPORTANCES,
    Importance,
    register_importance,
)
from keras_megan.net2net.pruning.latency import latency_table, measure_latency
from keras_megan.net2net.pruning.prune import prune
from keras_megan.net2net.pruning.recalibrate import recalibrate
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
