"""From the width that a user wants to the sizes of the groups along that axis."""

import numpy as np

from keras_megan.net2net.plan import PlanError


def spread_width(layout, width, name):
    """Returns new group sizes that give an axis a wanted number of positions.

    Args:
        layout: The `Layout` of the axis.
        width: Wanted number of positions.
        name: What users call it, for messages.

    Returns:
        Dict from `Group` to number of units.

    Raises:
        PlanError: If the axis cannot have that width.
    """
    positions = {}
    for group, inner in layout.segments:
        positions[group] = positions.get(group, 0) + inner
    free = {g: p for g, p in positions.items() if g.frozen is None}
    if width == layout.size:
        return {}
    if not free:
        reason = next(iter(positions)).frozen if positions else "its size is unknown"
        raise PlanError(f"'{name}' cannot change its width: {reason}.")
    stuck = sum(g.size * p for g, p in positions.items() if g.frozen is not None)
    wanted = width - stuck
    factor = wanted / sum(group.size * count for group, count in free.items())
    sizes = {g: max(1, int(np.floor(g.size * factor + 1e-9))) for g in free}
    rest = wanted - sum(sizes[g] * p for g, p in free.items())
    by_loss = sorted(free, key=lambda g: sizes[g] - g.size * factor)
    for group in by_loss:
        if 0 < free[group] <= rest:
            sizes[group] += 1
            rest -= free[group]
    if rest:
        unit = int(np.gcd.reduce(list(free.values())))
        lower = stuck + wanted // unit * unit
        raise PlanError(
            f"'{name}' cannot have a width of {width}: its {layout.size} channels come "
            f"in blocks of {unit}"
            + (f" with {stuck} that cannot change ({_why(positions)})" if stuck else "")
            + f". Near widths: {max(lower, stuck + unit)}, {lower + unit}."
        )
    return sizes


def _why(positions):
    return next(g.frozen for g in positions if g.frozen is not None)
