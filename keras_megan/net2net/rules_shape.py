"""Rules of operations that move data without computing: reshape, permute, concatenate.

Reshaping is an index map of its own. Merging axes (A, B) into one lays the inner axis
end to end A times (p * C + c, what Flatten does), or makes every unit of the outer axis
a block of B positions (c * B + q). Splitting is the reverse; the last of the new axes
then carries the units unless the units are blocks that fit the first. `depth_to_space`
with block r reads channel k * C + c, k = 0..r^2-1: the output channels laid end to end
r^2 times. Slices keep their meaning by new borders, computed from what lies before
them.
"""

import math

import keras

from keras_megan.net2net.layout import Layout
from keras_megan.net2net.rules import register_rule

_MERGED = "two channel axes are merged into one"


# === Reshape ==========================================================================
def merge_axes(layouts):
    """Returns the layout of axes merged into one, in row-major order."""
    merged = layouts[0]
    for layout in layouts[1:]:
        if merged.opaque or layout.opaque:
            merged.freeze("it is merged with an axis of unknown size")
            layout.freeze("it is merged with an axis of unknown size")
            merged = Layout(opaque=True)
        elif layout.is_fixed and merged.is_fixed:
            merged = Layout.fixed(merged.size * layout.size)
        elif merged.is_fixed:
            merged = layout.repeat(merged.size)
        else:
            if not layout.is_fixed:
                layout.freeze(_MERGED)
            merged = merged.blocks(layout.size)
    return merged


def split_axis(site, layout, sizes):
    """Returns the layouts of one axis split into several, in row-major order."""
    if layout.opaque or layout.is_fixed or None in sizes:
        layout.freeze("it is split into axes of unknown size")
        return [site.fixed(size) for size in sizes]
    carriers = [position for position, size in enumerate(sizes) if size != 1]
    if len(carriers) <= 1:
        carrier = carriers[0] if carriers else len(sizes) - 1
        return [
            layout if position == carrier else site.fixed(1)
            for position in range(len(sizes))
        ]
    first, rest = carriers[0], math.prod(sizes[carriers[0] + 1 :])
    blocks = [inner for _, inner in layout.segments]
    if all(inner % rest == 0 for inner in blocks):
        outer = Layout([(g, inner // rest) for g, inner in layout.segments])
        return [
            outer if position == first else site.fixed(size)
            for position, size in enumerate(sizes)
        ]
    last = carriers[-1]
    channels = site.new(f"axis{last}", sizes[last])
    site.unify(layout, channels.repeat(math.prod(sizes[:last])))
    return [
        channels if position == last else site.fixed(size)
        for position, size in enumerate(sizes)
    ]


def reshape_layouts(site, layouts, old, new):
    """Returns the layouts behind a reshape from shape `old` to shape `new`."""
    left_old, left_new, before = 0, 0, []
    right_old, right_new, after = len(old), len(new), []
    blocks = []
    # Match equal products from the right, then from the left; what remains between
    # holds unknown sizes.
    while right_old > left_old and right_new > left_new:
        start_old, start_new = right_old - 1, right_new - 1
        if old[start_old] is None or new[start_new] is None:
            break
        a, b = old[start_old], new[start_new]
        while a != b:
            if a < b:
                start_old -= 1
                if start_old < left_old or old[start_old] is None:
                    break
                a *= old[start_old]
            else:
                start_new -= 1
                if start_new < left_new or new[start_new] is None:
                    break
                b *= new[start_new]
        if a != b:
            break
        after.insert(0, ((start_old, right_old), (start_new, right_new)))
        right_old, right_new = start_old, start_new
    while (
        left_old < right_old and left_new < right_new and old[left_old] == new[left_new]
    ):
        before.append(((left_old, left_old + 1), (left_new, left_new + 1)))
        left_old, left_new = left_old + 1, left_new + 1
    blocks = before + after
    result = [None] * len(new)
    for (start, stop), (new_start, new_stop) in blocks:
        sizes = list(new[new_start:new_stop])
        if stop - start == 1 and new_stop - new_start == 1:
            result[new_start] = layouts[start]
            continue
        merged = merge_axes(layouts[start:stop])
        result[new_start:new_stop] = split_axis(site, merged, sizes)
    for layout in layouts[left_old:right_old]:
        site.freeze(layout, "it is reshaped together with an axis of unknown size")
    for position in range(left_new, right_new):
        size = new[position]
        if size == 1 and right_new - left_new > 1:
            result[position] = site.fixed(1)
        else:
            result[position] = site.fixed(size)
    return result


def resized_target(target, layouts, batch_axes=0):
    """Returns reshape targets with the axes that may change as layouts.

    Args:
        target: The target shape as the operation has it, with -1 or None if open.
        layouts: The output's layouts.
        batch_axes: Number of output axes that the target leaves out.
    """
    return tuple(
        size
        if size is None or size == -1 or layout.opaque or layout.is_fixed
        else layout
        for size, layout in zip(target, layouts[batch_axes:], strict=True)
    )


@register_rule(keras.layers.Reshape, linear=True)
def reshape_layer(site):
    """Reshape layer: the batch axis is left out of the target."""
    old, new = site.shapes[0], site.output_shapes[0]
    layouts = [site.inputs[0][0]]
    layouts += reshape_layouts(site, site.inputs[0][1:], old[1:], new[1:])
    site.setting(
        "target_shape", resized_target(site.operation.target_shape, layouts, 1)
    )
    site.follow.widths.clear()
    return layouts


@register_rule("ops.Reshape", linear=True)
def reshape(site):
    """`keras.ops.reshape`."""
    old, new = site.shapes[0], site.output_shapes[0]
    layouts = reshape_layouts(site, site.inputs[0], old, new)
    site.setting("newshape", resized_target(site.operation.newshape, layouts))
    return layouts


@register_rule(keras.layers.Flatten, linear=True)
def flatten(site):
    """Flatten: position-major (p * C + c) for channels last."""
    batch, *others = site.inputs[0]
    if not others:
        return [batch, site.fixed(1)]
    if not site.channels_last and len(others) > 1:
        # Keras moves the channels to the end first, so the order is the same.
        others = [*others[1:], others[0]]
    return [batch, merge_axes(others)]


@register_rule("ops.Ravel", linear=True)
def ravel(site):
    """`keras.ops.ravel`."""
    return [merge_axes(site.inputs[0])]


# === Order of axes ====================================================================
@register_rule(keras.layers.Permute, "ops.Transpose", linear=True)
def permute(site):
    """Permutation of axes."""
    layouts = site.inputs[0]
    if isinstance(site.operation, keras.layers.Permute):
        order = [0, *site.operation.dims]
    else:
        order = site.operation.axes or range(len(layouts))[::-1]
    return [layouts[axis] for axis in order]


@register_rule("ops.Swapaxes", linear=True)
def swap_axes(site):
    """`keras.ops.swapaxes`."""
    layouts = list(site.inputs[0])
    a, b = site.operation.axis1, site.operation.axis2
    layouts[a], layouts[b] = layouts[b], layouts[a]
    return layouts


@register_rule("ops.Moveaxis", linear=True)
def move_axis(site):
    """`keras.ops.moveaxis`."""
    layouts, rank = site.inputs[0], len(site.inputs[0])
    source = [axis % rank for axis in site.operation.source]
    target = [axis % rank for axis in site.operation.destination]
    order = [axis for axis in range(rank) if axis not in source]
    for destination, origin in sorted(zip(target, source, strict=True)):
        order.insert(destination, origin)
    return [layouts[axis] for axis in order]


@register_rule("ops.ExpandDims", linear=True)
def expand_dims(site):
    """`keras.ops.expand_dims`."""
    rank = len(site.output_shapes[0])
    axis = site.operation.axis
    added = {a % rank for a in ([axis] if isinstance(axis, int) else axis)}
    remaining = iter(site.inputs[0])
    return [site.fixed(1) if a in added else next(remaining) for a in range(rank)]


@register_rule("ops.Squeeze", linear=True)
def squeeze(site):
    """`keras.ops.squeeze`: the dropped axis has one position and keeps it."""
    layouts, shape = site.inputs[0], site.shapes[0]
    axis = site.operation.axis
    if axis is None:
        dropped = {a for a, size in enumerate(shape) if size == 1}
    else:
        axes = [axis] if isinstance(axis, int) else axis
        dropped = {a % len(shape) for a in axes}
    for a in dropped:
        site.freeze(layouts[a], "it is squeezed out, which needs one position")
    return [layout for a, layout in enumerate(layouts) if a not in dropped]


# === Joining and parting ==============================================================
@register_rule(keras.layers.Concatenate, "ops.Concatenate", linear=True)
def concatenate(site):
    """Concatenation: the axes laid end to end, the others the same."""
    axis = site.operation.axis % len(site.inputs[0])
    result = list(site.inputs[0])
    for layouts in site.inputs[1:]:
        for position, layout in enumerate(layouts):
            if position != axis:
                site.unify(result[position], layout)
    result[axis] = Layout.concatenate([layouts[axis] for layouts in site.inputs])
    return result


@register_rule("ops.Stack", linear=True)
def stack(site):
    """`keras.ops.stack`: a new axis beside, the others the same."""
    axis = site.operation.axis % len(site.output_shapes[0])
    result = list(site.inputs[0])
    for layouts in site.inputs[1:]:
        for position, layout in enumerate(layouts):
            site.unify(result[position], layout)
    result.insert(axis, site.fixed(len(site.inputs)))
    return result


@register_rule("ops.Unstack", linear=True)
def unstack(site):
    """`keras.ops.unstack`: the axis taken apart keeps its positions."""
    axis = site.operation.axis % len(site.inputs[0])
    site.freeze(site.inputs[0][axis], "it is unstacked position by position")
    rest = [layout for a, layout in enumerate(site.inputs[0]) if a != axis]
    return [list(rest) for _ in site.output_shapes]


@register_rule("ops.Split", linear=True)
def split(site):
    """`keras.ops.split`: borders move with what lies before them."""
    axis = site.operation.axis % len(site.inputs[0])
    layout = site.inputs[0][axis]
    sizes = [shape[axis] for shape in site.output_shapes]
    parts, position = [], 0
    for size in sizes:
        if layout.opaque or layout.is_fixed:
            parts.append(site.fixed(size))
            continue
        parts.append(layout.cut(position, position + size))
        position += size

    def play(replay):
        x = replay.inputs[0]
        if not replay.is_changed(layout):
            return replay.run(x)
        borders, position = [], 0
        for part in parts[:-1]:
            position += replay.size(part)
            borders.append(position)
        return replay.with_config(indices_or_sections=tuple(borders))(x)

    site.replay(play)
    return [
        [part if a == axis else other for a, other in enumerate(site.inputs[0])]
        for part in parts
    ]


def _prefix_size(replay, layout, stop):
    return replay.size(layout.cut(0, stop)) if stop else 0


@register_rule("ops.GetItem", linear=True)
def get_item(site):
    """Indexing: whole axes, slices with step 1, integers, new axes, ellipsis."""
    layouts = site.inputs[0]
    key = site.call.args[1] if len(site.call.args) > 1 else site.call.kwargs["key"]
    items = list(key) if isinstance(key, tuple | list) else [key]
    taken = sum(item is not None and item is not Ellipsis for item in items)
    if Ellipsis not in items:
        items.append(Ellipsis)
    position = items.index(Ellipsis)
    items[position : position + 1] = [slice(None)] * (len(layouts) - taken)
    result, plan, axis = [], [], 0
    for item in items:
        if item is None:
            result.append(site.fixed(1))
            plan.append(lambda replay: None)
            continue
        layout = layouts[axis]
        axis += 1
        if isinstance(item, slice):
            cut, border = _slice(site, layout, item)
            result.append(cut)
            plan.append(border)
        elif isinstance(item, int):
            if not layout.is_fixed:
                single = layout.cut(item % layout.size, item % layout.size + 1)
                site.freeze(single, "one position is picked out")
            plan.append(_index(layout, item))
        else:
            site.freeze(layout, "it is indexed by a tensor")
            for other in layouts:
                site.freeze(other, "a neighbouring axis is indexed by a tensor")
            return [site.fixed(size) for size in site.output_shapes[0]]

    def play(replay):
        if not any(replay.is_changed(layout) for layout in layouts):
            return replay.run_unchanged()
        return replay.run(replay.inputs[0], tuple(entry(replay) for entry in plan))

    site.replay(play)
    return result


def _slice(site, layout, item):
    if item == slice(None) or layout.opaque or layout.is_fixed:
        if item == slice(None):
            return layout, lambda replay: item
        size = layout.size
        known = size is not None and not any(
            isinstance(x, keras.KerasTensor) for x in (item.start, item.stop)
        )
        count = len(range(*item.indices(size))) if known else None
        return site.fixed(count), lambda replay: item
    start, stop, step = item.indices(layout.size)
    if step != 1:
        site.freeze(layout, "a slice takes every second or so of its positions")
        return site.fixed(len(range(start, stop, step))), lambda replay: item
    cut = layout.cut(start, stop)

    def border(replay):
        if not replay.is_changed(layout):
            return item
        begin = _prefix_size(replay, layout, start)
        return slice(begin, begin + replay.size(cut))

    return cut, border


def _index(layout, item):
    def entry(replay):
        if layout.opaque or not replay.is_changed(layout):
            return item
        return _prefix_size(replay, layout, item % layout.size)

    return entry


@register_rule("ops.Slice", linear=True)
def slice_operation(site):
    """`keras.ops.slice` with constant borders."""
    starts = site.call.args[1] if len(site.call.args) > 1 else None
    sizes = site.operation.shape
    constant = len(site.inputs) == 1 and starts is not None
    cuts = []
    for axis, layout in enumerate(site.inputs[0]):
        if layout.opaque or layout.is_fixed:
            cuts.append(site.fixed(site.output_shapes[0][axis]))
        elif not constant:
            site.freeze(layout, "its slice depends on data")
            cuts.append(site.fixed(site.output_shapes[0][axis]))
        else:
            cuts.append(layout.cut(starts[axis], starts[axis] + sizes[axis]))

    def play(replay):
        layouts = site.inputs[0]
        if not any(replay.is_changed(layout) for layout in layouts):
            return replay.run_unchanged()
        begins = tuple(
            _prefix_size(replay, layout, start) if replay.is_changed(layout) else start
            for layout, start in zip(layouts, starts, strict=True)
        )
        lengths = tuple(
            replay.size(cut) if replay.is_changed(layout) else size
            for cut, layout, size in zip(cuts, layouts, sizes, strict=True)
        )
        return replay.with_config(shape=lengths)(replay.inputs[0], begins)

    site.replay(play)
    return cuts


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
