"""Layouts: what the positions along a tensor's axis stand for.

A `Group` is a set of units that can be copied or dropped one by one, the same way
wherever the group appears: the filters of a convolution, the heads of an attention. A
`Layout` describes one axis of one tensor or variable as a sequence of segments, each a
whole group, every unit of which takes ``inner`` neighbouring positions:

    the output of Conv2D(64)                 [conv x1]
    the same, flattened over 49 positions    [conv x1] * 49
    a concatenation                          [left x1, right x1]
    a depthwise convolution, multiplier 2    [conv x2]
    the four gates of an LSTM                [units x1] * 4
    a spatial axis                           [fixed x1]

Where two layouts must be the same axis (the two sides of an addition), they are
*unified*: groups that fall on each other are joined, and a group that covers several
others is replaced by them. Groups are split where the borders of segments do not
coincide. Where units cannot be matched at all, the groups are frozen: they cannot
change any more, and remember why. So a conflict costs freedom, never exactness.
"""

import math

from keras_megan.net2net.errors import Net2NetError


class LayoutError(Net2NetError):
    """Two axes that must agree do not have the same size."""


class Group:
    """A set of units that are copied or dropped the same way wherever they appear.

    Attributes:
        size: Number of units.
        name: Where it was introduced, such as ``"conv1.filters"``.
        frozen: None, or the reason why its units must stay as they are.
        binding: None, or the `Layout` that has taken this group's place.
    """

    def __init__(self, size, name, frozen=None):
        self.size = size
        self.name = name
        self.frozen = frozen
        self.binding = None

    def freeze(self, reason):
        """Forbids any change of the units, and of what the group was replaced by."""
        if self.binding is not None:
            self.binding.freeze(reason)
        elif self.frozen is None:
            self.frozen = reason

    def bind(self, layout):
        """Replaces this group by a layout of the same size, everywhere."""
        if self.frozen is not None:
            layout.freeze(self.frozen)
        self.binding = layout

    def split(self, first):
        """Replaces this group by two: the first `first` units, and the rest."""
        start, base = 0, self.name
        if base.endswith("]") and ":" in base.rsplit("[", 1)[-1]:
            base, bounds = base[:-1].rsplit("[", 1)
            start = int(bounds.split(":")[0])
        middle, end = start + first, start + self.size
        left = Group(first, f"{base}[{start}:{middle}]")
        right = Group(self.size - first, f"{base}[{middle}:{end}]")
        self.bind(Layout([(left, 1), (right, 1)]))

    def __repr__(self):
        state = "" if self.frozen is None else ", frozen"
        return f"Group({self.name}, {self.size}{state})"


class Layout:
    """The positions along one axis as a sequence of groups.

    Args:
        segments: List of (group, inner): every unit of the group takes `inner`
            neighbouring positions.
        opaque: Whether the size is unknown (a batch or open spatial axis). An opaque
            layout has no segments and nothing can be known of it.
        detached: Whether units that are not true copies hold values of no consequence
            here (behind a layer normalisation), so that any operation may follow.
    """

    def __init__(self, segments=(), opaque=False, detached=False):
        self._segments = list(segments)
        self.opaque = opaque
        self.detached = detached

    @classmethod
    def new(cls, size, name):
        """Returns the layout of a new group of `size` units that may change."""
        return cls([(Group(size, name), 1)])

    @classmethod
    def fixed(cls, size, reason="it is not a channel axis"):
        """Returns the layout of an axis that cannot change; `size` None if unknown."""
        if size is None:
            return cls(opaque=True)
        return cls([(Group(size, "fixed", frozen=reason), 1)] if size else [])

    @property
    def segments(self):
        """List of (group, inner) with every replaced group resolved."""
        if any(group.binding is not None for group, _ in self._segments):
            resolved = []
            for group, inner in self._segments:
                if group.binding is None:
                    resolved.append((group, inner))
                else:
                    resolved.extend(
                        (part, times * inner) for part, times in group.binding.segments
                    )
            self._segments = resolved
        return self._segments

    @property
    def size(self):
        """Number of positions; None if opaque."""
        if self.opaque:
            return None
        return sum(group.size * inner for group, inner in self._segments)

    @property
    def groups(self):
        """The distinct groups, in order of appearance."""
        return list(dict.fromkeys(group for group, _ in self.segments))

    @property
    def is_fixed(self):
        """Whether no position can change."""
        return all(group.frozen is not None for group, _ in self.segments)

    def detach(self):
        """Returns the same axis behind an operation that settles added units."""
        return Layout(self.segments, self.opaque, detached=True)

    def attach(self):
        """Returns the same axis where added units hold what they should."""
        return Layout(self.segments, self.opaque)

    def freeze(self, reason):
        """Forbids any change along this axis."""
        for group, _ in self.segments:
            group.freeze(reason)

    def repeat(self, times):
        """Returns this axis laid end to end `times` times."""
        if self.opaque:
            return self
        return Layout(self.segments * times)

    def blocks(self, size):
        """Returns the axis where each position becomes `size` neighbouring ones."""
        if self.opaque:
            return self
        return Layout([(group, inner * size) for group, inner in self.segments])

    @staticmethod
    def concatenate(layouts):
        """Returns the axes laid end to end."""
        if any(layout.opaque for layout in layouts):
            for layout in layouts:
                layout.freeze("it is concatenated with an axis of unknown size")
            return Layout(opaque=True)
        return Layout([s for layout in layouts for s in layout.segments])

    def cut(self, start, stop):
        """Returns the positions `start` to `stop`, splitting groups at the borders.

        Freezes the group when a border falls inside a block of positions.
        """
        if self.opaque:
            return self
        for border in (start, stop):
            _split_at(self, border)
        chosen, position = [], 0
        for group, inner in self.segments:
            length = group.size * inner
            if position >= start and position + length <= stop:
                chosen.append((group, inner))
            elif position < stop and position + length > start:
                reason = "a slice cuts through a block of its positions"
                group.freeze(reason)
                overlap = min(stop, position + length) - max(start, position)
                chosen.append((Group(overlap, "fixed", frozen=reason), 1))
            position += length
        return Layout(chosen)

    def __repr__(self):
        if self.opaque:
            return "Layout(?)"
        parts = (f"{g.name}:{g.size}x{inner}" for g, inner in self.segments)
        return f"Layout({', '.join(parts)})"


def _split_at(layout, border):
    """Splits the group that `border` falls into, where a unit ends there."""
    while True:
        position = 0
        for group, inner in layout.segments:
            length = group.size * inner
            if position < border < position + length:
                units, remainder = divmod(border - position, inner)
                if remainder or group.size == 1:
                    return
                group.split(units)
                break
            position += length
        else:
            return


def unify(first, second, where=""):
    """Makes two layouts describe the same axis, from now on and everywhere.

    Args:
        first, second: `Layout` of equal size.
        where: What requires it, for messages and freezing reasons.

    Raises:
        LayoutError: If the sizes differ.
    """
    if first.opaque or second.opaque:
        reason = f"it meets an axis of unknown size{where and ' at ' + where}"
        first.freeze(reason)
        second.freeze(reason)
        return
    if first.size != second.size:
        raise LayoutError(
            f"Two axes that must agree{where and ' at ' + where} have sizes "
            f"{first.size} and {second.size}."
        )
    left, right = list(first.segments), list(second.segments)
    left.reverse()
    right.reverse()
    while left:
        a, b = _head(left), _head(right)
        length_a, length_b = a[0].size * a[1], b[0].size * b[1]
        if length_a == length_b:
            left.pop()
            right.pop()
            _join(a, b, where)
            continue
        longer, stack = (a, left) if length_a > length_b else (b, right)
        shorter_length = min(length_a, length_b)
        units, remainder = divmod(shorter_length, longer[1])
        if remainder:
            _freeze_both(left, right, where)
            return
        longer[0].split(units)
        stack[-1] = longer


def _head(stack):
    """The topmost segment with replaced groups resolved in place."""
    group, inner = stack[-1]
    while group.binding is not None:
        stack.pop()
        parts = Layout([(group, inner)]).segments
        stack.extend(reversed(parts))
        group, inner = stack[-1]
    return group, inner


def _join(a, b, where):
    """Identifies two segments of equal length."""
    (group_a, inner_a), (group_b, inner_b) = a, b
    if group_a is group_b:
        return
    length = group_a.size * inner_a
    common = math.lcm(inner_a, inner_b)
    if inner_a == inner_b:
        group_b.bind(Layout([(group_a, 1)]))
    elif common == inner_a:
        group_b.bind(Layout([(group_a, inner_a // inner_b)]))
    elif common == inner_b:
        group_a.bind(Layout([(group_b, inner_b // inner_a)]))
    elif length % common == 0:
        coarse = Group(length // common, group_a.name)
        group_a.bind(Layout([(coarse, common // inner_a)]))
        group_b.bind(Layout([(coarse, common // inner_b)]))
    else:
        _freeze_both([a], [b], where)


def _freeze_both(left, right, where):
    reason = f"blocks of different sizes meet{where and ' at ' + where}"
    for group, _ in left + right:
        group.freeze(reason)
