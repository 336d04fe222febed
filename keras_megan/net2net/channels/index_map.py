"""IndexMap: the one algebra under growing and pruning.

An `IndexMap` says what becomes of the units along one axis. New unit ``j`` copies old
unit ``source[j]``, and whoever consumes the axis weighs it by ``share[j]``:

    x'[j] = x[source[j]]                 (whoever writes the axis: gather)
    W'[j] = share[j] * W[source[j]]      (whoever reads it: gather and weigh)

so that ``sum_j W'[j] x'[j] = sum_i W[i] x[i]`` exactly when the shares of the copies of
every old unit sum to one. Net2Net (Chen, Goodfellow & Shlens, arXiv:1511.05641) uses
equal shares; unequal ones are just as exact and let the copies learn different things.

Widening repeats sources, pruning drops some, and the axis of a flattened or
concatenated tensor gets its map from the maps of its parts, by `concatenate`, `repeat`
and `blocks`.

A source may also be `MEAN`: the new unit is the average of all old ones. It needs a
share of zero, and it is what lets a layer-normalised stream take any width (LEMON,
arXiv:2310.07999). `ZERO` is a unit that is always zero, which does the same for
root-mean-square normalisation (Gesmundo & Maile, arXiv:2308.06103).
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_megan.net2net.errors import Net2NetError

MEAN = -1
ZERO = -2
#: What stands for the weight of copies that do not count where it is divided by.
SILENT = 1e-9


class IndexMapError(Net2NetError):
    """An index map that makes no sense."""


@dataclasses.dataclass(frozen=True, eq=False)
class IndexMap:
    """Where the units along a new axis come from, and how much each counts.

    Attributes:
        old_size: Number of units before.
        source: Integer array (new size,): old unit each new one copies, or `MEAN` or
            `ZERO`.
        share: Float array (new size,): weight of each new unit in its consumers.
    """

    old_size: int
    source: np.ndarray
    share: np.ndarray

    def __post_init__(self):
        source = np.asarray(self.source, dtype=np.int64).reshape(-1)
        share = np.asarray(self.share, dtype=np.float64).reshape(-1)
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "share", share)
        if source.shape != share.shape:
            raise IndexMapError(
                "source and share must have one entry per new unit, received "
                f"{source.size} and {share.size}."
            )
        if source.size == 0:
            raise IndexMapError("An axis must keep at least one unit.")
        if source.max() >= self.old_size or source.min() < ZERO:
            raise IndexMapError(
                f"Sources must lie in 0..{self.old_size - 1} (or be MEAN or ZERO), "
                f"received {source.min()}..{source.max()}."
            )
        if not np.all(np.isfinite(share)):
            raise IndexMapError("Shares must be finite numbers.")
        if np.any(share[source < 0] != 0):
            raise IndexMapError("A MEAN or ZERO unit must have a share of 0.")

    # === Ways to make one =============================================================
    @classmethod
    def identity(cls, size: int) -> "IndexMap":
        """Returns the map that changes nothing."""
        return cls(size, np.arange(size), np.ones(size))

    @classmethod
    def keep(cls, old_size: int, units: Any) -> "IndexMap":
        """Returns the map that keeps the given units, in the given order."""
        units = np.asarray(units, dtype=np.int64)
        return cls(old_size, units, np.ones(units.size))

    @classmethod
    def copies(
        cls, old_size: int, source: Any, shares: str = "equal", seed: int = 0
    ) -> "IndexMap":
        """Returns the map that repeats units, with shares that sum to one per unit.

        Args:
            old_size: Number of units before.
            source: Old unit of each new unit; every old unit must occur.
            shares: ``"equal"``; ``"random"`` for unequal positive shares (symmetric
                Dirichlet with concentration 10); ``"first"``: the first copy keeps all
                and the others count nothing yet. All are exact.
            seed: Seed of the random shares.

        Raises:
            IndexMapError: If an old unit has no copy, or `shares` is unknown.
        """
        source = np.asarray(source, dtype=np.int64)
        counts = np.bincount(source[source >= 0], minlength=old_size)
        if np.any(counts == 0):
            raise IndexMapError(
                f"Unit {int(np.argmin(counts))} of {old_size} would be lost; widening "
                "keeps every unit."
            )
        if shares == "equal":
            weight = np.ones(source.size)
        elif shares == "random":
            weight = np.random.default_rng(seed).gamma(10.0, size=source.size)
        elif shares == "first":
            weight = np.zeros(source.size)
            weight[np.unique(source, return_index=True)[1]] = 1.0
        else:
            raise IndexMapError(
                f"shares must be 'equal', 'random' or 'first', received {shares!r}."
            )
        weight = np.where(source >= 0, weight, 0.0)
        total = np.zeros(old_size)
        np.add.at(total, source[source >= 0], weight[source >= 0])
        share = np.where(source >= 0, weight / total[np.maximum(source, 0)], 0.0)
        return cls(old_size, source, share)

    # === Algebra ======================================================================
    def then(self, later: "IndexMap") -> "IndexMap":
        """Returns the map that does this one first and `later` second.

        A MEAN of the later map averages over this map's units, which is expressible
        only if this one keeps all units alike; anything else is refused.
        """
        if later.old_size != self.new_size:
            raise IndexMapError(
                f"A map of {later.old_size} units cannot follow one that makes "
                f"{self.new_size}."
            )
        if np.any(later.source == MEAN) and not self.is_uniform:
            raise IndexMapError("A MEAN over units that are copied unevenly.")
        taken = np.maximum(later.source, 0)
        source = np.where(later.source >= 0, self.source[taken], later.source)
        share = np.where(later.source >= 0, self.share[taken] * later.share, 0.0)
        return IndexMap(self.old_size, source, share)

    @staticmethod
    def concatenate(maps: Sequence["IndexMap"]) -> "IndexMap":
        """Returns the map of axes laid end to end."""
        offsets = np.cumsum([0] + [m.old_size for m in maps])
        source = [
            np.where(m.source >= 0, m.source + offset, m.source)
            for m, offset in zip(maps, offsets[:-1], strict=True)
        ]
        if len(maps) > 1 and any(np.any(m.source == MEAN) for m in maps):
            raise IndexMapError("A MEAN unit cannot be part of a concatenated axis.")
        share = [m.share for m in maps]
        return IndexMap(int(offsets[-1]), np.concatenate(source), np.concatenate(share))

    def repeat(self, times: int) -> "IndexMap":
        """Returns the map of this axis laid end to end `times` times (p * C + c)."""
        return self if times == 1 else IndexMap.concatenate([self] * times)

    def blocks(self, size: int) -> "IndexMap":
        """Returns the map of an axis where each unit is a block of `size` positions."""
        if size == 1:
            return self
        if np.any(self.source == MEAN):
            raise IndexMapError("A MEAN unit cannot be a block of several positions.")
        within = np.arange(size)
        source = np.where(
            self.source[:, None] >= 0,
            self.source[:, None] * size + within,
            self.source[:, None],
        )
        return IndexMap(self.old_size * size, source, np.repeat(self.share, size))

    def inverse(self) -> "IndexMap":
        """Returns the map that takes the first copy of every unit back out.

        ``map.then(map.inverse())`` is the identity, shares included.

        Raises:
            IndexMapError: If a unit is gone, or its first copy has a share of zero.
        """
        units, first = np.unique(self.source, return_index=True)
        first = first[units >= 0]
        if first.size != self.old_size or np.any(self.share[first] == 0):
            raise IndexMapError("A map that drops units has no inverse.")
        return IndexMap(self.new_size, first, 1.0 / self.share[first])

    # === Facts ========================================================================
    @property
    def new_size(self) -> int:
        """Number of units after."""
        return int(self.source.size)

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return (
            self.new_size == self.old_size
            and np.array_equal(self.source, np.arange(self.old_size))
            and bool(np.all(self.share == 1.0))
        )

    @property
    def counts(self) -> np.ndarray:
        """Integer array (old size,): how many copies each old unit has."""
        return np.bincount(self.source[self.source >= 0], minlength=self.old_size)

    @property
    def is_uniform(self) -> bool:
        """Whether all old units have equally many copies, and nothing is added."""
        counts = self.counts
        return bool(np.all(self.source >= 0)) and bool(np.all(counts == counts[0]))

    @property
    def drops_units(self) -> bool:
        """Whether an old unit is gone."""
        return bool(np.any(self.counts == 0))

    @property
    def preserves(self) -> bool:
        """Whether the shares of every old unit sum to one: the function is kept."""
        total = np.zeros(self.old_size)
        real = self.source >= 0
        np.add.at(total, self.source[real], self.share[real])
        return bool(np.allclose(total, 1.0, rtol=0, atol=1e-9))

    @property
    def balance(self) -> np.ndarray:
        """Float array (new size,): 1 / number of copies of the same unit that count.

        0 for units that were added and for copies with a share of 0. These weights make
        any sum over the new axis equal the sum over the old one.
        """
        counting = (self.source >= 0) & (self.share != 0)
        counts = np.bincount(self.source[counting], minlength=self.old_size)
        counts = counts[np.maximum(self.source, 0)]
        return np.where(counting, 1.0 / np.maximum(counts, 1), 0.0)

    @property
    def positive_balance(self) -> np.ndarray:
        """`balance` with next to nothing in place of 0: to divide by, to take logs."""
        return np.maximum(self.balance, SILENT)

    # === Use ==========================================================================
    def gather(self, array: Any, axis: int) -> np.ndarray:
        """Returns an array whose `axis` is written through this map (copies)."""
        array = np.asarray(array)
        result = np.take(array, np.maximum(self.source, 0), axis=axis)
        for special, filler in ((MEAN, "mean"), (ZERO, "zero")):
            where = self.source == special
            if np.any(where):
                index = [slice(None)] * array.ndim
                index[axis] = where
                value = array.mean(axis=axis, keepdims=True) if filler == "mean" else 0
                result[tuple(index)] = value
        return result

    def weigh(self, array: Any, axis: int) -> np.ndarray:
        """Returns an array whose `axis` reads through this map (times shares)."""
        array = np.asarray(array)
        shape = [1] * array.ndim
        shape[axis] = self.new_size
        return np.take(array, np.maximum(self.source, 0), axis=axis) * np.reshape(
            self.share, shape
        )

    # === Text =========================================================================
    def to_dict(self) -> dict[str, Any]:
        """Returns the map as plain lists and numbers."""
        return {
            "old_size": int(self.old_size),
            "source": self.source.tolist(),
            "share": self.share.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "IndexMap":
        """Makes a map from what `to_dict` gives."""
        return cls(values["old_size"], values["source"], values["share"])

    def __eq__(self, other):
        return (
            isinstance(other, IndexMap)
            and self.old_size == other.old_size
            and np.array_equal(self.source, other.source)
            and np.array_equal(self.share, other.share)
        )

    def __repr__(self):
        shown = json.dumps(self.source[:6].tolist())[1:-1]
        dots = ", ..." if self.new_size > 6 else ""
        return f"IndexMap({self.old_size} -> {self.new_size}: [{shown}{dots}])"
