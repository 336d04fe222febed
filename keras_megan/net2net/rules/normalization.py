"""Rules of normalisation layers and per-channel parameters.

Batch normalisation treats every channel by itself, so its four vectors are copied, in
training mode too. Where statistics are taken over the channels, copies change them
unless every channel has the same number of copies. Then

- with evenly added averages (layer normalisation) or zeros (root mean square), gamma is
  multiplied by eta and epsilon by eta^2, eta^2 = k n / n' for n channels with k copies
  each in a width of n' (LEMON, arXiv:2310.07999; arXiv:2308.06103);
- for any other copies, `BalancedNormalization` weighs them; root-mean-square and unit
  normalisation reach the same by a factor before and after.

Group normalisation moves in whole groups, which is exact for any copies and when
pruned.
"""

import keras
import numpy as np

from keras_megan.net2net.rewriting.weights_layers import (
    BalancedNormalization,
    ChannelWeights,
)
from keras_megan.net2net.rules.base import register_rule, writes


def _freeze_others(site, kept, reason):
    for axis, layout in enumerate(site.inputs[0]):
        if axis not in kept:
            site.freeze(layout, reason)


def surviving_balance(index_map):
    """Returns weights 1 / copies, and how many distinct old units are left."""
    return index_map.balance, int(np.count_nonzero(index_map.counts))


def is_even(index_map):
    """Whether all units that are left have equally many copies, which all count."""
    counts = index_map.counts[index_map.counts > 0]
    return bool(np.all(index_map.share != 0)) and bool(np.all(counts == counts[0]))


def stretch(index_map):
    """Returns eta^2 for a map with evenly copied units and added averages or zeros."""
    counts = index_map.counts
    added = index_map.source < 0
    heard = np.all(index_map.share[~added] != 0)
    if not np.any(added) or not heard or not np.all(counts == counts[0]):
        return 1.0
    return float(counts[0]) * index_map.old_size / index_map.new_size


def _is_plain(index_map):
    """Whether the normalisation layer itself remains exact."""
    return is_even(index_map) or stretch(index_map) != 1.0


# === Per channel ======================================================================
@register_rule(keras.layers.BatchNormalization)
def batch_normalization(site):
    """Batch normalisation: all vectors are copied."""
    layer = site.operation
    axis = layer.axis % len(site.inputs[0])
    channels = site.inputs[0][axis]
    _freeze_others(site, {0, axis}, "batch normalisation averages over it")
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    for name in names:
        variable = getattr(layer, name, None)
        site.weight(variable, {0: writes(channels)})
    return site.inputs[0]


@register_rule(keras.layers.PReLU)
def prelu(site):
    """PReLU: one slope per position of every axis that is not shared."""
    layer = site.operation
    roles = {
        axis: writes(layout)
        for axis, layout in enumerate(site.inputs[0][1:])
        if layer.alpha.shape[axis] == layout.size and layout.size != 1
    }
    site.weight(layer.alpha, roles)
    return site.inputs[0]


@register_rule(keras.layers.Normalization)
def feature_normalization(site):
    """Feature-wise normalisation with stored mean and variance."""
    layer = site.operation
    axes = layer.axis if layer.axis is not None else ()
    for axis in (axes,) if isinstance(axes, int) else axes:
        site.freeze(site.inputs[0][axis], "its mean and variance were adapted to data")
    return site.inputs[0]


@register_rule(ChannelWeights)
def channel_weights(site):
    """A weight as a layer: every axis is its own."""
    layer = site.operation
    axes = [
        site.fixed(1) if size == 1 else site.new(f"axis{axis}", size)
        for axis, size in enumerate(layer.shape)
    ]
    site.setting("shape", tuple(axes))
    site.weight(layer.value, {axis: writes(layout) for axis, layout in enumerate(axes)})
    return axes


# === Statistics over channels =========================================================
def normalized_axes(axis, rank):
    axes = [axis] if isinstance(axis, int) else list(axis)
    return sorted(a % rank for a in axes)


def _balanced(replay, layouts, axes, variables, options):
    """Puts a `BalancedNormalization` in a layer's place."""
    parts = [surviving_balance(replay.index_map(layout)) for layout in layouts]
    balance = np.ones(())
    for weights, _ in parts:
        balance = np.multiply.outer(balance, weights)
    original = replay.call.operation
    layer = BalancedNormalization(
        axis=list(axes),
        count=int(np.prod([count for _, count in parts])),
        name=replay.operation.name,
        dtype=original.dtype_policy,
        trainable=original.trainable,
        **options,
    )

    def pairs(built):
        return [
            (old, getattr(built, name))
            for name, old in variables.items()
            if old is not None
        ]

    return replay.substitute(layer, pairs, lambda built: [(built.balance, balance)])


@register_rule(keras.layers.LayerNormalization, linear=True)
def layer_normalization(site):
    """Layer normalisation over one or several axes."""
    layer = site.operation
    axes = normalized_axes(layer.axis, len(site.inputs[0]))
    layouts = [site.inputs[0][axis] for axis in axes]
    if getattr(layer, "rms_scaling", False):
        for layout in layouts:
            site.freeze(layout, "rms_scaling divides by the variance")

    def eta_squared(index_map_of):
        return float(np.prod([stretch(index_map_of(layout)) for layout in layouts]))

    roles = {position: writes(layout) for position, layout in enumerate(layouts)}
    site.weight(layer.gamma, roles, scale=lambda m: np.sqrt(eta_squared(m)))
    site.weight(layer.beta, roles)
    epsilon = layer.epsilon
    site.setting("epsilon", lambda m: epsilon * eta_squared(m))
    site.inexact_when_pruned(layouts, "layer normalisation mixes its channels")

    def play(replay):
        if all(_is_plain(replay.index_map(layout)) for layout in layouts):
            return replay.run_unchanged()
        config = replay.call.operation.get_config()
        names = ("epsilon", "center", "scale")
        names += ("beta_regularizer", "gamma_regularizer")
        names += ("beta_constraint", "gamma_constraint")
        options = {name: config[name] for name in names}
        variables = {"gamma": layer.gamma, "beta": layer.beta}
        return _balanced(replay, layouts, axes, variables, options)

    site.replay(play)
    return [
        layout.detach() if axis in axes else layout
        for axis, layout in enumerate(site.inputs[0])
    ]


@register_rule(BalancedNormalization)
def balanced_normalization(site):
    """The weights of copies of a copy are divided again."""
    layer = site.operation
    axes = layer.normalized_axes(len(site.inputs[0]))
    parameter_axes = layer.weighted_axes(len(site.inputs[0]))
    layouts = [site.inputs[0][axis] for axis in parameter_axes]
    for axis in set(axes) - set(parameter_axes):
        site.freeze(site.inputs[0][axis], "a normalisation averages over it")
    roles = {position: writes(layout) for position, layout in enumerate(layouts)}
    site.weight(layer.gamma, roles)
    site.weight(layer.beta, roles)

    def balance(index_map_of):
        weights = np.ones(())
        for layout in layouts:
            weights = np.multiply.outer(weights, index_map_of(layout).balance)
        return weights

    site.weight(layer.balance, roles, scale=balance)
    site.inexact_when_pruned(layouts, "a normalisation mixes its channels")
    return site.inputs[0]


@register_rule(keras.layers.GroupNormalization)
def group_normalization(site):
    """Group normalisation: whole groups are the units."""
    layer = site.operation
    axis = layer.axis % len(site.inputs[0])
    channels = site.inputs[0][axis]
    size = channels.size
    groups = size if layer.groups == -1 else layer.groups
    _freeze_others(site, {0, axis}, "group normalisation averages over it")
    roles = {0: writes(channels)}
    site.weight(layer.gamma, roles)
    site.weight(layer.beta, roles)
    if groups == 1:
        _single_group(site, axis, channels)
    elif groups == size:
        if layer.groups != -1:
            site.setting("groups", channels)
    else:
        units = site.new("groups", groups)
        site.unify(channels, units.blocks(size // groups))
        site.setting("groups", units)
    return site.inputs[0]


def _single_group(site, axis, channels):
    layer = site.operation
    site.inexact_when_pruned([channels], "group normalisation mixes its channels")

    def play(replay):
        if is_even(replay.index_map(channels)):
            return replay.run_unchanged()
        config = layer.get_config()
        names = ("epsilon", "center", "scale", "beta_regularizer", "gamma_regularizer")
        names += ("beta_constraint", "gamma_constraint")
        options = {name: config[name] for name in names}
        options["weighted_axes"] = [axis]
        axes = range(1, len(site.inputs[0]))
        variables = {"gamma": layer.gamma, "beta": layer.beta}
        return _balanced(replay, [channels], axes, variables, options)

    site.replay(play)


def _root_weights(index_map):
    """Factors that make a mean of squares over copies the one over the originals."""
    _, count = surviving_balance(index_map)
    return np.sqrt(index_map.positive_balance * index_map.new_size / count)


@register_rule(keras.layers.RMSNormalization, linear=True)
def rms_normalization(site):
    """Root-mean-square normalisation: a factor before, taken out of gamma."""
    layer = site.operation
    axes = normalized_axes(layer.axis, len(site.inputs[0]))
    layouts = [site.inputs[0][axis] for axis in axes]

    def gamma_factor(index_map_of):
        factor = np.ones(())
        for layout in layouts:
            index_map = index_map_of(layout)
            if _is_plain(index_map):
                part = np.full(index_map.new_size, np.sqrt(stretch(index_map)))
            else:
                part = 1.0 / _root_weights(index_map)
            factor = np.multiply.outer(factor, part)
        return factor

    def epsilon(index_map_of):
        stretched = [stretch(index_map_of(layout)) for layout in layouts]
        return layer.epsilon * float(np.prod(stretched))

    roles = {position: writes(layout) for position, layout in enumerate(layouts)}
    site.weight(layer.scale, roles, scale=gamma_factor)
    site.setting("epsilon", epsilon)
    site.inexact_when_pruned(layouts, "root-mean-square normalisation mixes channels")

    def play(replay):
        x = replay.inputs[0]
        for axis, layout in zip(axes, layouts, strict=True):
            index_map = replay.index_map(layout)
            if not _is_plain(index_map):
                x = replay.multiply(x, axis, _root_weights(index_map))
        return replay.run(x)

    site.replay(play)
    return [
        layout.detach() if axis in axes else layout
        for axis, layout in enumerate(site.inputs[0])
    ]


@register_rule(keras.layers.UnitNormalization, "ops.Normalize")
def unit_normalization(site):
    """Division by the L2 norm: copies weighed before, the weight taken out after."""
    axis = site.operation.axis
    axes = normalized_axes(-1 if axis is None else axis, len(site.inputs[0]))
    layouts = [site.inputs[0][a] for a in axes]
    if getattr(site.operation, "order", 2) != 2:
        for layout in layouts:
            site.freeze(layout, "only the L2 norm can follow copies")
    site.inexact_when_pruned(layouts, "the norm is taken over the channels")
    site.hears_every_copy(layouts)

    def play(replay):
        x = replay.inputs[0]
        changed = [
            (a, np.sqrt(replay.index_map(layout).positive_balance))
            for a, layout in zip(axes, layouts, strict=True)
            if not replay.index_map(layout).is_identity
        ]
        for a, root in changed:
            x = replay.multiply(x, a, root)
        x = replay.run(x)
        for a, root in changed:
            x = replay.multiply(x, a, 1.0 / root)
        return x

    site.replay(play)
    return site.inputs[0]
