"""Budgets: the ratio at which a model costs no more than it may.

Parameters and multiply-adds follow from the sizes of the groups alone, so their ratio
is found by bisection to the last digit; then groups take back units, one group after
the other, as long as the budget allows: rounding, which moves many groups at once, does
not waste it. Latency is measured: every candidate is built and timed on the spot.
"""

import numbers

from keras_megan.net2net.channels.channel_graph import ChannelGraph, parameters_under
from keras_megan.net2net.channels.index_map import IndexMap
from keras_megan.net2net.counting.under_plan import macs_under
from keras_megan.net2net.plan import Plan, PlanError
from keras_megan.net2net.pruning.latency import measure_latency

_STEPS = 40
_MEASURED_STEPS = 6


def parameters_budget(choose, input_shape, measure):
    """Cost in parameters; see `BUDGETS`."""
    return lambda counts: parameters_under(choose.graph, counts)


def macs_budget(choose, input_shape, measure):
    """Cost in multiply-adds of one sample; see `BUDGETS`."""
    counting = ChannelGraph(choose.graph.model, input_shape, count=True)
    names = {group.name: group for group in counting.groups}
    return lambda counts: macs_under(
        counting, {names[g.name]: n for g, n in counts.items()}
    )


def latency_budget(choose, input_shape, measure):
    """Cost in seconds, measured; see `BUDGETS`."""
    measure = measure or (lambda model: measure_latency(model, input_shape))

    def cost(counts):
        maps = {g: IndexMap.keep(g.size, k) for g, k in choose.kept(counts).items()}
        return float(measure(Plan(choose.graph, maps).apply(verify=False)))

    return cost


#: Name -> (what it counts, number of bisections, whether the rest is used up, function
#: (chooser, input_shape, measure) -> cost(counts)).
BUDGETS = {
    "parameters": ("parameters", _STEPS, True, parameters_budget),
    "macs": ("multiply-adds", _STEPS, True, macs_budget),
    "latency": ("seconds", _MEASURED_STEPS, False, latency_budget),
}


def counts_within(name, target, choose, input_shape=None, measure=None):
    """Finds the largest sizes within a budget.

    Args:
        name: A key of `BUDGETS`.
        target: The budget.
        choose: A `keras_megan.net2net.pruning.choosing.Chooser`.
        input_shape: Shape of one sample, where the model leaves sizes open.
        measure: For latency: function from a model to seconds.

    Returns:
        (dict from `Group` to its number of units, one line that says what was done).

    Raises:
        PlanError: If the budget cannot be met.
    """
    what, steps, fill, make = BUDGETS[name]
    is_number = isinstance(target, numbers.Real) and not isinstance(target, bool)
    if not is_number or not target > 0:
        raise PlanError(f"{name} must be a number above zero, received {target!r}.")
    cost = make(choose, input_shape, measure)
    before = cost({})
    largest, smallest = choose.counts(0.0), choose.counts(1.0)
    line = f"prune to {_text(target)} {what} from {_text(before)}"
    if (cost(largest) if choose.ratios else before) <= target:
        return largest, line
    least = cost(smallest)
    if least > target:
        raise PlanError(
            f"{_text(target)} {what} cannot be reached: with the fewest units that "
            f"scope, keep and max_ratio allow, the model still has {_text(least)}."
        )
    low, high = 0.0, 1.0
    above, within = largest, smallest
    for _ in range(steps):
        middle = (low + high) / 2
        counts = choose.counts(middle)
        if counts == within or (counts != above and cost(counts) <= target):
            high, within = middle, counts
        else:
            low, above = middle, counts
    if fill:
        for group in within:
            if above[group] != within[group]:
                more = {**within, group: above[group]}
                if cost(more) <= target:
                    within = more
    return within, f"{line} (ratio {high:.3f})"


def _text(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"
