"""Importances that look at the weights alone, and the one that looks at nothing."""

from typing import Any

import keras
import numpy as np

from keras_megan.net2net.channels.channel_graph import ChannelGraph
from keras_megan.net2net.channels.layout import Group
from keras_megan.net2net.channels.roles import AxisRole, Weight
from keras_megan.net2net.pruning.importances.importance import (
    Importance,
    ImportanceError,
    normalized,
    other_axes,
    register_importance,
    sum_per_unit,
    value_of,
)


@register_importance("filter_norm")
class FilterNorm(Importance):
    """The norm of the weights that write a unit (Li et al., arXiv:1608.08710).

    Args:
        order: 1 for the sum of absolute values, 2 for the Euclidean norm.
    """

    def __init__(self, order: int = 1):
        if order not in (1, 2):
            raise ImportanceError(f"order must be 1 or 2, received {order!r}.")
        self.order = order

    def of_weight(self, weight: Weight, axis: int, role: AxisRole) -> np.ndarray | None:
        if role.reads or len(weight.variable.shape) < 2:
            return None
        value = np.abs(value_of(weight.variable))
        others = other_axes(value, axis)
        if self.order == 1:
            return value.sum(axis=others)
        return np.sqrt(np.square(value).sum(axis=others))


@register_importance("group_norm")
class GroupNorm(Importance):
    """The Euclidean norm of everything that belongs to a unit.

    All weights that write the unit or read it count together, as they go together: the
    filters of every convolution of a residual stage, the normalisations' scales, and
    the kernel rows behind (Fang et al., arXiv:2301.12900). Divided by the mean of the
    group, so that groups of layers of different sizes can be compared.
    """

    def of_group(self, graph: ChannelGraph, group: Group) -> np.ndarray:
        return normalized(np.sqrt(squares_of_group(graph, group)))


@register_importance("lamp")
class LAMP(Importance):
    """A unit's squared group norm over that of all units at least as large.

    The layer-adaptive score of Lee et al. (arXiv:2010.07611), for units instead of
    single weights: the largest unit of every group has the score 1, so a global
    ranking never empties a layer.
    """

    def of_group(self, graph: ChannelGraph, group: Group) -> np.ndarray:
        squares = squares_of_group(graph, group)
        order = np.argsort(squares, kind="stable")
        at_least = np.cumsum(squares[order][::-1])[::-1]
        scores = np.zeros(group.size)
        scores[order] = squares[order] / np.where(at_least > 0, at_least, 1.0)
        return scores


@register_importance("batch_norm_scale")
class BatchNormScale(FilterNorm):
    """The size of batch normalisation's gamma (Liu et al., arXiv:1708.06519).

    Groups without a batch normalisation are scored by the filter norm.
    """

    def scores(self, graph: ChannelGraph) -> dict[Group, np.ndarray]:
        gammas = {
            id(follow.operation.gamma)
            for follow in graph.follows.values()
            if isinstance(follow.operation, keras.layers.BatchNormalization)
            and follow.operation.scale
        }
        result = {}
        for group in graph.groups:
            total = np.zeros(group.size)
            for weight, _, role in graph.members(group):
                if id(weight.variable) in gammas:
                    values = np.abs(value_of(weight.variable))
                    total += normalized(sum_per_unit(role.layout, group, values))
            has_scale = bool(total.any())
            result[group] = (
                normalized(total) if has_scale else self.of_group(graph, group)
            )
        return result


@register_importance("random")
class RandomImportance(Importance):
    """Random numbers, the baseline.

    Args:
        seed: Seed.
    """

    def __init__(self, seed: int = 0):
        self.seed = seed

    def scores(self, graph: ChannelGraph) -> dict[Group, np.ndarray]:
        random = np.random.default_rng(self.seed)
        return {group: random.random(group.size) for group in graph.groups}


def squares_of_group(graph: ChannelGraph, group: Group) -> np.ndarray:
    """Returns the sum of the squares of a unit's trainable weights, array (units,)."""
    total = np.zeros(group.size)
    for weight, axis, role in graph.members(group):
        if not is_parameter(weight.variable):
            continue
        squares = np.square(value_of(weight.variable))
        values = squares.sum(axis=other_axes(squares, axis))
        total += sum_per_unit(role.layout, group, values)
    return total


def is_parameter(variable: Any) -> bool:
    """Returns whether a variable is learned, and no running statistic or share.

    Kernels count where their layer is frozen, too; vectors only where they are trained.
    """
    return variable.trainable or len(variable.shape) > 1
