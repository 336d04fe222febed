"""Pruning in steps, with training between them.

A network that loses a little, is trained, and loses a little more, ends better than one
that loses everything at once, as units that only now become the least important are
seen as such. How much is gone after each step is a *schedule*: a function of progress,
from 0 to 1, that gives a share of the whole way, from 0 to 1.
"""

import numbers
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_megan.net2net.channels.channel_graph import ChannelGraph
from keras_megan.net2net.counting.macs import count_macs, count_params
from keras_megan.net2net.plan import Plan, PlanError, as_graph
from keras_megan.net2net.pruning.latency import measure_latency
from keras_megan.net2net.pruning.prune import prune
from keras_megan.net2net.pruning.selecting import groups_of

#: Name -> function from progress to the share of the way.
SCHEDULES = {
    # The same in every step.
    "linear": lambda progress: progress,
    # Much at first, little at the end (Zhu & Gupta, arXiv:1710.01878, equation 1).
    "cubic": lambda progress: 1 - (1 - progress) ** 3,
}

_COSTS = {
    "parameters": lambda model, options: count_params(model),
    "macs": lambda model, options: count_macs(model, options.get("input_shape")),
    "latency": lambda model, options: (
        options.get("measure")
        or (lambda network: measure_latency(network, options.get("input_shape")))
    )(model),
}


def prune_gradually(
    model: Any,
    between: Callable[[keras.Model, Plan], keras.Model | None],
    ratio: float | None = None,
    *,
    steps: int = 5,
    schedule: str | Callable[[float], float] = "cubic",
    keep: Any = (),
    **options: Any,
) -> keras.Model:
    """Prunes in steps and calls a function after each, to train.

    Args:
        model: A built Keras model, its `ChannelGraph`, or the path of a saved model.
        between: Function (pruned model, `Plan`) called after every step. It trains the
            model in place, or returns another one of the same structure. The plan's
            `model` is the one before, whose optimizer
            `keras_megan.net2net.transfer_optimizer` carries over.
        ratio: Share of the units that is gone in the end. Or, by name, one of
            `parameters`, `macs` and `latency`, as in `keras_megan.net2net.prune`.
        steps: Number of steps.
        schedule: A key of `SCHEDULES`, or a function from progress to the share of the
            way, both from 0 to 1.
        keep: Layers that must not change; as in `keras_megan.net2net.prune`.
        **options: Other arguments of `keras_megan.net2net.prune`. The importance is
            measured again before every step.

    Returns:
        The last model. Sizes are rounded in every step, so a group may end a unit away
        from where pruning at once would end.

    Raises:
        PlanError: If the target, the schedule or an option makes no sense here.
    """
    if not callable(between):
        raise PlanError(
            "between must be a function (model, plan) that trains the model; received "
            f"{type(between).__name__}."
        )
    if not isinstance(steps, numbers.Integral) or steps < 1:
        raise PlanError(f"steps must be a positive integer, received {steps!r}.")
    if isinstance(options.get("importance"), dict):
        raise PlanError(
            "Scores by layer hold for one model only; give an importance that scores "
            "each model by itself."
        )
    refused = [name for name in ("widths", "ratios") if options.get(name)]
    if refused or isinstance(ratio, dict | str):
        raise PlanError(
            "Pruning in steps goes to a ratio between 0 and 1, parameters, macs or "
            f"latency; received {', '.join(refused) or f'ratio={ratio!r}'}."
        )
    way = _way(schedule, steps)
    graph = as_graph(
        model, options.get("strict", False), options.get("keep_class", False)
    )
    targets = _targets(graph.model, ratio, way, options)
    kept = groups_of(graph, keep)
    for target in targets:
        with warnings.catch_warnings():
            # A step may be smaller than a unit; the next one is larger by it.
            warnings.filterwarnings("ignore", message=".*stays as it is")
            plan = prune(graph, keep=kept, **{**options, **target})
        network = plan.apply()
        places = _places(plan, network, kept)
        trained = between(network, plan)
        network = network if trained is None else trained
        graph = ChannelGraph(network, keep_class=graph.keep_class)
        kept = _groups_at(graph, places)
    return network


def _targets(model, ratio, way, options):
    """One dict of arguments of `prune` per step."""
    given = [name for name in _COSTS if options.get(name) is not None]
    if len(given) + (ratio is not None) != 1:
        raise PlanError(
            f"Give exactly one of ratio, {', '.join(_COSTS)}; received "
            f"{', '.join(given) or 'none'}{' and ratio' if ratio is not None else ''}."
        )
    if ratio is not None:
        fits = isinstance(ratio, numbers.Real) and 0 < ratio < 1
        if not fits:
            raise PlanError(f"ratio must lie between 0 and 1, received {ratio!r}.")
        left = [1 - ratio * share for share in way]
        steps = zip([1.0, *left], left, strict=False)
        return [{"ratio": 1 - new / old} for old, new in steps if new < old]
    name = given[0]
    target = options.pop(name)
    before = _COSTS[name](model, options)
    return [{name: before + (target - before) * share} for share in way]


def _way(schedule, steps):
    """The share of the way after each step."""
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise PlanError(
                f"schedule must be a function, or one of {list(SCHEDULES)}; received "
                f"{schedule!r}."
            )
        schedule = SCHEDULES[schedule]
    way = [float(schedule(step / steps)) for step in range(1, steps + 1)]
    rises = all(a <= b for a, b in zip([0.0, *way], way, strict=False))
    if not rises or abs(way[-1] - 1) > 1e-9:
        raise PlanError(
            "A schedule rises from 0 to 1; this one gives "
            f"{[round(share, 3) for share in way]}."
        )
    return way


# === Layers that stay, from one model to the next =====================================
def _places(plan, network, groups):
    """Where each group is found in the new model: (variable, axis, segment)."""
    index_of = {id(variable): i for i, variable in enumerate(network.variables)}
    places = []
    if not groups:
        return places
    new_of = {id(old): new for old, new in plan.pairs(network)}
    for group in groups:
        for weight, axis, role in plan.graph.members(group):
            index = index_of.get(id(new_of.get(id(weight.variable))))
            if index is not None:
                segment = [part for part, _ in role.layout.segments].index(group)
                places.append((index, axis, segment))
                break
    return places


def _groups_at(graph, places):
    """The groups of a graph that lie where `_places` found them."""
    variables = graph.model.variables
    weights = {id(weight.variable): weight for weight in graph.weights}
    found = []
    for index, axis, segment in places:
        weight = weights.get(id(variables[index]))
        if weight is not None and axis in weight.roles:
            segments = weight.roles[axis].layout.segments
            found += [segments[segment][0]] if segment < len(segments) else []
    return [group for group in dict.fromkeys(found) if group.frozen is None]
