"""Plan: a change of a model's channels, as something to read, keep and carry out.

A `Plan` holds one `IndexMap` per group of channels that changes, and the layers that
are to be inserted. Everything else follows from the model's `ChannelGraph`: which
variables change, along which axes, to which shapes. Policies (`widen`, `prune`,
`deepen`) only decide a plan; `apply` makes the new model and leaves the original as it
is.

    plan = net2net.widen(model, {"conv3": 96})
    print(plan)                     # every variable that changes: old and new shape
    plan.save("plan.json")
    student = plan.apply()

Plans are saved as JSON: `{"version", "model", "summary", "noise", "seed", "maps",
"insertions"}`.
"""

import json
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_megan.net2net.channels.channel_graph import (
    ChannelGraph,
    parameters_under,
)
from keras_megan.net2net.channels.index_map import IndexMap
from keras_megan.net2net.channels.maps import Maps
from keras_megan.net2net.channels.sizes import shape_under
from keras_megan.net2net.counting.under_plan import costs_under
from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.rewriting import apply as applying
from keras_megan.net2net.rewriting import rewrite
from keras_megan.net2net.rewriting.insertion import Insertion

_VERSION = 2
_READABLE = (1, 2)
#: Name -> class, of the kinds of plans that hold more than maps and insertions.
_KINDS: dict = {}


class PlanError(Net2NetError):
    """A plan does not fit the model, or asks for something that cannot be done."""


class Plan(Maps):
    """A change of a model's channels.

    Args:
        graph: The model's `ChannelGraph`.
        maps: Dict from `Group` to `IndexMap`. Groups that are left out do not change.
        insertions: List of `keras_megan.net2net.rewriting.insertion.Insertion`.
        summary: One line that says what the plan does.
        noise: Standard deviation of the noise that `apply` puts on what all but the
            first copy of each unit receive, relative to that of the weight.
        seed: Seed of the noise.
        restores: Whether the units that the plan leaves out are copies, so that the new
            model must compute what the old one does.

    Raises:
        PlanError: If a map does not fit its group, or the group must not change.
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        _KINDS[cls.__name__] = cls

    def __init__(
        self,
        graph: ChannelGraph,
        maps: dict | None = None,
        insertions: Iterable = (),
        summary: str = "change",
        noise: float = 0.0,
        seed: int = 0,
        restores: bool = False,
    ):
        super().__init__()
        self.graph = graph
        self.insertions = list(insertions)
        self.summary = summary
        self.noise = float(noise)
        self.seed = int(seed)
        self.restores = restores
        self._weights = {id(weight.variable): weight for weight in graph.weights}
        for group, index_map in (maps or {}).items():
            self._add(group, index_map)

    def _add(self, group, index_map):
        if index_map.is_identity:
            return
        if group.binding is not None or index_map.old_size != group.size:
            raise PlanError(
                f"The map of '{group.name}' is for {index_map.old_size} units, but the "
                f"model has {group.size}."
            )
        if group.frozen is not None:
            raise PlanError(f"'{group.name}' cannot change: {group.frozen}.")
        self.maps[group] = index_map
        if np.any(index_map.source < 0):
            for layout, name in self.graph.copies_only:
                if group in layout.groups:
                    raise PlanError(
                        f"'{group.name}' cannot take units that are not copies: "
                        f"'{name}' treats its channels in a way that only copies "
                        "survive."
                    )

    # === What it means ================================================================
    @property
    def model(self) -> keras.Model:
        """The model that the plan changes."""
        return self.graph.model

    def width(self, layer: str) -> int:
        """Returns the new width of a layer, by its name."""
        return self.size(self.graph.width(layer))

    @property
    def preserves_function(self) -> bool:
        """Whether the new model computes what the old one did."""
        return all(index_map.preserves for index_map in self.maps.values())

    @property
    def warnings(self) -> list[str]:
        """List of remarks: where pruning is not the same as masking."""
        dropped = {group for group, m in self.maps.items() if m.drops_units}
        return [
            reason
            for layouts, reason in self.graph.inexact
            if any(dropped & set(layout.groups) for layout in layouts)
        ]

    @property
    def parameters(self) -> int:
        """Number of parameters of the new model, insertions not included."""
        return parameters_under(self.graph, self.sizes)

    def changes(self) -> list:
        """Returns (path, axes, old shape, new shape, roles) per changed variable."""
        rows = []
        for weight in self.graph.weights:
            changed = {
                axis: role
                for axis, role in weight.roles.items()
                if self.is_changed(role.layout)
            }
            if changed:
                rows.append(
                    (
                        weight.variable.path,
                        tuple(changed),
                        tuple(weight.variable.shape),
                        shape_under(weight, self.sizes),
                        tuple(role.name for role in changed.values()),
                    )
                )
        return rows

    def weight_of(self, variable: Any) -> Any:
        """Returns the `Weight` of a variable, None if no rule spoke of it."""
        return self._weights.get(id(variable))

    def new_value(self, variable: Any, value: Any = None) -> Any:
        """Returns what a variable of the original model becomes, as a numpy array.

        Args:
            variable: The variable.
            value: Array that takes the place of its value, such as a moving average.
        """
        return rewrite.new_value(self, variable, value)

    # === Carrying it out ==============================================================
    def apply(
        self, noise: float | None = None, seed: int | None = None, verify: bool = True
    ) -> keras.Model:
        """Makes the new model. The original, and the plan, are left as they are.

        Args:
            noise: Standard deviation of the Gaussian noise put on the incoming weights
                of all but the first copy of each unit, relative to the standard
                deviation of the weight; by default what the plan holds. The function is
                kept exactly with 0, and for plans of ``shares="first"``, where those
                copies do not count yet.
            seed: Seed of the noise; by default what the plan holds.
            verify: Whether to run both models on one random batch and compare (two
                forward passes; one more of a copy with masked units where the plan
                prunes, and two more where the difference has to be told from rounding).

        Returns:
            A new `keras.Model`, not compiled: of the original's class where the class
            has a configuration with these widths, else a functional model.

        Raises:
            Net2NetError: If the new model does not compute what it should, or a layer
                cannot be rebuilt.
        """
        noise = self.noise if noise is None else noise
        seed = self.seed if seed is None else seed
        return applying.apply(self, noise=noise, seed=seed, verify=verify)

    def pairs(self, student: keras.Model) -> list:
        """Returns (old, new) for every variable of the model and what it became.

        Args:
            student: A model that `apply` made, or the same after saving and loading.

        Raises:
            Net2NetError: If the plan does not make such a model.
        """
        return applying.pairs_of(self, student)

    def inverse(self, student: keras.Model) -> "Plan":
        """Returns the plan that takes the copies back out of a model `apply` made.

        Args:
            student: The model, or the same after saving and loading.

        Raises:
            PlanError: If the plan dropped units or inserted layers.
            Net2NetError: If the plan does not make such a model; and when the inverse
                is applied, if the way back is not exact (shares that had to be put into
                the graph as constants stay there).
        """
        if self.insertions or not all(not m.drops_units for m in self.maps.values()):
            raise PlanError("Only a plan that widens can be inverted.")
        new_of = {id(old): new for old, new in self.pairs(student)}
        graph = ChannelGraph(student, keep_class=self.graph.keep_class)
        roles = {id(weight.variable): weight.roles for weight in graph.weights}
        maps = {}
        for group, index_map in self.maps.items():
            weight, axis, role = self.graph.members(group)[0]
            position = [part for part, _ in role.layout.segments].index(group)
            variable = new_of.get(id(weight.variable))
            if id(variable) not in roles:
                raise PlanError("This is not a model that the plan makes.")
            layout = roles[id(variable)][axis].layout
            maps[layout.segments[position][0]] = index_map.inverse()
        return Plan(graph, maps, summary=f"undo: {self.summary}", restores=True)

    # === Text =========================================================================
    def __repr__(self):
        before = parameters_under(self.graph, {})
        return (
            f"<Plan for '{self.model.name}': {self.summary}; {len(self.maps)} of "
            f"{len(self.graph.groups)} groups change; "
            f"{before:,} -> {self.parameters:,} parameters>"
        )

    def __str__(self):
        rows = [("variable", "axes", "shape", "", "new shape", "roles")]
        for path, axes, old, new, roles in self.changes():
            rows.append((path, _join(axes), _join(old), "->", _join(new), _join(roles)))
        for insertion in self.insertions:
            rows.append((f"+ {insertion.name}", "", "", "", "", f"{insertion}"))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [f"Plan for '{self.model.name}': {self.summary}"]
        lines += [f"  stays: {what}: {why}" for what, why in self.graph.fixed.items()]
        begins = len(lines)
        lines += [f"  {line}" for line in costs_under(self)] if self.maps else []
        for group, index_map in self.maps.items():
            lines.append(f"  {group.name}: {group.size} -> {index_map.new_size} units")
        for row in rows if len(rows) > 1 else []:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  " + "  ".join(cells).rstrip())
        lines += [f"  note: {warning}" for warning in self.warnings]
        if len(lines) == begins:
            lines.append("  nothing changes")
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """Returns the plan as plain data."""
        return {
            "version": _VERSION,
            "model": self.model.name,
            "summary": self.summary,
            "noise": self.noise,
            "seed": self.seed,
            "keep_class": self.graph.keep_class,
            "maps": {group.name: m.to_dict() for group, m in self.maps.items()},
            "insertions": [insertion.to_dict() for insertion in self.insertions],
        }

    @classmethod
    def from_dict(cls, values: dict, model: Any) -> "Plan":
        """Makes a plan for a model from what `to_dict` gives.

        Args:
            values: The plain data.
            model: The model it was made for, or one of the same structure. (Or its
                `ChannelGraph`.)

        Raises:
            PlanError: If it does not fit.
        """
        if not isinstance(values, dict) or values.get("version") not in _READABLE:
            raise PlanError(
                f"This is not a plan of version {' or '.join(map(str, _READABLE))}."
            )
        kind = _KINDS.get(values.get("kind"), cls)
        if not issubclass(cls, kind):
            return kind.from_dict(values, model)
        graph = as_graph(model, keep_class=values.get("keep_class", False))
        maps = {}
        for name, entry in values["maps"].items():
            maps[graph.group(name)] = IndexMap.from_dict(entry)
        insertions = [Insertion.from_dict(i) for i in values["insertions"]]
        return cls(
            graph,
            maps,
            insertions,
            values.get("summary", "change"),
            values.get("noise", 0.0),
            values.get("seed", 0),
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the plan to a JSON file; it appears complete or not at all."""
        path = os.fspath(path)
        aside = f"{path}.tmp"
        with open(aside, "w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)

    @classmethod
    def load(cls, path: str | os.PathLike, model: Any) -> "Plan":
        """Reads a plan that `save` wrote, for a model of the same structure."""
        with open(path, encoding="utf-8") as file:
            try:
                values = json.load(file)
            except json.JSONDecodeError as error:
                raise PlanError(f"'{path}' is not a plan: {error}.") from error
        return cls.from_dict(values, model)


def as_graph(model, strict=False, keep_class=False):
    """Returns the `ChannelGraph` of a model.

    Args:
        model: A built Keras model, its `ChannelGraph`, or the path of a saved model.
        strict: Whether to raise an error instead of keeping something as it is.
        keep_class: Whether only what its class can express may change.

    Raises:
        PlanError: If it is none of these.
    """
    if isinstance(model, ChannelGraph):
        if keep_class and not model.keep_class:
            return ChannelGraph(model.model, strict=strict, keep_class=True)
        return model
    if isinstance(model, str | os.PathLike):
        if not os.path.exists(model):
            raise PlanError(f"There is no saved model at '{os.fspath(model)}'.")
        model = keras.saving.load_model(model)
    if not isinstance(model, keras.Layer):
        raise PlanError(
            "model must be a built Keras model, its ChannelGraph, or the path of a "
            f"saved model; received {type(model).__name__}."
        )
    return ChannelGraph(model, strict=strict, keep_class=keep_class)


def _join(values):
    return ", ".join(map(str, values))
