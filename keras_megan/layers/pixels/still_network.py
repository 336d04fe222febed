"""Frames enlarged one by one: the spatial half of the network.

    image -> conv3x3 -> residual blocks -> light tail -> + bilinear upsampling

It needs no other frame, so it can be trained on photographs alone, which teach it seven
times as fast as clips: the frames of a clip show nearly the same texture seven times.
Afterwards each frame's features may be joined, before some of the blocks, with those of
its neighbours in the clip (NeighbourFusion), which need their displacements.

Source: residual network without normalisation: Lim et al., EDSR, CVPRW 2017
(arXiv:1707.02921).
"""

from typing import Any

import keras
from keras import layers

from keras_megan.layers.composite import Composite
from keras_megan.layers.pixels.bilinear_upsampling import BilinearUpsampling
from keras_megan.layers.pixels.reconstruction import SCALE, Reconstruction

SLOPE = 0.1


@keras.saving.register_keras_serializable("keras_megan")
class StillNetwork(Composite):
    """(N, H, W, 3) in [0, 1] -> (N, 4H, 4W, 3). A new one is bilinear upsampling.

    Call arguments:
        inputs: (N, H, W, 3); clips of T frames lie folded in the batch.
        to_right, to_left: (N / T * (T-1), H, W, 2), displacements between the frames
            of a clip in pixels; see `MotionToNeighbours`. Without them, and without
            `neighbours`, every frame is enlarged by itself.

    Args:
        filters: channels of the features.
        blocks: number of residual blocks.
        tail_filters: channels between the two pixel shuffles; None: `filters`.
        neighbours: None, or a dict: "before", the indices of the blocks before which
            frames are joined with their neighbours, and the other arguments of
            `NeighbourFusion` but `filters`.
    """

    def __init__(
        self,
        filters: int,
        blocks: int,
        tail_filters: int | None = None,
        neighbours: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.blocks = int(blocks)
        self.tail_filters = tail_filters
        dtype = self.dtype_policy
        self.extract = layers.Conv2D(
            filters, 3, padding="same", dtype=dtype, name="extract"
        )
        self.activation = layers.LeakyReLU(SLOPE, dtype=dtype, name="activation")
        self.neighbours = dict(neighbours) if neighbours else None
        self.reconstruct = Reconstruction(
            filters,
            blocks,
            "light",
            tail_filters,
            neighbours,
            dtype=dtype,
            name="reconstruct",
        )
        self.upsample = BilinearUpsampling(SCALE, dtype="float32", name="upsample")
        self.add = layers.Add(dtype="float32", name="add")

    def call(self, inputs, to_right=None, to_left=None):
        features = self.activation(self.extract(inputs))
        sides = () if to_right is None else (to_right, to_left)
        detail = self.reconstruct(features, *sides)
        return self.add([detail, self.upsample(inputs)])

    def build(self, inputs_shape, to_right_shape=None, to_left_shape=None):
        self.lay_out(inputs_shape, *filter(None, (to_right_shape, to_left_shape)))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "blocks": self.blocks,
            "tail_filters": self.tail_filters,
            "neighbours": self.neighbours,
        }
