"""Choosing: how many units of every group stay at a ratio, and which.

Units compete inside *pools* of groups, of which the lowest scores go:

- ``"local"``: every group is a pool of its own, so every layer loses the same share;
- ``"global"``: all groups are one pool, so weak layers lose more;
- ``"isomorphic"``: groups of the same structure form a pool: the inner convolutions of
  all residual blocks compete with one another, not with the stages' streams (Fang et
  al., arXiv:2407.04616).
"""

import collections
import math

import numpy as np


def _local(graph, groups):
    return [[group] for group in groups]


def _global(graph, groups):
    return [list(groups)]


def _isomorphic(graph, groups):
    """Groups whose variables belong to the same kinds of layers in the same roles."""
    owners = {
        id(weight): type(follow.operation).__name__
        for follow in graph.follows.values()
        for weight in follow.weights.values()
    }
    pools = collections.defaultdict(list)
    for group in groups:
        signature = collections.Counter(
            (owners[id(weight)], axis, len(weight.variable.shape), role.reads)
            for weight, axis, role in graph.members(group)
        )
        pools[frozenset(signature.items())].append(group)
    return list(pools.values())


#: Name -> function (graph, groups) -> list of lists of groups.
SCOPES = {"local": _local, "global": _global, "isomorphic": _isomorphic}


class Chooser:
    """Chooses the units to keep for a ratio.

    Args:
        graph: The `ChannelGraph`.
        scores: Dict from `Group` to its scores.
        ratios: Dict from `Group` to a ratio of its own, 0 for a group that stays whole.
        round_to: Sizes are rounded to the nearest multiple of this.
        scope: A key of `SCOPES`.
        max_ratio: Largest share of its units that a group may lose to others.
    """

    def __init__(self, graph, scores, ratios, round_to, scope, max_ratio):
        self.graph = graph
        self.scores = scores
        self.ratios = ratios
        self.round_to = round_to
        self.max_ratio = max_ratio
        self.groups = [group for group in graph.groups if group not in ratios]
        self._pools = [p for p in SCOPES[scope](graph, self.groups) if p]

    def counts(self, ratio):
        """Dict from group to the number of units it keeps; whole ones are left out."""
        counts = {
            group: self.rounded(group, group.size * (1 - own))
            for group, own in self.ratios.items()
            if own > 0
        }
        for pool in self._pools:
            if len(pool) == 1:
                wanted = [pool[0].size * (1 - ratio)]
            else:
                wanted = self._shared_out(pool, ratio)
            for group, size in zip(pool, wanted, strict=True):
                counts[group] = self.rounded(group, size)
        return counts

    def kept(self, counts):
        """Dict from group to the units it keeps, ascending."""
        return {g: best_units(self.scores[g], n) for g, n in counts.items()}

    def rounded(self, group, wanted):
        """The size nearest to a wanted one: a multiple, or the size it has."""
        lower = math.floor(wanted / self.round_to) * self.round_to
        sizes = {group.size, lower, lower + self.round_to}
        allowed = [size for size in sizes if 1 <= size <= group.size]
        return min(allowed, key=lambda size: (abs(size - wanted), -size))

    def _shared_out(self, pool, ratio):
        """How many units of each group are among the best of the pool."""
        scores, floors = [], []
        for group in pool:
            values = self.scores[group].astype(np.float64)
            floor = max(1, math.ceil(group.size * (1 - self.max_ratio) - 1e-9))
            values[np.argsort(-values, kind="stable")[:floor]] = np.inf
            scores.append(values)
            floors.append(floor)
        pooled = np.concatenate(scores)
        owner = np.repeat(np.arange(len(pool)), [group.size for group in pool])
        best = np.argsort(pooled, kind="stable")[round(ratio * pooled.size) :]
        return np.maximum(np.bincount(owner[best], minlength=len(pool)), floors)


def best_units(scores, count):
    """Returns the indices of the `count` highest scores, in ascending order."""
    order = np.argsort(-scores, kind="stable")
    return np.sort(order[:count])
