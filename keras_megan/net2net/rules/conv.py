"""Rules of convolutions.

A plain kernel (..., inputs, filters) reads the input channels and writes the filters. A
depthwise kernel (..., inputs, multiplier) writes both: output channel j * m + q belongs
to input channel j. In a grouped convolution the same change is made inside every group,
so that the number of groups stays; where every group holds one channel (a depthwise
convolution by another name), the groups themselves are the units.
"""

import keras

from keras_megan.net2net.channels.activations import (
    activation_of,
    is_linear_activation,
    is_mixing,
    is_per_channel,
)
from keras_megan.net2net.rules.base import reads, register_rule, writes


def settle_activation(site, layout):
    """Takes a layer's built-in activation into account on its output units."""
    function = activation_of(site.operation)
    if is_mixing(function):
        name = function.__name__
        site.freeze(layout, f"the {name} inside the layer mixes its units")
    elif not is_per_channel(function):
        site.freeze(layout, f"it is not known what the activation {function} does")
    elif not is_linear_activation(function):
        site.nonlinear(layout)


def _channel_axis(site, index=0):
    return len(site.inputs[index]) - 1 if site.channels_last else 1


@register_rule(
    keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, linear=True
)
def convolution(site):
    """Plain and grouped convolution, any stride, padding and dilation."""
    layer = site.operation
    channels = site.inputs[0][_channel_axis(site)]
    groups, filters = layer.groups, layer.filters
    kernel = layer.kernel
    if groups == 1:
        output = site.new("filters", filters)
        axes = {-2: reads(channels), -1: writes(output)}
    elif groups == channels.size:
        output = channels.blocks(filters // groups)
        site.nonlinear(channels)
        site.nonlinear(output)
        axes = {-1: writes(output)}
    else:
        inputs_of_group = site.new("group_inputs", channels.size // groups)
        site.unify(channels, inputs_of_group.repeat(groups))
        output = site.new("group_filters", filters // groups).repeat(groups)
        axes = {-2: reads(inputs_of_group), -1: writes(output)}
    site.setting("filters", output)
    if groups > 1 and groups == channels.size:
        site.setting("groups", channels)
    site.weight(kernel, axes)
    site.weight(layer.bias, {0: writes(output)})
    settle_activation(site, output)
    return site.pass_spatial(output)


@register_rule(
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    linear=True,
)
def transposed_convolution(site):
    """Transposed convolution: the kernel is (..., filters, inputs)."""
    layer = site.operation
    channels = site.inputs[0][_channel_axis(site)]
    output = site.new("filters", layer.filters)
    site.setting("filters", output)
    site.weight(layer.kernel, {-2: writes(output), -1: reads(channels)})
    site.weight(layer.bias, {0: writes(output)})
    settle_activation(site, output)
    return site.pass_spatial(output)


@register_rule(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
def depthwise_convolution(site):
    """Depthwise convolution: nothing is summed over channels, so nothing is shared."""
    layer = site.operation
    channels = site.inputs[0][_channel_axis(site)]
    output = channels.blocks(layer.depth_multiplier)
    site.weight(layer.kernel, {-2: writes(channels)})
    site.weight(layer.bias, {0: writes(output)})
    settle_activation(site, output)
    return site.pass_spatial(output)


@register_rule(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def separable_convolution(site):
    """Depthwise, then pointwise convolution, in one layer."""
    layer = site.operation
    channels = site.inputs[0][_channel_axis(site)]
    between = channels.blocks(layer.depth_multiplier)
    output = site.new("filters", layer.filters)
    site.setting("filters", output)
    site.weight(layer.depthwise_kernel, {-2: writes(channels)})
    site.weight(layer.pointwise_kernel, {-2: reads(between), -1: writes(output)})
    site.weight(layer.bias, {0: writes(output)})
    settle_activation(site, output)
    return site.pass_spatial(output)


# === Raw operations with the kernel as a second tensor ================================
def _read_kernel(site, channels, kernel_axis):
    """Lets the kernel read `channels`: as a weight of its own, or by a factor."""
    layout = site.inputs[1][kernel_axis]
    site.unify(layout, channels)
    if site.reads_source(1, kernel_axis):
        return

    def play(replay):
        if not replay.is_changed(channels):
            return replay.run_unchanged()
        x, kernel, *rest = replay.args
        axis = kernel_axis % len(kernel.shape)
        kernel = replay.multiply(kernel, axis, replay.index_map(channels).share)
        return replay.run(x, kernel, *rest, **replay.kwargs)

    site.replay(play)


def _freeze_window(site, count):
    for layout in site.inputs[1][:count]:
        site.freeze(layout, "it is the window of a convolution")


@register_rule("ops.Conv", "ops.ConvTranspose")
def raw_convolution(site):
    """`keras.ops.conv` and `conv_transpose`, the kernel being any tensor."""
    transposed = type(site.operation).__name__ == "ConvTranspose"
    channels = site.inputs[0][_channel_axis(site)]
    kernel = site.inputs[1]
    _freeze_window(site, len(kernel) - 2)
    read, written = (-1, -2) if transposed else (-2, -1)
    if kernel[read].size != channels.size:
        for layout in (channels, kernel[read], kernel[written]):
            site.freeze(layout, "a grouped keras.ops.conv")
    else:
        _read_kernel(site, channels, read)
    return site.pass_spatial(kernel[written])


@register_rule("ops.DepthwiseConv")
def raw_depthwise_convolution(site):
    """`keras.ops.depthwise_conv`, the kernel being any tensor."""
    channels = site.inputs[0][_channel_axis(site)]
    kernel = site.inputs[1]
    _freeze_window(site, len(kernel) - 2)
    site.unify(kernel[-2], channels)
    site.freeze(kernel[-1], "it is the multiplier of a depthwise convolution")
    return site.pass_spatial(channels.blocks(site.shapes[1][-1]))
