"""Whole blocks: taking residual branches out of a network.

Where a network adds x + F(x), F can go as a whole, which leaves x: less depth, so less
time, at the full width. Which branches do least is measured on data by *block
influence* (Men et al., ShortGPT, arXiv:2403.03853): one minus the mean cosine of what
enters the addition and what leaves it.
"""

import copy
import dataclasses
import difflib
import fnmatch
import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_megan.net2net.plan import Plan, PlanError, as_graph
from keras_megan.net2net.pruning.importances.data import Data
from keras_megan.net2net.rewriting import rewrite
from keras_megan.net2net.tracing.calls import Source, Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """A residual branch that may go.

    Attributes:
        name: Name of the addition.
        entry: The `Tensor` that enters, and stays in the branch's place.
        exit: The `Tensor` that the addition gives.
        calls: Names of the calls that go, the addition included.
    """

    name: str
    entry: Tensor
    exit: Tensor
    calls: frozenset


def residual_blocks(model: Any) -> list[str]:
    """Returns the names of all residual blocks that `remove_blocks` can take out.

    Args:
        model: A built Keras model (or its `ChannelGraph`, or its path).

    Returns:
        List of the names of their additions, in order of execution.
    """
    return [block.name for block in _find(as_graph(model))]


def remove_blocks(
    model: Any,
    blocks: str | Sequence[str] | None = None,
    *,
    depth: float | None = None,
    data: Any = None,
    batch_size: int = 32,
) -> "BlockPlan":
    """Plans a model with fewer residual blocks.

    Args:
        model: A built Keras model (or its `ChannelGraph`, or its path).
        blocks: Names of blocks (see `residual_blocks`) or patterns of them, one or a
            list. Or nothing, and `depth` and `data` choose:
        depth: How many blocks go: a number, or a share of all, below 1.
        data: Inputs on which the influence of every block is measured; those with the
            smallest go.
        batch_size: Batch size, where the data are not batched already.

    Returns:
        A `BlockPlan`.

    Raises:
        PlanError: If there is no such block, or not that many.
    """
    graph = as_graph(model)
    found = {block.name: block for block in _find(graph)}
    if (blocks is None) == (depth is None):
        raise PlanError("Give either blocks, their names, or depth and data.")
    if not found:
        raise PlanError(
            f"Model '{graph.model.name}' has no residual block x + F(x) that could go."
        )
    if blocks is not None:
        chosen = _named(found, [blocks] if isinstance(blocks, str) else list(blocks))
        return BlockPlan(graph, chosen)
    count = _count(depth, len(found))
    if data is None:
        raise PlanError("depth needs data, on which the blocks' influence is measured.")
    influence = block_influence(graph, data, batch_size)
    return BlockPlan(graph, sorted(influence, key=influence.__getitem__)[:count])


def block_influence(model: Any, data: Any, batch_size: int = 32) -> dict[str, float]:
    """Measures how much every residual block changes what passes it.

    Args:
        model: A built Keras model (or its `ChannelGraph`, or its path).
        data: Inputs.
        batch_size: Batch size, where the data are not batched already.

    Returns:
        Dict from a block's name to 1 - mean cosine(entry, exit), per sample.
    """
    graph = as_graph(model)
    blocks = _find(graph)
    tensors = [tensor for block in blocks for tensor in (block.entry, block.exit)]
    if not blocks:
        return {}
    probe = rewrite.probe(graph, tensors)
    sums, samples = np.zeros(len(blocks)), 0
    for batch in Data(data, batch_size).for_model(graph):
        outputs = keras.tree.flatten(probe.predict_on_batch(batch.inputs))
        values = [np.reshape(x, (batch.size, -1)).astype("float64") for x in outputs]
        for index in range(len(blocks)):
            entry, leaving = values[2 * index : 2 * index + 2]
            norms = np.linalg.norm(entry, axis=1) * np.linalg.norm(leaving, axis=1)
            cosine = np.sum(entry * leaving, axis=1) / np.maximum(norms, 1e-12)
            sums[index] += np.sum(1 - cosine)
        samples += batch.size
    return {
        block.name: float(s / samples) for block, s in zip(blocks, sums, strict=True)
    }


class BlockPlan(Plan):
    """A plan that takes residual blocks out.

    Args:
        graph: The model's `ChannelGraph`.
        removed: Names of the blocks.
    """

    preserves_function = False

    def __init__(self, graph, removed):
        found = {block.name: block for block in _find(graph)}
        self.removed = _named(found, removed)
        self.original = graph
        edited = _without(graph, [found[name] for name in self.removed])
        names = ", ".join(self.removed)
        super().__init__(edited, summary=f"remove {len(self.removed)} blocks: {names}")

    def apply(
        self, noise: float | None = None, seed: int | None = None, verify: bool = True
    ) -> keras.Model:
        """Makes the new model, a functional `keras.Model`; the original stays.

        The arguments are those of other plans; there is nothing here to add noise to,
        and nothing to compare with.
        """
        made = rewrite.replayed(self)
        return made.fill(lambda old: keras.ops.convert_to_numpy(old.value))

    def pairs(self, student):
        """Returns (old, new) for every variable that is left."""
        made = rewrite.replayed(self)
        wanted = [tuple(v.shape) for v in student.variables]
        if [tuple(v.shape) for v in made.model.variables] != wanted:
            raise PlanError(f"'{student.name}' is not a model that this plan makes.")
        place = {id(v): index for index, v in enumerate(made.model.variables)}
        return [(old, student.variables[place[id(new)]]) for old, new in made.pairs]

    @property
    def parameters(self) -> int:
        """Number of parameters of the new model."""
        used = {}
        for call in self.graph.graph.calls:
            operation = call.operation
            weights = getattr(operation, "weights", [])
            if isinstance(operation, Source) and operation.variable is not None:
                weights = [operation.variable]
            used.update({id(v): math.prod(v.shape) for v in weights})
        return sum(used.values())

    def __str__(self):
        lines = [f"Plan for '{self.model.name}': {self.summary}"]
        before = self.model.count_params()
        lines.append(f"  parameters {before:,} -> {self.parameters:,}")
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """Returns the plan as plain data."""
        return {**super().to_dict(), "kind": "BlockPlan", "removed": self.removed}

    @classmethod
    def from_dict(cls, values: dict, model: Any) -> "BlockPlan":
        """Makes a plan for a model from what `to_dict` gives."""
        if not isinstance(values, dict) or "removed" not in values:
            raise PlanError("This is not a plan that removes blocks.")
        return cls(as_graph(model), values["removed"])


def _count(depth, available):
    """How many blocks go."""
    is_number = isinstance(depth, numbers.Real) and not isinstance(depth, bool)
    whole = isinstance(depth, numbers.Integral)
    if not is_number or not 0 < depth or (not whole and depth >= 1):
        raise PlanError(
            "depth must be a number of blocks, or a share of them below 1; received "
            f"{depth!r}."
        )
    count = int(depth) if whole else max(1, round(depth * available))
    if count > available:
        raise PlanError(f"{count} blocks cannot go; the model has {available}.")
    return count


def _named(found, names):
    """The blocks of these names or patterns, in order of execution."""
    chosen = set()
    for name in names:
        matches = [name] if name in found else fnmatch.filter(found, str(name))
        if not matches:
            near = difflib.get_close_matches(str(name), found, n=3) or list(found)[:5]
            raise PlanError(f"No residual block {name!r}; there are {', '.join(near)}.")
        chosen.update(matches)
    return [name for name in found if name in chosen]


# === In the graph =====================================================================
def _find(graph):
    """All `Block`s of a model, in order of execution."""
    calls = graph.graph.calls
    producer = {id(tensor): call for call in calls for tensor in call.outputs}
    users = {}
    for call in calls:
        for tensor in call.inputs:
            users.setdefault(id(tensor), []).append(call)
    for tensor in keras.tree.flatten(graph.graph.outputs):
        users.setdefault(id(tensor), []).append(None)
    blocks = []
    for call in calls:
        if type(call.operation).__name__ != "Add" or len(call.inputs) != 2:
            continue
        for entry, branch in (call.inputs, call.inputs[::-1]):
            inside = _branch(entry, branch, call, producer, users)
            if inside and not _cuts_a_whole(graph, [*inside, call]):
                names = frozenset(c.name for c in [*inside, call])
                blocks.append(Block(call.name, entry, call.outputs[0], names))
                break
    return blocks


def _cuts_a_whole(graph, calls):
    """Whether calls are a part of a layer that can only be kept as a whole."""
    gone = {id(call) for call in calls}
    for region in graph.graph.regions:
        if region.whole is not None:
            own = {id(call) for call in graph.graph.calls[region.start : region.stop]}
            if own & gone and not own <= gone:
                return True
    return False


def _branch(entry, branch, add, producer, users):
    """The calls between `entry` and `branch`; None if they cannot go by themselves."""
    if entry is branch or entry.shape != branch.shape or entry.shape != _shape(add):
        return None
    inside, waiting, reached = {}, [branch], False
    while waiting:
        tensor = waiting.pop()
        if tensor is entry:
            reached = True
            continue
        call = producer.get(id(tensor))
        if call is None:
            return None
        if call.name not in inside:
            inside[call.name] = call
            waiting += call.inputs
    own = {id(call) for call in inside.values()} | {id(add)}
    for call in inside.values():
        for tensor in call.outputs:
            if any(id(user) not in own for user in users.get(id(tensor), [])):
                return None
    return list(inside.values()) if reached else None


def _shape(call):
    return call.outputs[0].shape


def _without(graph, blocks):
    """The graph with every block's exit replaced by its entry."""
    gone = frozenset().union(*(block.calls for block in blocks))
    entry_of = {id(block.exit): block.entry for block in blocks}

    def swap(leaf):
        while isinstance(leaf, Tensor) and id(leaf) in entry_of:
            leaf = entry_of[id(leaf)]
        return leaf

    calls, places = [], []
    for call in graph.graph.calls:
        places.append(len(calls))
        if call.name not in gone:
            args, kwargs = keras.tree.map_structure(swap, (call.args, call.kwargs))
            calls.append(dataclasses.replace(call, args=args, kwargs=kwargs))
    places.append(len(calls))
    regions = []
    for region in graph.graph.regions:
        own = graph.graph.calls[region.start : region.stop]
        if any(call.name in gone for call in own):
            continue  # It is laid out flat, or gone.
        parts = (region.args, region.kwargs, region.structure)
        args, kwargs, structure = keras.tree.map_structure(swap, parts)
        regions.append(
            dataclasses.replace(
                region,
                args=args,
                kwargs=kwargs,
                structure=structure,
                start=places[region.start],
                stop=places[region.stop],
            )
        )
    outputs = keras.tree.map_structure(swap, graph.graph.outputs)
    edited = copy.copy(graph)
    edited.graph = dataclasses.replace(
        graph.graph, calls=calls, outputs=outputs, regions=regions
    )
    return edited
