"""The maps of the groups that change, and what follows for any axis."""

from keras_megan.net2net.channels.index_map import IndexMap
from keras_megan.net2net.channels.sizes import size_under


class Maps:
    """One `IndexMap` per group that changes.

    Args:
        maps: Dict from `Group` to `IndexMap`.
    """

    def __init__(self, maps=None):
        self.maps = dict(maps or {})

    def index_map(self, layout):
        """Returns the `IndexMap` of an axis, from the maps of the groups along it."""
        maps = {}
        parts = []
        for group, inner in layout.segments:
            if (group, inner) not in maps:
                unit = self.maps.get(group) or IndexMap.identity(group.size)
                maps[group, inner] = unit.blocks(inner)
            parts.append(maps[group, inner])
        return parts[0] if len(parts) == 1 else IndexMap.concatenate(parts)

    @property
    def sizes(self):
        """Dict from each changed `Group` to its new number of units."""
        return {group: index_map.new_size for group, index_map in self.maps.items()}

    def size(self, layout):
        """Returns the new number of positions of an axis (None if unknown)."""
        return size_under(layout, self.sizes)

    def is_changed(self, layout):
        """Returns whether anything changes along an axis."""
        return any(group in self.maps for group, _ in layout.segments)
