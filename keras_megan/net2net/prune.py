"""Structured pruning: leave out the units that matter least, everywhere at once.

A pruned unit is really gone: the filters that wrote it, its batch-normalisation
entries, and the kernel rows that read it. Where no operation mixes channels, the pruned
model computes what the original does with those channels masked to zero; where one does
(layer normalisation), the plan says so in its notes.

How much goes is given by a ratio of every group, by the widths of layers, or as a
budget of parameters or multiply-adds, for which the ratio is found by bisection.
"""

import math
import numbers

import numpy as np

from keras_megan.net2net.channels.channel_graph import ChannelGraph, parameters_under
from keras_megan.net2net.channels.index_map import IndexMap
from keras_megan.net2net.counting.under_plan import macs_under
from keras_megan.net2net.importance import FilterNorm, Importance, ImportanceError
from keras_megan.net2net.plan import Plan, PlanError, as_graph
from keras_megan.net2net.widen import wanted_sizes

_STEPS = 40


def prune(
    model,
    ratio=None,
    importance=None,
    round_to=1,
    widths=None,
    parameters=None,
    macs=None,
    input_shape=None,
    scope="layer",
    keep=(),
):
    """Plans a narrower model.

    Args:
        model: A built Keras model (or its `ChannelGraph`).
        ratio: Share of the units to leave out, above 0 and below 1; or a dict from a
            layer's name to its new width (as `widths`); or ``"density"``: every group
            keeps the share of its units that is active on average, which needs an
            `ActivationDensity` importance (the rule of arXiv:2002.02949).
        importance: An `Importance`, or a dict from group or layer names to arrays; the
            smallest go first. By default `FilterNorm()`.
        round_to: New sizes are rounded up to a multiple of this, where that is not more
            than the old size.
        widths: Dict from a layer's name to its new width.
        parameters: Instead: largest number of parameters.
        macs: Instead: largest number of multiply-adds of one sample.
        input_shape: For `macs`: shape without the batch axis, where the model leaves
            sizes open.
        scope: ``"layer"``: the ratio holds for every group; ``"global"``: units of all
            groups compete, every group keeps at least one.
        keep: Names of layers that must not change.

    Returns:
        A `Plan`. No group goes below one unit.

    Raises:
        PlanError: If a target makes no sense or cannot be reached.
        ImportanceError: If scores have the wrong shape.
    """
    if isinstance(ratio, dict):
        ratio, widths = None, ratio
    given = [name for name, value in _targets(ratio, widths, parameters, macs) if value]
    if len(given) != 1:
        raise PlanError(
            "Give exactly one of ratio, widths, parameters and macs, received "
            f"{given or 'none'}."
        )
    if scope not in ("layer", "global"):
        raise PlanError(f"scope must be 'layer' or 'global', received {scope!r}.")
    if not isinstance(round_to, numbers.Integral) or round_to < 1:
        raise PlanError(f"round_to must be a positive integer, received {round_to!r}.")
    graph = as_graph(model)
    scores = _scores(graph, importance or FilterNorm())
    spared = {group for name in keep for group in graph.width(name).groups}
    choose = _Chooser(graph, scores, spared, int(round_to), scope)
    if widths is not None:
        kept = _by_widths(graph, scores, widths)
        summary = "prune " + ", ".join(f"{k} to {v}" for k, v in widths.items())
    elif ratio == "density":
        kept = _by_density(choose, importance)
        summary = "prune to the density of the activations"
    elif ratio is not None:
        kept = choose(_checked_ratio(ratio))
        summary = f"prune {ratio:.0%} of the units ({scope})"
    else:
        kept, summary = _by_budget(choose, parameters, macs, input_shape)
    maps = {g: IndexMap.keep(g.size, units) for g, units in kept.items()}
    return Plan(graph, maps, summary=summary)


def _targets(ratio, widths, parameters, macs):
    values = {"ratio": ratio, "widths": widths, "parameters": parameters, "macs": macs}
    return [(name, value is not None) for name, value in values.items()]


def _checked_ratio(ratio):
    if not isinstance(ratio, numbers.Real) or not 0 < ratio < 1:
        raise PlanError(f"ratio must lie between 0 and 1, received {ratio!r}.")
    return float(ratio)


def _scores(graph, importance):
    if isinstance(importance, Importance):
        given = importance.scores(graph)
    elif isinstance(importance, dict):
        given = _named_scores(graph, importance)
    else:
        raise ImportanceError(
            "importance must be an Importance or a dict of arrays, received "
            f"{type(importance).__name__}."
        )
    result = {}
    for group in graph.groups:
        values = np.asarray(given.get(group, np.ones(group.size)), dtype=np.float64)
        if values.shape != (group.size,):
            raise ImportanceError(
                f"The importance of '{group.name}' must have shape ({group.size},), "
                f"received {values.shape}."
            )
        if not np.all(np.isfinite(values)):
            raise ImportanceError(
                f"The importance of '{group.name}' is not a finite number everywhere."
            )
        result[group] = values
    return result


def _named_scores(graph, named):
    by_name = {group.name: group for group in graph.groups}
    result = {}
    for name, values in named.items():
        if name in by_name:
            result[by_name[name]] = values
            continue
        groups = graph.width(name).groups
        if len(groups) != 1:
            raise ImportanceError(
                f"'{name}' is made of several groups of channels; give scores for "
                f"{[group.name for group in groups]}."
            )
        result[groups[0]] = values
    return result


class _Chooser:
    """Chooses the units to keep for a ratio."""

    def __init__(self, graph, scores, spared, round_to, scope):
        self.graph = graph
        self.scores = scores
        self.round_to = round_to
        self.scope = scope
        self.groups = [group for group in graph.groups if group not in spared]

    def __call__(self, ratio):
        counts = self.counts(ratio)
        return {g: best_units(self.scores[g], counts[g]) for g in self.groups}

    def counts(self, ratio):
        """Dict from group to the number of units it keeps."""
        if self.scope == "layer":
            wanted = {g: g.size * (1 - ratio) for g in self.groups}
        else:
            pooled = np.concatenate([self.scores[g] for g in self.groups])
            sizes = [g.size for g in self.groups]
            owner = np.repeat(np.arange(len(sizes)), sizes)
            best = np.argsort(pooled, kind="stable")[int(ratio * pooled.size) :]
            counts = np.bincount(owner[best], minlength=len(sizes))
            wanted = dict(zip(self.groups, counts, strict=True))
        return {g: self.rounded(g, wanted[g]) for g in self.groups}

    def rounded(self, group, wanted):
        """A group's new size: rounded, at least one, at most the old size."""
        count = max(1, round(float(wanted)))
        count = math.ceil(count / self.round_to) * self.round_to
        return min(group.size, count)


def best_units(scores, count):
    """Returns the indices of the `count` highest scores, in ascending order."""
    order = np.argsort(-scores, kind="stable")
    return np.sort(order[:count])


def _by_widths(graph, scores, widths):
    kept = {}
    for group, size in wanted_sizes(graph, widths).items():
        if size > group.size:
            raise PlanError(
                f"'{group.name}' has {group.size} units; pruning cannot make it "
                f"{size}. Use widen."
            )
        kept[group] = best_units(scores[group], size)
    return kept


def _by_density(choose, importance):
    if not hasattr(importance, "densities"):
        raise PlanError("ratio='density' needs an ActivationDensity importance.")
    densities = importance.densities(choose.graph)
    kept = {}
    for group in choose.groups:
        if group in densities:
            wanted = group.size * float(np.mean(densities[group]))
            count = choose.rounded(group, wanted)
            kept[group] = best_units(choose.scores[group], count)
    return kept


def _by_budget(choose, parameters, macs, input_shape):
    if parameters is not None:
        target, what = parameters, "parameters"

        def cost(counts):
            return parameters_under(choose.graph, counts)

    else:
        target, what = macs, "multiply-adds"
        counting = ChannelGraph(choose.graph.model, input_shape, count=True)
        names = {group.name: group for group in counting.groups}

        def cost(counts):
            return macs_under(counting, {names[g.name]: n for g, n in counts.items()})

    if not isinstance(target, numbers.Real) or target <= 0:
        raise PlanError(f"The number of {what} must be positive, received {target!r}.")
    low, high = 0.0, 1.0
    smallest = cost(choose.counts(1.0))
    if smallest > target:
        raise PlanError(
            f"{target:,.0f} {what} cannot be reached: with the fewest units possible "
            f"the model has {smallest:,}."
        )
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if cost(choose.counts(middle)) <= target:
            high = middle
        else:
            low = middle
    return choose(high), f"prune to {target:,.0f} {what} (ratio {high:.3f})"
