"""Sizes of axes and variables under new numbers of units."""


def size_under(layout, sizes):
    """Returns the new number of positions of a layout.

    Args:
        layout: A `Layout`.
        sizes: Dict from `Group` to its new number of units; others keep theirs.
    """
    if layout.opaque:
        return None
    return sum(sizes.get(group, group.size) * inner for group, inner in layout.segments)


def shape_under(weight, sizes):
    """Returns the new shape of a `Weight`'s variable under new group sizes."""
    shape = list(weight.variable.shape)
    for axis, role in weight.roles.items():
        shape[axis] = size_under(role.layout, sizes)
    return tuple(shape)
