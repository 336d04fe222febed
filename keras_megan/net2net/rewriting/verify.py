"""The check that every applied plan goes through: one batch, through both models.

A model that was widened or deepened must give what the original gives; one that was
pruned, what the original gives with the pruned units set to zero, where the plan knows
of no reason against it. Both run in inference.

How much of a difference is rounding is not a constant: a deep network can make a
million times as much of it as a flat one. So where the outputs differ by more than a
few units in the last place, the new model is run again with every weight rounded
differently. What that changes is rounding; what is far more is an error.
"""

import keras
import numpy as np

from keras_megan.net2net.rewriting.replay import NoChange
from keras_megan.net2net.rewriting.rewriter import Rewriter
from keras_megan.net2net.tracing.calls import Source
from keras_megan.net2net.tracing.nodes import layers_of

#: Differences of so many units in the last place need no second look.
_AT_ONCE = 32
#: How much more than another rounding of the weights the difference may be.
_MARGIN = 32
#: Copies of no share are not quite silent where a softmax or a norm divides by weights.
_SILENT_COPIES = 1e-7
#: Never rounding, whatever the network makes of it.
_NEVER = 1e-2
#: Sizes for axes that a model leaves open, tried in turn.
_OPEN_SIZES = (None, 16, 32, 64, 128, 224)


class Check:
    """Compares new models of a plan with what they should compute.

    Args:
        plan: The `Plan`.
    """

    def __init__(self, plan):
        self._plan = plan
        self._inputs = None
        self._expected = None
        self._ready = False

    def __call__(self, model):
        """Returns None if a model computes what it should, else the difference."""
        if not self._ready:
            self._ready = True
            self._prepare()
        if self._expected is None:
            return None
        received = run(model, self._inputs)
        difference = largest_difference(self._expected, received)
        unit = unit_in_the_last_place(model)
        silent = any(
            np.any((m.share == 0) & (m.source >= 0)) for m in self._plan.maps.values()
        )
        enough = max(_AT_ONCE * unit, _SILENT_COPIES if silent else 0.0)
        if difference <= enough:
            return None
        if difference <= max(_NEVER, enough):
            rounding = rounding_of(model, self._inputs, received, unit)
            if difference <= _MARGIN * rounding:
                return None
        return difference

    def _prepare(self):
        plan = self._plan
        if plan.restores or not any(m.drops_units for m in plan.maps.values()):
            reference = plan.model if plan.restores or plan.preserves_function else None
        else:
            reference = None if plan.warnings else masked_copy(plan)
        if reference is None:
            return
        self._inputs, expected = _first_that_runs(plan.graph, reference)
        if expected is None:
            return
        again = run(reference, self._inputs)
        unit = unit_in_the_last_place(reference)
        if largest_difference(expected, again) <= _AT_ONCE * unit:
            self._expected = expected

    def explain(self, difference):
        """Returns what to tell the user about a model that failed."""
        what = "the original with its pruned units at zero"
        if self._plan.restores or self._plan.preserves_function:
            what = "the original"
        text = (
            f"The new model does not compute what {what} does: on a random batch the "
            f"outputs differ by {difference:.1e} of the largest. "
        )
        try:
            name = self._first_difference()
        except Exception:  # The diagnosis must not hide the finding.
            name = None
        if name is not None:
            text += f"The first layer whose output differs is '{name}'. "
        if self._plan.restores:
            return text + "This plan cannot be undone; keep the original model."
        return text + (
            "Its rule, or that of a layer before it, does not fit what it computes; "
            "leave its width as it is, or pass verify=False if you know better."
        )

    def _first_difference(self):
        plan = self._plan
        old, new = Rewriter(NoChange(plan.graph), False), Rewriter(plan, False)
        values = []
        for rewriter in (old, new):
            rewriter.build()
            for before, after in rewriter.pairs:
                after.assign(
                    plan.new_value(before) if rewriter is new else before.value
                )
            for variable, value in rewriter.extras:
                variable.assign(value)
        calls = [
            call
            for call in plan.graph.graph.calls
            if not isinstance(call.operation, Source)
            and call.outputs
            and old.knows(call.outputs[0])
            and new.knows(call.outputs[0])
        ]
        for rewriter in (old, new):
            inputs, outputs = keras.tree.map_structure(
                rewriter.symbolic,
                (plan.graph.graph.inputs, [call.outputs[0] for call in calls]),
            )
            values.append(run(keras.Model(inputs, outputs), self._inputs))
        for call, before, after in zip(calls, *values, strict=True):
            layouts = plan.graph.layouts[id(call.outputs[0])]
            heard = np.ones(after.shape, dtype=bool)
            for axis, layout in enumerate(layouts):
                if plan.is_changed(layout):
                    index_map = plan.index_map(layout)
                    before = index_map.gather(before, axis)
                    shape = [1] * after.ndim
                    shape[axis] = index_map.new_size
                    heard = heard & np.reshape(index_map.share != 0, shape)
            if largest_difference([before * heard], [after * heard]) > 1e-3:
                return call.name
        return None


def run(model, inputs):
    """Returns the outputs of a model in inference as a flat list of arrays."""
    outputs = model(inputs, training=False)
    return [
        np.asarray(keras.ops.convert_to_numpy(x))
        for x in keras.tree.flatten(outputs)
        if x is not None
    ]


def largest_difference(expected, received):
    """Returns the largest difference of outputs, relative to each one's largest value.

    Infinity if their shapes, or the places of numbers that are not finite, differ.
    """
    if len(expected) != len(received):
        return float("inf")
    worst = 0.0
    for a, b in zip(expected, received, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if a.dtype.kind not in "biufcV":
            worst = max(worst, 0.0 if np.array_equal(a, b) else float("inf"))
            continue
        a, b = a.astype("float64"), b.astype("float64")
        finite = np.isfinite(a)
        if not np.array_equal(finite, np.isfinite(b)):
            return float("inf")
        if not finite.any():
            continue
        scale = np.max(np.abs(a[finite])) or 1.0
        worst = max(worst, float(np.max(np.abs(a[finite] - b[finite])) / scale))
    return worst


def unit_in_the_last_place(model):
    """Returns the relative precision of the coarsest data type a model computes in."""
    kinds = {layer.compute_dtype for layer in layers_of(model)}
    kinds |= {variable.dtype for variable in model.variables}
    precisions = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23}
    found = [precisions[kind] for kind in kinds if kind in precisions]
    return max(found, default=2.0**-52)


def rounding_of(model, inputs, received, unit):
    """Returns how much the outputs change if every weight is rounded differently."""
    random = np.random.default_rng(0)
    variables = [v for v in model.variables if "float" in v.dtype]
    values = [keras.ops.convert_to_numpy(v.value) for v in variables]
    worst = 0.0
    try:
        for _ in range(2):
            for variable, value in zip(variables, values, strict=True):
                signs = random.choice([-unit, unit], size=value.shape)
                variable.assign((value * (1.0 + signs)).astype(value.dtype))
            worst = max(worst, largest_difference(received, run(model, inputs)))
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    return worst


def masked_copy(plan):
    """Returns a copy of the original with the units that are left out at zero."""
    from keras_megan.net2net.rewriting.rewrite import ways

    made = next(ways(NoChange(plan.graph)))

    def masked(variable):
        value = np.array(keras.ops.convert_to_numpy(variable.value))
        weight = plan.weight_of(variable)
        for axis, role in weight.roles.items() if weight else ():
            if plan.is_changed(role.layout):
                index = [slice(None)] * value.ndim
                index[axis] = plan.index_map(role.layout).counts == 0
                value[tuple(index)] = 0
        return value

    return made.fill(masked)


# === A random batch ===================================================================
def _first_that_runs(graph, model):
    """Random inputs of a size that the model takes, and its outputs; None if none."""
    seeds = [v for v in model.variables if "int" in v.dtype]
    kept = [keras.ops.convert_to_numpy(v.value) for v in seeds]
    for size in _OPEN_SIZES:
        inputs = random_batch(graph, size)
        if inputs is None:
            return None, None
        try:
            return inputs, run(model, inputs)
        except Exception:  # Too small, too large, or not a multiple of something.
            continue
        finally:
            for variable, value in zip(seeds, kept, strict=True):
                variable.assign(value)
    return None, None


def random_batch(graph, size=None):
    """Returns random inputs of a model, or None where that makes no sense (text).

    Args:
        graph: The `ChannelGraph`.
        size: Size of the axes that the model leaves open, the batch apart; None for the
            sizes it was traced with.
    """
    random = np.random.default_rng(0)
    flat = keras.tree.flatten(graph.graph.inputs)
    values = []
    for tensor, traced in zip(flat, graph.graph.shapes, strict=True):
        shape = [
            known if known is not None else (2 if axis == 0 else size or traced[axis])
            for axis, known in enumerate(tensor.shape)
        ]
        if tensor.dtype == "string":
            return None
        if "float" in tensor.dtype:
            value = random.normal(size=shape)
        else:
            limit = 2 if tensor.dtype == "bool" else _limit(graph.graph, tensor)
            value = random.integers(0, limit, size=shape)
            if len(shape) > 1:
                # Something is there in every row, whatever zero may stand for.
                value[:, 0] = limit - 1
        values.append(keras.ops.convert_to_tensor(value, dtype=tensor.dtype))
    return keras.tree.pack_sequence_as(graph.graph.inputs, values)


def _limit(graph, tensor):
    """The numbers from 0 that an integer input may hold: what looks it up decides."""
    reached, limits = {id(tensor)}, []
    for call in graph.calls:
        if not any(id(x) in reached for x in call.inputs):
            continue
        if isinstance(call.operation, keras.Layer):
            parts = layers_of(call.operation)
            found = [
                p.input_dim for p in parts if isinstance(p, keras.layers.Embedding)
            ]
            found += [p.num_tokens for p in parts if hasattr(p, "num_tokens")]
            limits += [x for x in found if isinstance(x, int) and x > 0]
        reached |= {id(x) for x in call.outputs if "int" in x.dtype}
    return min(limits, default=2)
