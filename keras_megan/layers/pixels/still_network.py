"""One frame enlarged by itself: the spatial half of the network.

    image -> conv3x3 -> residual blocks -> light tail -> + bilinear upsampling

It sees no other frame, so it can be trained on photographs alone, which teach it seven
times as fast as clips: the frames of a clip show nearly the same texture seven times.

Source: residual network without normalisation: Lim et al., EDSR, CVPRW 2017
(arXiv:1707.02921).
"""

import keras
from keras import layers

from keras_megan.layers.composite import Composite
from keras_megan.layers.pixels.bilinear_upsampling import BilinearUpsampling
from keras_megan.layers.pixels.reconstruction import SCALE, Reconstruction

SLOPE = 0.1


@keras.saving.register_keras_serializable("keras_megan")
class StillNetwork(Composite):
    """(N, H, W, 3) in [0, 1] -> (N, 4H, 4W, 3), every frame by itself.

    A new network equals bilinear upsampling exactly.

    Args:
        filters: channels of the features.
        blocks: number of residual blocks.
        tail_filters: channels between the two pixel shuffles; None: `filters`.
    """

    def __init__(self, filters, blocks, tail_filters=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.blocks = int(blocks)
        self.tail_filters = tail_filters
        dtype = self.dtype_policy
        self.extract = layers.Conv2D(
            filters, 3, padding="same", dtype=dtype, name="extract"
        )
        self.activation = layers.LeakyReLU(SLOPE, dtype=dtype, name="activation")
        self.reconstruct = Reconstruction(
            filters, blocks, "light", tail_filters, dtype=dtype, name="reconstruct"
        )
        self.upsample = BilinearUpsampling(SCALE, dtype="float32", name="upsample")
        self.add = layers.Add(dtype="float32", name="add")

    def call(self, inputs):
        detail = self.reconstruct(self.activation(self.extract(inputs)))
        return self.add([detail, self.upsample(inputs)])

    def build(self, inputs_shape):
        self.lay_out(inputs_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "blocks": self.blocks,
            "tail_filters": self.tail_filters,
        }
