"""Structured pruning: leave out the units that matter least, everywhere at once.

A pruned unit is really gone: the filters that wrote it, its batch-normalisation
entries, and the kernel rows that read it. Where no operation mixes channels, the pruned
model computes what the original does with those channels masked to zero; where one does
(layer normalisation), the plan says so in its notes.

How much goes is given by a ratio, by the widths or ratios of layers, or as a budget of
parameters, multiply-adds or measured seconds.
"""

import numbers
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_megan.net2net.channels.index_map import IndexMap
from keras_megan.net2net.plan import Plan, PlanError, as_graph
from keras_megan.net2net.pruning.budgets import BUDGETS, counts_within
from keras_megan.net2net.pruning.choosing import SCOPES, Chooser
from keras_megan.net2net.pruning.importances.from_weights import GroupNorm
from keras_megan.net2net.pruning.importances.importance import (
    Importance,
    checked_scores,
)
from keras_megan.net2net.pruning.selecting import groups_of, label_of
from keras_megan.net2net.widths import spread_width


def prune(
    model: Any,
    ratio: float | dict | str | None = None,
    *,
    importance: str | Importance | dict | None = None,
    scope: str = "global",
    keep: Any = (),
    ratios: dict | None = None,
    max_ratio: float = 0.9,
    round_to: int = 1,
    widths: dict | None = None,
    parameters: float | None = None,
    macs: float | None = None,
    latency: float | None = None,
    input_shape: Any = None,
    measure: Callable[[keras.Model], float] | None = None,
    strict: bool = False,
    keep_class: bool = False,
) -> Plan:
    """Plans a narrower model.

    Exactly one of `ratio`, `widths`, `parameters`, `macs` and `latency` says how much
    goes; `ratios` may stand beside it, or alone.

    Args:
        model: A built Keras model, its `ChannelGraph`, or the path of a saved model.
        ratio: Share of the units to leave out, above 0 and below 1. Or a dict from a
            layer to its new width, an integer, or to the share it loses, a fraction.
            Or ``"density"``: every group keeps the share of its units that is active on
            average, which needs an `ActivationDensity` importance (arXiv:2002.02949).
        importance: What the units are worth; the smallest go first. The name of one of
            `net2net.IMPORTANCES`, an `Importance`, or a dict from layers to arrays of
            scores, other layers being scored as by default: `GroupNorm()`.
        scope: ``"global"``: units of all groups compete. ``"local"``: every group
            loses the same share. ``"isomorphic"``: groups of the same structure
            compete.
        keep: Layers that must not change: a name, path, pattern, `keras.Layer`, class
            of layers, or a list of them.
        ratios: Dict from layers, selected as for `keep`, to shares of their own; 0
            keeps a layer.
        max_ratio: Largest share that a group loses where groups compete.
        round_to: New sizes are multiples of this, the nearest.
        widths: Dict from a layer to its new width.
        parameters: Largest number of parameters.
        macs: Largest number of multiply-adds of one sample.
        latency: Largest number of seconds that one batch of one sample takes.
        input_shape: For `macs` and `latency`: shape without the batch axis, where the
            model leaves sizes open.
        measure: For `latency`: function from a model to seconds, such as one that runs
            it on a phone; by default `net2net.measure_latency`.
        strict: Whether to raise an error where an operation has no rule or a layer
            cannot be laid out, instead of keeping it as it is.
        keep_class: Whether the new model must be of the original's class: only widths
            that the class's configuration has change, and layers that it gives one
            number change alike. For methods such as ``generate``.

    Returns:
        A `Plan`. No group goes below one unit. Where nothing changes, a warning says
        why.

    Raises:
        PlanError: If a target makes no sense or cannot be reached.
        ImportanceError: If scores cannot be had or have the wrong shape.
        UnknownLayerError: If a layer is named that the model does not have.
    """
    budgets = {"parameters": parameters, "macs": macs, "latency": latency}
    given = {"ratio": ratio, "widths": widths, **budgets}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1 and not (ratios and not given):
        raise PlanError(
            f"Give exactly one of ratio, widths, {', '.join(BUDGETS)}; received "
            f"{', '.join(given) or 'none'}."
        )
    _check(scope in SCOPES, f"scope must be one of {list(SCOPES)}", scope)
    whole = isinstance(round_to, numbers.Integral) and not isinstance(round_to, bool)
    _check(whole and round_to >= 1, "round_to must be a positive integer", round_to)
    _check(_is_share(max_ratio, 1.0), "max_ratio must be above 0, at most 1", max_ratio)
    graph = as_graph(model, strict, keep_class)
    _check(ratios is None or isinstance(ratios, dict), "ratios must be a dict", ratios)
    _check(measure is None or callable(measure), "measure must be a function", measure)
    own = {group: 0.0 for group in groups_of(graph, keep)}
    for selector, share in (ratios or {}).items():
        own.update(dict.fromkeys(_groups_losing(graph, selector, share), share))
    scores = checked_scores(graph, importance, GroupNorm())
    choose = Chooser(graph, scores, own, int(round_to), scope, float(max_ratio))
    if isinstance(ratio, dict) or widths is not None:
        counts, summary = _by_layer(choose, ratio if widths is None else widths)
    elif ratio == "density":
        counts, summary = _by_density(choose, importance)
    elif not given or ratio is not None:
        counts, summary = _by_ratio(choose, ratio, ratios, scope)
    else:
        name, target = next(iter(given.items()))
        counts, summary = counts_within(name, target, choose, input_shape, measure)
    maps = {g: IndexMap.keep(g.size, k) for g, k in choose.kept(counts).items()}
    plan = Plan(graph, maps, summary=summary)
    if not plan.maps:
        warnings.warn(_why_nothing(graph, choose, summary), stacklevel=2)
    return plan


def _check(holds, expected, received):
    if not holds:
        raise PlanError(f"{expected}; received {received!r}.")


def _is_share(value, highest):
    """Whether a value is a number above 0 and below, or at, the highest."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return 0 < value <= highest


def _groups_losing(graph, selector, share):
    """The groups of a layer that is to lose a share of its own."""
    label = label_of(selector)
    fits = share == 0 or (_is_share(share, 1.0) and share < 1)
    _check(fits, f"The ratio of '{label}' must be at least 0 and below 1", share)
    groups = groups_of(graph, selector)
    if not groups and share:
        raise PlanError(
            f"'{label}' cannot lose units: none of its channels may change."
        )
    return groups


# === How many units stay ==============================================================
def _by_ratio(choose, ratio, ratios, scope):
    """Counts for one ratio of everything, or for layers' own ratios alone."""
    parts = [f"{share:.0%} of {label_of(k)}" for k, share in (ratios or {}).items()]
    if ratio is None:
        counts = choose.counts(0.0)
    else:
        fits = _is_share(ratio, 1.0) and ratio < 1
        _check(fits, "ratio must lie between 0 and 1, or name layers", ratio)
        counts = choose.counts(float(ratio))
        parts.insert(0, f"{ratio:.0%} of the units ({scope})")
    return counts, "prune " + ", ".join(parts)


def _by_layer(choose, wanted):
    """Counts for the widths, or the shares lost, of single layers."""
    graph, counts, asked, parts = choose.graph, {}, {}, []
    _check(isinstance(wanted, dict) and wanted, "widths must name layers", wanted)
    for selector, value in wanted.items():
        label = label_of(selector)
        if isinstance(value, float | np.floating):
            groups = _groups_losing(graph, selector, value)
            sizes = {g: choose.rounded(g, g.size * (1 - value)) for g in groups}
            parts.append(f"{label} by {value:.0%}")
        else:
            sizes = _sizes_for_width(graph, selector, value)
            parts.append(f"{label} to {value}")
        for group, size in sizes.items():
            if counts.setdefault(group, size) != size:
                raise PlanError(
                    f"'{asked[group]}' and '{label}' belong to one group, "
                    f"'{group.name}', and cannot have {counts[group]} and {size} units."
                )
            asked[group] = label
    return counts, "prune " + ", ".join(parts)


def _sizes_for_width(graph, selector, width):
    """Dict from group to size that gives one layer a width."""
    label = label_of(selector)
    whole = isinstance(width, numbers.Integral) and not isinstance(width, bool)
    _check(
        whole and width >= 1,
        f"The width of '{label}' must be a positive integer, or a fraction below 1 for "
        "the share it loses",
        width,
    )
    if isinstance(selector, keras.Layer):
        follow = graph.follows.get(id(selector))
        label = label if follow is None else follow.name
    layout = graph.width(label)
    if width > layout.size:
        raise PlanError(
            f"'{label}' has a width of {layout.size}; pruning cannot make it {width}. "
            "Use widen."
        )
    return spread_width(layout, int(width), label)


def _by_density(choose, importance):
    """Counts for the share of units that is active on average."""
    if not hasattr(importance, "densities"):
        raise PlanError("ratio='density' needs an ActivationDensity importance.")
    densities = importance.densities(choose.graph)
    counts = {
        group: choose.rounded(group, group.size * float(np.mean(densities[group])))
        for group in choose.groups
        if group in densities
    }
    return counts, "prune to the density of the activations"


def _why_nothing(graph, choose, summary):
    """Says aloud that a plan changes nothing, and why."""
    if not graph.groups:
        reason = "none of its channels may change"
    elif not choose.groups and not any(choose.ratios.values()):
        reason = "all layers that could change are kept"
    else:
        sizes = [group.size for group in graph.groups]
        reason = (
            f"its groups of {min(sizes)} to {max(sizes)} units already fit, or would "
            "lose less than the step to which sizes are rounded"
        )
    return f"'{graph.model.name}' stays as it is ({summary}): {reason}."
