"""Importances: how much each unit of a group of channels matters.

An importance is a small class with one method: `scores(graph)` gives an array per group
of channels, one number per unit; the smallest are pruned first. A group's units appear
in many variables (a residual stage's channels are written by several convolutions), so
the contributions of all of them are added ("group-wise sum", as in Torch-Pruning's
DepGraph, Fang et al., arXiv:2301.12900), each divided by its mean so that no variable
dominates, and the sum is divided by its own mean so that groups can be compared.

Write one's own by subclassing `Importance`.
"""

import keras
import numpy as np

from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.gradients import summed_gradients
from keras_megan.net2net.rewriting import rewrite
from keras_megan.net2net.rules.activations import activation_of, is_linear_activation


class ImportanceError(Net2NetError):
    """Scores cannot be had, or have the wrong shape."""


class Importance:
    """Base class: scores from the variables that carry a group."""

    def scores(self, graph):
        """Returns a dict from `Group` to an array (units,), mean 1 where possible.

        Args:
            graph: The `ChannelGraph` of the model.
        """
        return {group: self._score(graph, group) for group in graph.groups}

    def of_weight(self, weight, axis, role):
        """Returns one number per position along a variable's axis, or None.

        Args:
            weight: The `keras_megan.net2net.rules.base.Weight`.
            axis: Axis of the variable.
            role: Its `AxisRole`; `role.reads` tells readers from writers.
        """
        raise NotImplementedError

    def _score(self, graph, group):
        total = np.zeros(group.size)
        for weight, axis, role in graph.members(group):
            values = self.of_weight(weight, axis, role)
            if values is not None:
                total += normalized(sum_per_unit(role.layout, group, values))
        return normalized(total)


class FilterNorm(Importance):
    """The norm of the weights that write a unit (Li et al., arXiv:1608.08710).

    Args:
        order: 1 for the sum of absolute values, 2 for the Euclidean norm.
    """

    def __init__(self, order=1):
        if order not in (1, 2):
            raise ImportanceError(f"order must be 1 or 2, received {order!r}.")
        self.order = order

    def of_weight(self, weight, axis, role):
        if role.reads or len(weight.variable.shape) < 2:
            return None
        value = np.abs(value_of(weight.variable))
        others = tuple(a for a in range(value.ndim) if a != axis)
        if self.order == 1:
            return value.sum(axis=others)
        return np.sqrt(np.square(value).sum(axis=others))


class BatchNormScale(FilterNorm):
    """The size of batch normalisation's gamma (Liu et al., arXiv:1708.06519).

    Groups without a batch normalisation are scored by the filter norm.
    """

    def scores(self, graph):
        gammas = {
            id(follow.operation.gamma)
            for follow in graph.follows.values()
            if isinstance(follow.operation, keras.layers.BatchNormalization)
            and follow.operation.scale
        }
        result = {}
        for group in graph.groups:
            total = np.zeros(group.size)
            for weight, _, role in graph.members(group):
                if id(weight.variable) in gammas:
                    values = np.abs(value_of(weight.variable))
                    total += normalized(sum_per_unit(role.layout, group, values))
            has_scale = bool(total.any())
            result[group] = (
                normalized(total) if has_scale else self._score(graph, group)
            )
        return result


class RandomImportance(Importance):
    """Random numbers, the baseline.

    Args:
        seed: Seed.
    """

    def __init__(self, seed=0):
        self.seed = seed

    def scores(self, graph):
        random = np.random.default_rng(self.seed)
        return {group: random.random(group.size) for group in graph.groups}


class ActivationDensity(FilterNorm):
    """The share of non-zero activations of a unit (cf. arXiv:2002.02949).

    Measured on data, behind every activation that carries the unit. Groups that never
    pass an activation are scored by the filter norm.

    Args:
        data: Inputs as `model.predict` takes them: an array, a list or a dict.
        batch_size: Batch size.
    """

    def __init__(self, data, batch_size=32):
        super().__init__()
        self.data = data
        self.batch_size = batch_size

    def scores(self, graph):
        densities = self.densities(graph)
        return {
            group: densities[group] if group in densities else self._score(graph, group)
            for group in graph.groups
        }

    def densities(self, graph):
        """Returns a dict from `Group` to the density (0 to 1) of each unit."""
        tensors = _activated_tensors(graph)
        if not tensors:
            return {}
        probe = rewrite.probe(graph, tensors)
        sums = [0.0] * len(tensors)
        count = 0
        for batch, size in _batches(self.data, self.batch_size):
            outputs = keras.tree.flatten(probe.predict_on_batch(batch))
            for index, output in enumerate(outputs):
                sums[index] = sums[index] + _share_of_nonzero(output) * size
            count += size
        result = {}
        for tensor, total in zip(tensors, sums, strict=True):
            layout = graph.layouts[id(tensor)][_channel_axis(graph, tensor)]
            for group in layout.groups:
                if group.frozen is None:
                    share = unit_mean(layout, group, total / count)
                    result.setdefault(group, []).append(share)
        return {group: np.mean(shares, axis=0) for group, shares in result.items()}


class Taylor(Importance):
    """First-order Taylor: |sum of weight * gradient| (Molchanov, arXiv:1906.10771).

    Args:
        data: Pair (inputs, targets).
        loss: A Keras loss, or its name.
        batch_size: Batch size; the gradients of all batches are added.
    """

    def __init__(self, data, loss, batch_size=32):
        self.data = data
        self.loss = loss
        self.batch_size = batch_size
        self._gradients = {}

    def scores(self, graph):
        self._gradients = summed_gradients(graph, self.data, self.loss, self.batch_size)
        try:
            return super().scores(graph)
        finally:
            self._gradients = {}

    def of_weight(self, weight, axis, role):
        gradient = self._gradients.get(id(weight.variable))
        if role.reads or gradient is None:
            return None
        product = value_of(weight.variable) * gradient
        return np.abs(product.sum(axis=_others(product, axis)))


# === Helpers ==========================================================================
def value_of(variable):
    """Returns a variable's value as float64."""
    return np.asarray(keras.ops.convert_to_numpy(variable.value), dtype=np.float64)


def normalized(values):
    """Returns values divided by their mean; unchanged if that is zero."""
    mean = float(np.mean(values)) if np.size(values) else 0.0
    return values / mean if mean > 0 else values


def sum_per_unit(layout, group, values):
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


def unit_mean(layout, group, values):
    """Like `sum_per_unit`, divided by the number of positions per unit."""
    positions = sum(inner for part, inner in layout.segments if part is group)
    return sum_per_unit(layout, group, values) / positions


def _others(array, axis):
    return tuple(a for a in range(array.ndim) if a != axis)


def _channel_axis(graph, tensor):
    layouts = graph.layouts[id(tensor)]
    open_axes = [a for a, x in enumerate(layouts) if not x.opaque and not x.is_fixed]
    return open_axes[-1]


def _activated_tensors(graph):
    """The outputs of all activations with exactly one axis that can change."""
    kinds = (
        keras.layers.Activation,
        keras.layers.ReLU,
        keras.layers.LeakyReLU,
        keras.layers.ELU,
        keras.layers.PReLU,
    )
    raw = {"Relu", "Relu6", "Gelu", "Silu", "LeakyRelu", "Elu", "Sigmoid", "Tanh"}
    found = []
    for call in graph.graph.calls:
        operation = call.operation
        activates = isinstance(operation, kinds) or type(operation).__name__ in raw
        if isinstance(operation, keras.Layer) and not activates:
            function = activation_of(operation)
            activates = function is not None and not is_linear_activation(function)
        if not activates:
            continue
        layouts = graph.layouts[id(call.outputs[0])]
        free = [x for x in layouts if not x.opaque and not x.is_fixed]
        if len(free) == 1:
            found.append(call.outputs[0])
    return found


def _share_of_nonzero(output):
    output = np.asarray(output)
    return np.mean(output != 0, axis=tuple(range(output.ndim - 1)))


def _batches(data, batch_size):
    flat = keras.tree.flatten(data)
    count = len(flat[0])
    if count == 0 or any(len(array) != count for array in flat):
        raise ImportanceError(
            "The data must hold at least one sample, and the same number for every "
            f"input; received {[len(array) for array in flat]}."
        )
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        cut = [array[start:stop] for array in flat]
        yield keras.tree.pack_sequence_as(data, cut), stop - start
