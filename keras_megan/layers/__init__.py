"""The stages of MEGAN as Keras layers; each file teaches one."""

from keras_megan.layers import net2net_rules as net2net_rules
from keras_megan.layers.attention.adaptive_pooling import AdaptiveAveragePooling
from keras_megan.layers.attention.memory_graph import (
    ChannelGraphAttention,
    MemoryGraphAggregation,
)
from keras_megan.layers.attention.non_local import (
    NonLocalResidualBlock,
    SpatialAttention,
)
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
from keras_megan.layers.motion.deformable_conv2d import (
    DeformableConv2D,
    deformable_conv2d,
)
from keras_megan.layers.motion.frame_interpolation import (
    DeformableInterpolation,
    FrameInterpolation,
    OcclusionBlend,
    WindowInterpolation,
)
from keras_megan.layers.motion.large_alignment import LargeAlignment
from keras_megan.layers.motion.large_interpolation import (
    LargeInterpolation,
    LeftShare,
    MotionAtTime,
    PixelUnshuffle,
)
from keras_megan.layers.motion.motion_field import (
    BilateralCorrelation,
    MotionField,
    NoMotion,
    SampleBothSides,
)
from keras_megan.layers.motion.neighbour_fusion import (
    MotionToNeighbours,
    NeighbourFusion,
)
from keras_megan.layers.motion.neighbour_motion import NeighbourMotion
from keras_megan.layers.motion.pyramid_alignment import FeaturePyramid, PyramidAlignment
from keras_megan.layers.motion.window_alignment import WindowAlignment
from keras_megan.layers.pixels.bilinear_upsampling import BilinearUpsampling
from keras_megan.layers.pixels.padding import CropToScale, PadToMultiple
from keras_megan.layers.pixels.progressive_fusion import ProgressiveFusionBlock
from keras_megan.layers.pixels.reconstruction import PixelShuffle, Reconstruction
from keras_megan.layers.pixels.residual_block import ResidualBlock
from keras_megan.layers.pixels.still_network import StillNetwork

__all__ = [
    "AdaptiveAveragePooling",
    "AddToFrames",
    "BilateralCorrelation",
    "BilinearUpsampling",
    "ChannelGraphAttention",
    "ChannelsToFrames",
    "CropToScale",
    "DeformableConv2D",
    "DeformableInterpolation",
    "FeaturePyramid",
    "FoldFrames",
    "FrameInterpolation",
    "FramesToChannels",
    "InterleaveFrames",
    "JoinNeighbours",
    "LargeAlignment",
    "LargeInterpolation",
    "LeftShare",
    "MemoryGraphAggregation",
    "MotionAtTime",
    "MotionField",
    "MotionToNeighbours",
    "NeighbourFusion",
    "NeighbourMotion",
    "NoMotion",
    "NonLocalResidualBlock",
    "OcclusionBlend",
    "PadToMultiple",
    "PixelShuffle",
    "PixelUnshuffle",
    "ProgressiveFusionBlock",
    "PyramidAlignment",
    "Reconstruction",
    "ResidualBlock",
    "SampleBothSides",
    "SelectFrames",
    "SpatialAttention",
    "StillNetwork",
    "UnfoldFrames",
    "WindowAlignment",
    "WindowInterpolation",
    "deformable_conv2d",
]
