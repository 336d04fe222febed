"""Rules of repeating, padding, and exchanging channels with positions.

Repetition lays an axis end to end (tile) or makes blocks of its positions (repeat).
`depth_to_space` with block r reads channel k * C + c, k = 0..r^2-1: the output channels
laid end to end r^2 times, which therefore move together.
"""

import keras

from keras_megan.net2net.channels.layout import Layout
from keras_megan.net2net.rules.base import register_rule
from keras_megan.net2net.rules.shape import merge_axes, resized_target


# === Repetition =======================================================================
@register_rule("ops.Tile", linear=True)
def tile(site):
    """`keras.ops.tile`: an axis laid end to end."""
    layouts, rank = site.inputs[0], len(site.output_shapes[0])
    repeats = site.operation.repeats
    repeats = [repeats] if isinstance(repeats, int) else list(repeats)
    repeats = [1] * (rank - len(repeats)) + repeats
    layouts = [site.fixed(1)] * (rank - len(layouts)) + layouts
    return [
        layout
        if times == 1
        else site.fixed(None if layout.opaque else layout.size * times)
        if layout.opaque or layout.is_fixed
        else layout.repeat(times)
        for layout, times in zip(layouts, repeats, strict=True)
    ]


@register_rule("ops.Repeat", linear=True)
def repeat(site):
    """`keras.ops.repeat`: every position several times in a row."""
    axis, repeats = site.operation.axis, site.operation.repeats
    layouts = [merge_axes(site.inputs[0])] if axis is None else list(site.inputs[0])
    axis = (axis or 0) % len(layouts)
    if isinstance(repeats, int):
        layouts[axis] = layouts[axis].blocks(repeats)
    else:
        site.freeze(layouts[axis], "its positions are repeated unevenly")
        layouts[axis] = site.fixed(site.output_shapes[0][axis])
    return layouts


@register_rule(keras.layers.RepeatVector, linear=True)
def repeat_vector(site):
    """RepeatVector: a new axis of steps."""
    batch, channels = site.inputs[0]
    return [batch, site.fixed(site.output_shapes[0][1]), channels]


@register_rule("ops.BroadcastTo", linear=True)
def broadcast_to(site):
    """`keras.ops.broadcast_to`: axes of one position become fixed ones."""
    rank = len(site.output_shapes[0])
    layouts = site.inputs[0]
    layouts = [None] * (rank - len(layouts)) + layouts
    result = []
    for layout, size in zip(layouts, site.output_shapes[0], strict=True):
        if layout is None or (layout.size == 1 and size != 1):
            if layout is not None:
                site.freeze(layout, "it is broadcast")
            result.append(site.fixed(size))
        else:
            result.append(layout)
    site.setting("shape", resized_target(site.operation.shape, result))
    return result


@register_rule("ops.Pad", linear=True)
def pad(site):
    """`keras.ops.pad`: padded channels are fixed positions."""
    widths = site.operation.pad_width
    layouts = site.inputs[0]
    if len(widths) == 1:
        widths = list(widths) * len(layouts)
    result = []
    for layout, (before, after) in zip(layouts, widths, strict=True):
        if not before and not after:
            result.append(layout)
        elif layout.opaque or layout.is_fixed or site.operation.mode != "constant":
            site.freeze(layout, "it is padded")
            size = None if layout.opaque else layout.size + before + after
            result.append(site.fixed(size))
        else:
            reason = "it is padding"
            sides = [Layout.fixed(count, reason) for count in (before, after)]
            result.append(Layout.concatenate([sides[0], layout, sides[1]]))
    return result


# === Channels and positions exchanged =================================================
@register_rule("ops.DepthToSpace", linear=True)
def depth_to_space(site):
    """`keras.ops.depth_to_space`: r^2 sub-channels of a channel move together."""
    times = site.operation.block_size**2
    axis = len(site.inputs[0]) - 1 if site.channels_last else 1
    channels = site.inputs[0][axis]
    if channels.is_fixed:
        return site.pass_spatial(site.fixed(channels.size // times))
    output = site.new("channels", channels.size // times)
    if site.channels_last:
        site.unify(channels, output.repeat(times))
    else:
        site.freeze(channels, "depth_to_space of channels-first data")
    return site.pass_spatial(output)


@register_rule("ops.SpaceToDepth", linear=True)
def space_to_depth(site):
    """`keras.ops.space_to_depth`: the channels laid end to end r^2 times."""
    times = site.operation.block_size**2
    axis = len(site.inputs[0]) - 1 if site.channels_last else 1
    channels = site.inputs[0][axis]
    if channels.is_fixed or not site.channels_last:
        site.freeze(channels, "space_to_depth of channels-first data")
        return site.pass_spatial(site.fixed(channels.size * times))
    return site.pass_spatial(channels.repeat(times))
