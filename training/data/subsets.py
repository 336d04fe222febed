"""Nested, balanced subsets: the first n of one fixed order.

Cumulative training starts with a little data and adds more. Each subset must contain
the one before, and each must have a fair share of every class (for images) or source
(for video clips). Both follow from one order of all items in which, after any number of
items, every group has given its share to within one item.
"""

from collections.abc import Sequence

import numpy as np


def nested_order(groups: Sequence | np.ndarray, seed: int) -> np.ndarray:
    """An order of the items ``0 .. len(groups) - 1`` whose beginnings are balanced.

    Args:
        groups: What each item belongs to; any values that can be compared.
        seed: Seed of the order within a group, and of ties between groups.

    Returns:
        int64 permutation. Among its first n items, a group with m of all N items has
        about n * m / N.
    """
    random = np.random.Generator(np.random.Philox(key=seed))
    names, which = np.unique(np.asarray(groups), return_inverse=True)
    due = np.empty(len(which))
    for group in range(len(names)):
        members = np.flatnonzero(which == group)
        members = members[random.permutation(len(members))]
        # The k-th of m members is due when (k + 1/2) / m of everything has come; the
        # shift keeps groups of equal size from arriving all at once.
        shift = random.random() - 0.5
        due[members] = (np.arange(len(members)) + 0.5 + 0.98 * shift) / len(members)
    return np.argsort(due, kind="stable")
