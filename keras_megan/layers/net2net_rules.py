"""What growing, pruning and counting need to know about MEGAN's leaves.

net2net knows nothing of this package; each leaf is registered here with one rule
(how channels pass through it, which variables follow) and, where it multiplies, with
its multiply-adds. Composites need neither: net2net lays them out.

Channels that carry geometry (displacements, masks) or are compared as a whole
(matching features) are frozen, with the reason that users will read.
"""

import math

import numpy as np

from keras_megan import net2net
from keras_megan.layers.attention.adaptive_pooling import AdaptiveAveragePooling
from keras_megan.layers.attention.memory_graph import ChannelGraphAttention
from keras_megan.layers.attention.non_local import SpatialAttention
from keras_megan.layers.frames import (
    AddToFrames,
    ChannelsToFrames,
    FoldFrames,
    FramesToChannels,
    InterleaveFrames,
    JoinNeighbours,
    SelectFrames,
    UnfoldFrames,
)
from keras_megan.layers.motion.deformable_conv2d import DeformableConv2D
from keras_megan.layers.motion.frame_interpolation import OcclusionBlend
from keras_megan.layers.motion.large_alignment import LargeAlignment
from keras_megan.layers.motion.large_interpolation import (
    LeftShare,
    MotionAtTime,
    PixelUnshuffle,
)
from keras_megan.layers.motion.motion_field import BilateralCorrelation, NoMotion
from keras_megan.layers.motion.neighbour_fusion import MotionToNeighbours
from keras_megan.layers.motion.window_alignment import BLOCK, WindowAlignment
from keras_megan.layers.pixels.bilinear_upsampling import BilinearUpsampling
from keras_megan.layers.pixels.padding import CropToScale, PadToMultiple
from keras_megan.layers.pixels.reconstruction import PixelShuffle
from keras_megan.net2net.rules.base import reads, writes


def _with_channels(site, channels):
    """The output's axes: everything fixed but the channels."""
    *others, _ = site.output_shapes[0]
    return [*(site.fixed(size) for size in others), channels]


# === Channels pass through ============================================================
@net2net.register_rule(
    AdaptiveAveragePooling,
    FoldFrames,
    UnfoldFrames,
    SelectFrames,
    PadToMultiple,
    CropToScale,
    BilinearUpsampling,
    linear=True,
)
def _same_channels(site):
    return _with_channels(site, site.inputs[0][-1])


@net2net.register_rule(InterleaveFrames, AddToFrames, linear=True)
def _two_of_the_same_channels(site):
    first, second = (axes[-1] for axes in site.inputs)
    site.unify(first, second)
    return _with_channels(site, first)


@net2net.register_rule(NoMotion)
def _no_motion(site):
    return _with_channels(site, site.fixed(4, "displacements are geometry"))


@net2net.register_rule(WindowAlignment, LargeAlignment)
def _window_alignment(site):
    features, offsets = (axes[-1] for axes in site.inputs)
    site.freeze(offsets, "displacements are geometry")
    return _with_channels(site, features)


@net2net.register_rule(OcclusionBlend)
def _occlusion_blend(site):
    left, right, mask, flow = (axes[-1] for axes in site.inputs)
    site.unify(left, right)
    site.freeze(mask, "the occlusion mask is one channel")
    site.freeze(flow, "displacements are geometry")
    return _with_channels(site, left)


@net2net.register_rule(LeftShare)
def _left_share(site):
    for axes in site.inputs:
        site.freeze(axes[-1], "displacements and masks are geometry")
    return _with_channels(site, site.fixed(1, "one share for each pixel"))


@net2net.register_rule(MotionAtTime)
def _motion_at_time(site):
    flow, logits, context, times = (axes[-1] for axes in site.inputs)
    for geometry in (flow, logits, times):
        site.freeze(geometry, "displacements, masks and times are geometry")
    return [
        [*(site.fixed(size) for size in shape[:-1]), channels]
        for shape, channels in zip(
            site.output_shapes, (flow, logits, context), strict=True
        )
    ]


@net2net.register_rule(MotionToNeighbours)
def _motion_to_neighbours(site):
    reason = "displacements are geometry"
    site.freeze(site.inputs[0][-1], reason)
    return [
        [*(site.fixed(size) for size in shape[:-1]), site.fixed(2, reason)]
        for shape in site.output_shapes
    ]


@net2net.register_rule(BilateralCorrelation)
def _bilateral_correlation(site):
    for axes in site.inputs:
        site.freeze(axes[-1], "matching features are compared as a whole")
    scores = site.output_shapes[0][-1]
    return _with_channels(site, site.fixed(scores, "one channel per displacement"))


# === Channels are rearranged ==========================================================
@net2net.register_rule(FramesToChannels, linear=True)
def _frames_to_channels(site):
    channels = site.inputs[0][-1]
    return _with_channels(site, channels.repeat(site.operation.num_frames))


@net2net.register_rule(JoinNeighbours, linear=True)
def _join_neighbours(site):
    own, from_left, from_right = (axes[-1] for axes in site.inputs)
    site.unify(own, from_left)
    site.unify(own, from_right)
    return _with_channels(site, own.repeat(3))


@net2net.register_rule(PixelUnshuffle, linear=True)
def _pixel_unshuffle(site):
    channels = site.inputs[0][-1]
    return _with_channels(site, channels.repeat(site.operation.block_size**2))


def _into_repeats(site, copies):
    """An input axis that holds `copies` runs of the output's channels."""
    channels = site.new("channels", site.output_shapes[0][-1])
    site.unify(site.inputs[0][-1], channels.repeat(copies))
    return _with_channels(site, channels)


@net2net.register_rule(ChannelsToFrames, linear=True)
def _channels_to_frames(site):
    return _into_repeats(site, site.operation.num_frames)


@net2net.register_rule(PixelShuffle, linear=True)
def _pixel_shuffle(site):
    return _into_repeats(site, site.operation.block_size**2)


# === Attention and deformable sampling ================================================
@net2net.register_rule(SpatialAttention)
def _spatial_attention(site):
    queries, keys, values = (axes[-1] for axes in site.inputs)
    site.unify(queries, keys)
    # A copied key channel would count twice; its weights in the product share.
    site.weight(site.operation.key_weights, {0: reads(queries)})
    site.inexact_when_pruned([queries], "the scores of pruned keys shift the softmax")
    return _with_channels(site, values)


@net2net.register_rule(ChannelGraphAttention)
def _channel_graph_attention(site):
    queries, keys, values = (axes[-1] for axes in site.inputs)
    site.unify(keys, values)
    for channels in (queries, keys):
        site.nonlinear(channels)
    site.weight(
        site.operation.log_count,
        {0: writes(keys)},
        add=lambda index_map_of: -np.log(index_map_of(keys).positive_balance),
    )
    site.inexact_when_pruned([keys], "pruned nodes leave the softmax over channels")
    return _with_channels(site, queries)


@net2net.register_rule(DeformableConv2D)
def _deformable_convolution(site):
    layer = site.operation
    channels, guide = site.inputs[0][-1], site.inputs[-1][-1]
    # Offsets are geometry: the same change inside every offset group keeps them.
    of_group = site.new("group_inputs", channels.size // layer.offset_groups)
    site.unify(channels, of_group.repeat(layer.offset_groups))
    filters = site.new("filters", layer.filters)
    site.setting("filters", filters)
    site.weight(layer.kernel, {2: reads(channels), 3: writes(filters)})
    site.weight(layer.bias, {0: writes(filters)})
    site.weight(layer.offset_kernel, {2: reads(guide)})
    return _with_channels(site, filters)


# === Multiply-adds: pooling counts nothing, as everywhere in net2net ==================
@net2net.register_macs(WindowAlignment)
def _window_alignment_macs(call):
    batch, height, width, channels = call.inputs[0]
    reach = call.operation.reach
    pixels = batch * height * -(-width // BLOCK) * BLOCK
    return pixels * (2 * reach + 1) * (BLOCK + 2 * reach) * channels


@net2net.register_macs(LargeAlignment)
def _large_alignment_macs(call):
    # Four rows of four pixels, then the four rows.
    return math.prod(call.inputs[0]) * (4 * 4 + 4)


@net2net.register_macs(MotionAtTime)
def _motion_at_time_macs(call):
    # Four neighbours of each bilinear sample.
    channels = sum(shape[-1] for shape in call.outputs)
    return 4 * math.prod(call.outputs[0][:-1]) * channels


@net2net.register_macs(MotionToNeighbours)
def _motion_to_neighbours_macs(call):
    # Four neighbours of each bilinear sample, both ways.
    return 4 * sum(math.prod(shape) for shape in call.outputs)


@net2net.register_macs(PixelUnshuffle)
def _pixel_unshuffle_macs(call):
    # The convolution only rearranges, and counts like other rearrangements: nothing.
    return 0


@net2net.register_macs(BilateralCorrelation)
def _bilateral_correlation_macs(call):
    return math.prod(call.outputs[0]) * call.inputs[0][-1]


@net2net.register_macs(SpatialAttention)
def _spatial_attention_macs(call):
    layer = call.operation
    queries, keys, values = call.inputs
    pixels = queries[1] * queries[2]
    full = layer.pool == "full"
    tokens = keys[1] * keys[2] if full else sum(bins**2 for bins in layer.bins)
    return queries[0] * pixels * tokens * (queries[-1] + values[-1])


@net2net.register_macs(ChannelGraphAttention)
def _channel_graph_attention_macs(call):
    layer = call.operation
    batch, height, width, channels = call.inputs[2]
    bins = layer.descriptor_size**2
    sets = {"bank": layer.num_frames, "recurrent": 2, "intra": 1}[layer.memory]
    edges = batch * call.inputs[0][-1] * sets * channels
    macs = edges * (bins + height * width)
    if layer.memory == "recurrent":
        clips = batch // layer.num_frames
        macs += 2 * clips * (layer.num_frames - 1) * channels * 2 * bins
    return macs


@net2net.register_macs(DeformableConv2D)
def _deformable_convolution_macs(call):
    layer = call.operation
    *_, channels = call.inputs[0]
    pixels = math.prod(call.inputs[0][:-1])
    sampling = 4 * layer.taps * channels  # four corners of each bilinear sample
    weights = call.weight(layer.kernel), call.weight(layer.offset_kernel)
    return pixels * (sampling + sum(math.prod(shape) for shape in weights))
