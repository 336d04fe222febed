"""Rules of operations that join axes end to end, or take parts of them.

A concatenated axis is its parts' layouts laid end to end, the others are the same. A
slice is a part of a layout; groups are split at its borders, and in the new model the
borders are where the new sizes of what lies before put them.
"""

import keras

from keras_megan.net2net.channels.layout import Layout
from keras_megan.net2net.rules.base import register_rule


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
