"""Rules of operations that give data another shape or order of axes.

Reshaping is an index map of its own. Merging axes (A, B) into one lays the inner axis
end to end A times (p * C + c, what Flatten does), or makes every unit of the outer axis
a block of B positions (c * B + q). Splitting is the reverse; the last of the new axes
then carries the units unless the units are blocks that fit the first.
"""

import math

import keras

from keras_megan.net2net.channels.layout import Layout
from keras_megan.net2net.rules.base import register_rule

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
