"""Rules of softmax and of activation layers.

A softmax over an axis with copies would count a logit once per copy. The logarithm of
each copy's weight (1 / number of copies) is added to the logits, and the result divided
by the weight, so that every copy has the probability of its original.
"""

import keras
import numpy as np

from keras_megan.net2net.channels.activations import activation_of, is_mixing
from keras_megan.net2net.channels.layout import Layout
from keras_megan.net2net.rules.base import register_rule
from keras_megan.net2net.rules.normalization import normalized_axes


def softmax_over(site, axes, logarithmic=False):
    """Softmax over axes that may change: copies share one logit's probability."""
    layouts = [site.inputs[0][axis] for axis in axes]
    if len(site.inputs) > 1 or len(site.call.inputs) > 1:
        for layout in layouts:
            site.freeze(layout, "a masked softmax runs over it")
    if all(layout.opaque or layout.is_fixed for layout in layouts):
        return site.inputs[0]
    site.inexact_when_pruned(layouts, "softmax mixes its channels")
    site.hears_every_copy(layouts)

    def play(replay):
        x, *rest = replay.args
        changed = [
            (axis, replay.index_map(layout).positive_balance)
            for axis, layout in zip(axes, layouts, strict=True)
            if replay.is_changed(layout)
        ]
        for axis, balance in changed:
            x = replay.add(x, axis, np.log(balance))
        x = replay.run(x, *rest, **replay.kwargs)
        for axis, balance in changed:
            if logarithmic:
                x = replay.add(x, axis, -np.log(balance))
            else:
                x = replay.multiply(x, axis, 1.0 / balance)
        return x

    site.replay(play)
    return site.inputs[0]


@register_rule(keras.layers.Softmax, "ops.Softmax", "ops.LogSoftmax")
def softmax(site):
    """Softmax or its logarithm, as a layer or an operation."""
    axes = normalized_axes(site.operation.axis, len(site.inputs[0]))
    logarithmic = type(site.operation).__name__ == "LogSoftmax"
    return softmax_over(site, axes, logarithmic)


@register_rule(keras.layers.Activation)
def activation(site):
    """An activation layer: per channel, or a softmax over the last axis."""
    function = activation_of(site.operation)
    last = len(site.inputs[0]) - 1
    if function is keras.activations.softmax:
        return softmax_over(site, [last])
    if function is keras.activations.log_softmax:
        return softmax_over(site, [last], logarithmic=True)
    if is_mixing(function):
        channels = site.inputs[0][last]
        site.freeze(channels, f"{function.__name__} mixes its channels")
        if function is keras.activations.glu:
            return [*site.inputs[0][:-1], Layout.fixed(site.output_shapes[0][-1])]
    return site.inputs[0]
