"""Importances: how much each unit of a group of channels matters.

An importance is a small class with one method: `scores(graph)` gives an array per group
of channels, one number per unit; the smallest are pruned first. Write one's own by
subclassing `Importance`, and give it a name by which `prune` knows it:

    @net2net.register_importance("spread")
    class Spread(net2net.Importance):
        def of_weight(self, weight, axis, role):
            value = value_of(weight.variable)
            return value.std(axis=tuple(a for a in range(value.ndim) if a != axis))

    net2net.prune(model, ratio=0.5, importance="spread")
"""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_megan.net2net.channels.channel_graph import ChannelGraph
from keras_megan.net2net.channels.layout import Group, Layout
from keras_megan.net2net.channels.roles import AxisRole, Weight
from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.pruning.selecting import groups_of

#: Name -> class. Filled by `register_importance`.
IMPORTANCES: dict[str, Callable] = {}


class ImportanceError(Net2NetError):
    """Scores cannot be had, or have the wrong shape."""


def register_importance(name: str) -> Callable[[type], type]:
    """Decorator: lets `prune` know a class of importances by a name."""

    def enter(importance_class):
        IMPORTANCES[name] = importance_class
        return importance_class

    return enter


class Importance:
    """Base class: scores from the variables that carry a group.

    A group's units appear in many variables (a residual stage's channels are written by
    several convolutions), so the contributions of all of them are added (as in
    DepGraph, Fang et al., arXiv:2301.12900), each divided by its mean so that no
    variable dominates, and the sum is divided by its own mean so that groups can be
    compared.
    """

    def scores(self, graph: Any) -> dict:
        """Returns a dict from `Group` to an array (units,), mean 1 where possible.

        Args:
            graph: The `ChannelGraph` of the model.
        """
        return {group: self.of_group(graph, group) for group in graph.groups}

    def of_group(self, graph: ChannelGraph, group: Group) -> np.ndarray:
        """Returns the scores of one group, an array (units,)."""
        total = np.zeros(group.size)
        for weight, axis, role in graph.members(group):
            values = self.of_weight(weight, axis, role)
            if values is not None:
                total += normalized(sum_per_unit(role.layout, group, values))
        return normalized(total)

    def of_weight(self, weight: Weight, axis: int, role: AxisRole) -> np.ndarray | None:
        """Returns one number per position along a variable's axis, or None.

        Args:
            weight: The `keras_megan.net2net.channels.roles.Weight`.
            axis: Axis of the variable.
            role: Its `AxisRole`; `role.reads` tells readers from writers.
        """
        raise NotImplementedError


def importance_of(value: Any) -> Importance:
    """Returns the `Importance` that a user means by a name, a class or an instance.

    Raises:
        ImportanceError: If there is none, or if it cannot be made without data.
    """
    if isinstance(value, Importance):
        return value
    name, found = repr(value), value
    if isinstance(value, str):
        if value not in IMPORTANCES:
            near = difflib.get_close_matches(value, IMPORTANCES, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ImportanceError(
                f"No importance is called {value!r}; known are {sorted(IMPORTANCES)}."
                f"{hint}"
            )
        found = IMPORTANCES[value]
    if not (isinstance(found, type) and issubclass(found, Importance)):
        raise ImportanceError(
            "importance must be the name of an importance, an Importance, or a dict "
            f"from layers to arrays of scores; received {type(value).__name__}."
        )
    needed = [
        parameter.name
        for parameter in inspect.signature(found).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if needed:
        raise ImportanceError(
            f"The importance {name} looks at data; give importance="
            f"net2net.{found.__name__}({', '.join(needed)})."
        )
    return found()


def checked_scores(
    graph: ChannelGraph, importance: Any, default: Importance
) -> dict[Group, np.ndarray]:
    """Returns one finite array of scores for every group of a graph.

    Args:
        graph: The `ChannelGraph`.
        importance: What the user gave: None, a name, an `Importance`, or a dict from
            layers or groups to arrays.
        default: The `Importance` for None, and for the groups that a dict leaves out.

    Raises:
        ImportanceError: If scores have the wrong shape or are not finite.
    """
    if importance is None:
        given = default.scores(graph)
    elif isinstance(importance, dict):
        given = {**default.scores(graph), **_named(graph, importance)}
    else:
        given = importance_of(importance).scores(graph)
    result = {}
    for group in graph.groups:
        if group not in given:
            raise ImportanceError(
                f"{type(importance).__name__} gives no scores for '{group.name}'."
            )
        values = np.asarray(given[group], dtype=np.float64)
        if values.shape != (group.size,):
            raise ImportanceError(
                f"The importance of '{group.name}' must have shape ({group.size},), "
                f"received {values.shape}."
            )
        if not np.all(np.isfinite(values)):
            raise ImportanceError(
                f"The importance of '{group.name}' is not a finite number everywhere."
            )
        result[group] = values
    return result


def _named(graph, named):
    """Scores by layer or group, as scores by `Group`."""
    by_name = {group.name: group for group in graph.groups}
    result = {}
    for key, values in named.items():
        if isinstance(key, str) and key in by_name:
            result[by_name[key]] = values
            continue
        groups = groups_of(graph, key)
        if len(groups) != 1:
            raise ImportanceError(
                f"{key!r} is made of {len(groups)} groups of channels that may change; "
                f"give scores by group: {[group.name for group in groups]}."
            )
        result[groups[0]] = values
    return result


# === Helpers ==========================================================================
def value_of(variable: Any) -> np.ndarray:
    """Returns a variable's value as float64."""
    return np.asarray(keras.ops.convert_to_numpy(variable.value), dtype=np.float64)


def other_axes(array: np.ndarray, axis: int) -> tuple[int, ...]:
    """Returns all axes of an array but one."""
    return tuple(a for a in range(array.ndim) if a != axis)


def normalized(values: np.ndarray) -> np.ndarray:
    """Returns values divided by their mean; unchanged if that is zero."""
    mean = float(np.mean(values)) if np.size(values) else 0.0
    return values / mean if mean > 0 else values


def sum_per_unit(layout: Layout, group: Group, values: np.ndarray) -> np.ndarray:
    """Adds up values over the positions that each unit of a group takes.

    Args:
        layout: `Layout` of the axis the values lie along.
        group: The `Group`.
        values: Array (positions,).

    Returns:
        Array (units,).
    """
    total, position = np.zeros(group.size), 0
    for part, inner in layout.segments:
        length = part.size * inner
        if part is group:
            total += values[position : position + length].reshape(-1, inner).sum(axis=1)
        position += length
    return total


def unit_mean(layout: Layout, group: Group, values: np.ndarray) -> np.ndarray:
    """Like `sum_per_unit`, divided by the number of positions per unit."""
    positions = sum(inner for part, inner in layout.segments if part is group)
    return sum_per_unit(layout, group, values) / positions
