"""Rules of reductions, also over the channels themselves.

Over other axes a reduction leaves every channel to itself. Over a channel axis, copies
would count several times: a sum or mean weighs them (1 / copies) first, a maximum or
minimum does not mind, and anything else keeps the axis as it is.
"""

import numpy as np

from keras_megan.net2net.channels.layout import Layout
from keras_megan.net2net.rules.base import register_rule


def _reduced_axes(site):
    operation, rank = site.operation, len(site.inputs[0])
    axis = operation.axis if hasattr(operation, "axis") else operation.axes
    if axis is None:
        return list(range(rank))
    axes = [axis] if isinstance(axis, int) else list(axis)
    return sorted(a % rank for a in axes)


def _remaining(site, axes):
    keep = getattr(site.operation, "keepdims", False)
    return [
        Layout.fixed(1) if axis in axes else layout
        for axis, layout in enumerate(site.inputs[0])
        if keep or axis not in axes
    ]


def _weighted(site, axes, factor):
    """Weighs copies before the reduction; `factor` from an `IndexMap` to weights."""
    layouts = site.inputs[0]

    def play(replay):
        x = replay.inputs[0]
        for axis in axes:
            if replay.is_changed(layouts[axis]):
                weights = factor(replay.index_map(layouts[axis]))
                if not np.all(weights == 1):
                    x = replay.multiply(x, axis, weights)
        return replay.run(x)

    if any(not layouts[axis].is_fixed for axis in axes):
        site.replay(play)


@register_rule("ops.Sum", linear=True)
def total(site):
    """A sum: copies are weighed."""
    axes = _reduced_axes(site)
    _weighted(site, axes, lambda index_map: index_map.balance)
    for axis in axes:
        site.nonlinear(site.inputs[0][axis])
    return _remaining(site, axes)


@register_rule("ops.Mean", linear=True)
def mean(site):
    """A mean: copies are weighed, and the new width is taken into account."""
    axes = _reduced_axes(site)

    def factor(index_map):
        distinct = np.count_nonzero(index_map.counts)
        return index_map.balance * index_map.new_size / distinct

    _weighted(site, axes, factor)
    for axis in axes:
        site.nonlinear(site.inputs[0][axis])
    site.inexact_when_pruned(
        [site.inputs[0][axis] for axis in axes], "a mean is taken over its channels"
    )
    return _remaining(site, axes)


@register_rule("ops.Max", "ops.Min", "ops.Amax", "ops.Amin", "ops.Any", "ops.All")
def extreme(site):
    """A maximum or minimum: copies change nothing."""
    axes = _reduced_axes(site)
    layouts = [site.inputs[0][axis] for axis in axes]
    site.inexact_when_pruned(layouts, "an extreme of its channels is taken")
    site.hears_every_copy(layouts)
    return _remaining(site, axes)


@register_rule(
    "ops.Var",
    "ops.Std",
    "ops.Prod",
    "ops.Median",
    "ops.Logsumexp",
    "ops.CountNonzero",
    "ops.Norm",
    "ops.Moments",
)
def frozen_reduction(site):
    """Any other reduction keeps the axes it reduces."""
    axes = _reduced_axes(site)
    for axis in axes:
        name = type(site.operation).__name__.lower()
        site.freeze(site.inputs[0][axis], f"{name} is taken over it")
    return [_remaining(site, axes) for _ in site.output_shapes]


@register_rule("ops.Argmax", "ops.Argmin")
def position_of_extreme(site):
    """The position of an extreme: positions must keep their numbers."""
    axes = _reduced_axes(site)
    for axis in axes:
        site.freeze(site.inputs[0][axis], "positions along it are counted")
    result = _remaining(site, axes)
    return result[: len(site.output_shapes[0])]


@register_rule("ops.Flip", "ops.Roll", "ops.Cumsum", "ops.Cumprod", "ops.Sort")
def ordered(site):
    """Operations that depend on the order of positions freeze the axes."""
    for axis in _reduced_axes(site):
        site.freeze(site.inputs[0][axis], "the order of its positions matters")
    return site.inputs[0]


@register_rule("ops.Take")
def take(site):
    """`keras.ops.take` along one axis, which keeps its positions."""
    axes = _reduced_axes(site)
    for axis in axes:
        site.freeze(site.inputs[0][axis], "its positions are looked up")
    if len(axes) != 1:
        return [site.fixed(size) for size in site.output_shapes[0]]
    indices = site.inputs[1] if len(site.inputs) > 1 else []
    if len(site.inputs) == 1 and len(site.output_shapes[0]) >= len(site.inputs[0]):
        indices = [site.fixed(site.output_shapes[0][axes[0]])]
    for layout in indices:
        site.freeze(layout, "it holds positions")
    layouts = list(site.inputs[0])
    layouts[axes[0] : axes[0] + 1] = indices
    return layouts


@register_rule("ops.TopK")
def largest(site):
    """`keras.ops.top_k`: the largest values along the last axis, and where they are."""
    *others, last = site.inputs[0]
    site.freeze(last, "its largest positions are picked out")
    return [[*others, site.fixed(shape[-1])] for shape in site.output_shapes]


@register_rule("ops.OneHot")
def one_hot(site):
    """`keras.ops.one_hot`: numbers become positions along a new axis."""
    for layout in site.inputs[0]:
        site.freeze(layout, "it holds numbers of classes")
    axis = site.operation.axis % len(site.output_shapes[0])
    result = list(site.inputs[0])
    result.insert(axis, site.fixed(site.output_shapes[0][axis]))
    return result
