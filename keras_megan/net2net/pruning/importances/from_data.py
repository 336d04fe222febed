"""Importances that look at what units do on data.

All take data in the forms that the module `data` beside this one reads: an array of
inputs, a tuple (inputs, targets), a ``tf.data.Dataset`` and so on.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_megan.net2net.channels.activations import activation_of, is_linear_activation
from keras_megan.net2net.channels.channel_graph import ChannelGraph
from keras_megan.net2net.channels.layout import Group
from keras_megan.net2net.pruning.importances.data import Data
from keras_megan.net2net.pruning.importances.from_weights import FilterNorm
from keras_megan.net2net.pruning.importances.gradients import gradients_per_batch
from keras_megan.net2net.pruning.importances.importance import (
    Importance,
    ImportanceError,
    normalized,
    other_axes,
    register_importance,
    sum_per_unit,
    unit_mean,
    value_of,
)
from keras_megan.net2net.rewriting import rewrite


class _FromGradients(Importance):
    """What `Taylor` and `HessianDiagonal` share.

    Args:
        data: Inputs and targets: a tuple, or a data set of batches.
        loss: A Keras loss, or its name. By default the one the model was compiled with.
        batch_size: Samples per gradient, where the data are not batched already.
    """

    def __init__(self, data: Any, loss: Any = None, batch_size: int = 8):
        self.data = Data(data, batch_size)
        try:
            self.loss = keras.losses.get(loss)
        except (ValueError, TypeError) as error:
            raise ImportanceError(f"{loss!r} is not a Keras loss: {error}") from error

    def gradients(
        self, graph: ChannelGraph
    ) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
        """Yields (number of samples, dict from a variable's id to its gradient)."""
        loss = self.loss
        if loss is None:
            loss = getattr(graph.model, "loss", None)
        kind = type(self).__name__
        if loss is None:
            raise ImportanceError(
                f"{kind} needs a loss: give {kind}(data, loss), or compile the model."
            )
        if next(iter(self.data)).targets is None:
            raise ImportanceError(
                f"{kind} needs targets: give the data as a tuple (inputs, targets), or "
                "as a data set of such tuples."
            )
        return gradients_per_batch(graph, self.data, loss)


@register_importance("taylor")
class Taylor(_FromGradients):
    """How much the loss would change without the unit, to first order.

    The change of the loss when the output of a unit is scaled is the sum of weight
    times gradient over all weights that read the unit. Its square is averaged over
    batches (Molchanov et al., arXiv:1906.10771); the scores are the roots, divided by
    the mean of the group. Undivided, units of wide layers, each of which does little,
    would all go before a narrow layer lost its first. Units that no weight reads are
    scored by the weights that write them.

    Args:
        data: Inputs and targets: a tuple, or a data set of batches.
        loss: A Keras loss, or its name. By default the one the model was compiled with.
        batch_size: Samples per gradient, where the data are not batched already. Small
            batches see effects that cancel over many samples.
    """

    def scores(self, graph: ChannelGraph) -> dict[Group, np.ndarray]:
        members = {group: graph.members(group) for group in graph.groups}
        totals = {group: np.zeros(group.size) for group in members}
        samples = 0
        for count, gradients in self.gradients(graph):
            for group, axes in members.items():
                totals[group] += count * np.square(_effect(group, axes, gradients))
            samples += count
        return {g: normalized(np.sqrt(total / samples)) for g, total in totals.items()}


def _effect(group, members, gradients):
    """The first-order change of the loss with the size of each unit."""
    known = [m for m in members if id(m[0].variable) in gradients]
    readers = [member for member in known if member[2].reads]
    total = np.zeros(group.size)
    for weight, axis, role in readers or known:
        product = value_of(weight.variable) * gradients[id(weight.variable)]
        values = product.sum(axis=other_axes(product, axis))
        total += sum_per_unit(role.layout, group, values)
    return total


@register_importance("hessian_diagonal")
class HessianDiagonal(_FromGradients):
    """How much the loss would grow without the unit's weights, to second order.

    Optimal brain damage (LeCun, Denker & Solla, 1989): half the sum of weight squared
    times the diagonal of the Hessian, over all weights that go with the unit. The
    diagonal is estimated by the mean square of gradients of small batches (the
    empirical Fisher information), for a trained network. Divided by the mean of the
    group, as for `Taylor`.

    Args:
        data: Inputs and targets: a tuple, or a data set of batches.
        loss: A Keras loss, or its name. By default the one the model was compiled with.
        batch_size: Samples per gradient, where the data are not batched already.
    """

    def scores(self, graph: ChannelGraph) -> dict[Group, np.ndarray]:
        curvature: dict[int, Any] = {}
        samples = 0
        for count, gradients in self.gradients(graph):
            for key, gradient in gradients.items():
                # The gradient is a mean; its square times the number of samples
                # estimates the mean square of a sample's gradient.
                squares = count * count * np.square(gradient)
                curvature[key] = curvature.get(key, 0.0) + squares
            samples += count
        result = {}
        for group in graph.groups:
            total = np.zeros(group.size)
            for weight, axis, role in graph.members(group):
                if id(weight.variable) in curvature:
                    value = np.square(value_of(weight.variable))
                    value = value * curvature[id(weight.variable)] / samples / 2
                    values = value.sum(axis=other_axes(value, axis))
                    total += sum_per_unit(role.layout, group, values)
            result[group] = normalized(total)
        return result


@register_importance("activation_density")
class ActivationDensity(FilterNorm):
    """The share of non-zero activations of a unit (cf. arXiv:2002.02949).

    Measured on data, behind every activation that carries the unit. Groups that never
    pass an activation are scored by the filter norm, scaled to the mean of the
    densities.

    Args:
        data: Inputs; targets are ignored.
        batch_size: Batch size, where the data are not batched already.
    """

    def __init__(self, data: Any, batch_size: int = 32):
        super().__init__()
        self.data = Data(data, batch_size)

    def scores(self, graph: ChannelGraph) -> dict[Group, np.ndarray]:
        densities = self.densities(graph)
        scale = np.mean(np.concatenate(list(densities.values()))) if densities else 1.0
        return {
            group: densities[group]
            if group in densities
            else self.of_group(graph, group) * scale
            for group in graph.groups
        }

    def densities(self, graph: ChannelGraph) -> dict[Group, np.ndarray]:
        """Returns a dict from `Group` to the density (0 to 1) of each unit."""
        tensors = _activated_tensors(graph)
        if not tensors:
            return {}
        probe = rewrite.probe(graph, tensors)
        sums: list[Any] = [0.0] * len(tensors)
        count = 0
        for batch in self.data.for_model(graph):
            outputs = keras.tree.flatten(probe.predict_on_batch(batch.inputs))
            for index, output in enumerate(outputs):
                sums[index] = sums[index] + _share_of_nonzero(output) * batch.size
            count += batch.size
        result: dict[Group, list[np.ndarray]] = {}
        for tensor, total in zip(tensors, sums, strict=True):
            layout = graph.layouts[id(tensor)][_channel_axis(graph, tensor)]
            for group in layout.groups:
                if group.frozen is None:
                    share = unit_mean(layout, group, total / count)
                    result.setdefault(group, []).append(share)
        return {group: np.mean(shares, axis=0) for group, shares in result.items()}


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
