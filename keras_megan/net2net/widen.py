"""Net2WiderNet for whole models: which units are copied, and how often.

Widening adds copies of units and splits what their consumers get from them, so that the
wider model computes the same (Chen, Goodfellow & Shlens, arXiv:1511.05641). Here the
coupled group follows as a whole: widening one convolution of a residual stage widens
all of them, with the same copies everywhere.

Copies must not stay copies, or the width is wasted. By default (``shares="first"``) new
copies count nothing at first, so that noise on what they receive makes them different
units at once and is still exact. Unequal shares (``"random"``) are as exact, and give
the copies of a unit gradients of different size; but Adam and its kin divide that size
out again, and there copies part slowly (the channels of a network so widened had a
median cosine of 0.92 after 4,000 steps).
"""

import numbers
from typing import Any

import numpy as np

from keras_megan.net2net.channels.index_map import MEAN, ZERO, IndexMap
from keras_megan.net2net.plan import Plan, PlanError, as_graph
from keras_megan.net2net.widths import spread_width

_FILLERS = {"copies": None, "average": MEAN, "zero": ZERO}


def widen(
    model: Any,
    widths: dict[str, int] | float | None = None,
    factor: float | None = None,
    shares: str | None = None,
    choice: str = "balanced",
    fill: str = "copies",
    seed: int = 0,
    noise: float | None = None,
    strict: bool = False,
    keep_class: bool = False,
) -> Plan:
    """Plans a wider model that computes the same function.

    Args:
        model: A built Keras model (or its `ChannelGraph`).
        widths: Dict from a layer's name to its new width; ``"layer.setting"`` where a
            layer has several widths (``"attention.key_dim"``). The groups coupled to it
            follow. Or a number, the factor.
        factor: Instead: every group that can change grows by this factor, rounded.
        shares: ``"first"`` (new copies do not count yet; see above), the default;
            ``"random"`` (unequal, breaks the symmetry between copies for plain gradient
            descent), the default where something else is filled in; or ``"equal"``.
        choice: Which units are copied: ``"balanced"`` (in turn) or ``"random"`` (with
            replacement, as in the paper).
        fill: ``"copies"``; or what to add beyond whole copies of all units:
            ``"average"`` for streams that are layer-normalised (the layer stays a plain
            `LayerNormalization` at any width), ``"zero"`` for root-mean-square
            normalised ones. Both need operations that are linear in the channels.
        seed: Seed of all random choices.
        noise: Standard deviation of the noise on what new copies receive, relative to
            that of the weight: held in the plan, put on when it is applied. By default
            1 for ``shares="first"``, where it is exact, and 0 for others.
        strict: Whether to raise an error where an operation has no rule or a layer
            cannot be laid out, instead of keeping it as it is.
        keep_class: Whether the new model must be of the original's class: only widths
            that the class's configuration has change, and layers that it gives one
            number change alike. For methods such as ``generate``.

    Returns:
        A `Plan`.

    Raises:
        PlanError: If a width is smaller than now, or cannot be had.
        keras_megan.net2net.channels.channel_graph.UnknownLayerError: If a layer is not
        known.
    """
    if isinstance(widths, numbers.Real) and factor is None:
        widths, factor = None, widths
    if (widths is None) == (factor is None):
        raise PlanError("Give either widths, a dict, or factor, a number.")
    if widths is not None and not isinstance(widths, dict):
        raise PlanError(
            "widths must be a dict from a layer's name to its new width, or a factor; "
            f"received {widths!r}."
        )
    if shares is None:
        shares = "first" if fill == "copies" else "random"
    if noise is None:
        noise = 1.0 if shares == "first" else 0.0
    if not isinstance(noise, (int, float)) or not 0 <= noise < float("inf"):
        raise PlanError(f"noise must be a number from 0 up, received {noise!r}.")
    if fill not in _FILLERS:
        raise PlanError(f"fill must be one of {list(_FILLERS)}, received {fill!r}.")
    graph = as_graph(model, strict, keep_class)
    if factor is not None:
        if not isinstance(factor, (int, float)) or not factor > 1:
            raise PlanError(f"factor must be a number above 1, received {factor!r}.")
        sizes = {g: max(g.size, round(g.size * factor)) for g in graph.groups}
        summary = f"widen every group by {factor:g}"
    else:
        sizes = wanted_sizes(graph, widths)
        names = ", ".join(f"{k} to {v}" for k, v in (widths or {}).items())
        summary = f"widen {names}"
    random = np.random.default_rng(seed)
    maps = {}
    for group, size in sizes.items():
        if size < group.size:
            raise PlanError(
                f"'{group.name}' has {group.size} units; widening cannot make it "
                f"{size}. Use prune."
            )
        source = copied_units(group.size, size, choice, _FILLERS[fill], random)
        maps[group] = IndexMap.copies(
            group.size, source, shares, seed=int(random.integers(2**31))
        )
    return Plan(graph, maps, summary=summary, noise=noise, seed=seed)


def wanted_sizes(graph, widths):
    """Returns new group sizes for wanted widths of layers.

    Raises:
        PlanError: If two layers ask for different sizes of one group.
    """
    sizes, asked = {}, {}
    for name, width in widths.items():
        if not isinstance(width, numbers.Integral) or width < 1:
            raise PlanError(
                f"The width of '{name}' must be a positive integer, received {width!r}."
            )
        for group, size in spread_width(graph.width(name), int(width), name).items():
            if sizes.setdefault(group, size) != size:
                raise PlanError(
                    f"'{asked[group]}' and '{name}' belong to one group, "
                    f"'{group.name}', and cannot have {sizes[group]} and {size} units."
                )
            asked[group] = name
    return sizes


def copied_units(old_size, new_size, choice, filler, random):
    """Returns the source of each unit of a widened axis.

    Args:
        old_size, new_size: Numbers of units.
        choice: ``"balanced"`` or ``"random"``.
        filler: None, `MEAN` or `ZERO`: what is added beyond whole copies of all units.
        random: A numpy generator.

    Raises:
        PlanError: If `choice` is unknown.
    """
    if choice not in ("balanced", "random"):
        raise PlanError(f"choice must be 'balanced' or 'random', received {choice!r}.")
    if filler is not None:
        whole = np.tile(np.arange(old_size), new_size // old_size)
        return np.concatenate([whole, np.full(new_size - whole.size, filler)])
    if choice == "balanced":
        return np.arange(new_size) % old_size
    added = random.integers(old_size, size=new_size - old_size)
    return np.concatenate([np.arange(old_size), added])
