"""Configurations with other widths: which numbers may change, and to what.

A class's configuration is a structure of names and numbers. Which of the numbers are
widths is not written anywhere, so `keras_megan.net2net.rewriting.remake` tries: here
are the candidates.
"""

import copy
import itertools

#: Settings whose names end in these words say where an axis is.
_POSITIONS = ("axis", "axes")


def variants(config, changes, most_first=True):
    """Yields configurations with numbers replaced, and what was replaced in each.

    Args:
        config: The configuration.
        changes: Dict from an old number to the list of new ones.
        most_first: Whether all of them are replaced at first, and fewer later; else
            none at first.
    """
    config = plain_lists(config) if changes else config
    places = places_of(config, changes)
    counts = range(len(places) + 1)
    for count in reversed(counts) if most_first else counts:
        for chosen in itertools.combinations(places, count):
            for values in itertools.product(*(options for *_, options in chosen)):
                changed = copy.deepcopy(config)
                for (path, _, _), value in zip(chosen, values, strict=True):
                    put(changed, path, value)
                yield changed, tuple((path, old) for path, old, _ in chosen)


def places_of(config, changes):
    """List of (path, old number, new numbers) of what may change in a configuration."""
    return [
        (path, value, changes[value])
        for path, value in _numbers(config)
        if value in changes
    ]


def only_wanted(before, after, wanted):
    """Whether shapes changed, and every size that did is the wanted one."""
    if list(map(len, before)) != list(map(len, after)) or before == after:
        return False
    return all(
        new in (old, size)
        for shapes in zip(before, after, wanted, strict=True)
        for old, new, size in zip(*shapes, strict=True)
    )


def with_multiples(changes):
    """Changes of numbers, and of small multiples of them."""
    result = {old: list(new) for old, new in changes.items()}
    for factor in (2, 3, 4):
        for old, values in changes.items():
            known = result.setdefault(factor * old, [])
            known += [factor * new for new in values if factor * new not in known]
    return result


def _numbers(value, path=()):
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        if isinstance(value, int) and not isinstance(value, bool):
            yield path, value
        return
    for key, item in items:
        if not _names_no_width(key):
            yield from _numbers(item, (*path, key))


def _names_no_width(key):
    """Whether a setting of a name is a seed or the position of an axis, not a width."""
    return isinstance(key, str) and key.split("_")[-1] in ("seed", "name", *_POSITIONS)


def put(config, path, value):
    *outer, last = path
    for key in outer:
        config = config[key]
    config[last] = value


def plain_lists(value):
    """A structure with lists in place of tuples, as it comes out of a file."""
    if isinstance(value, dict):
        return {key: plain_lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_lists(item) for item in value]
    return value
