"""The residual block without normalisation: x + conv(ReLU(conv(x))).

Two 3x3 convolutions of equal width; no batch normalisation, which costs
super-resolution networks range and flexibility. Kernels start at a tenth of the
He initialisation, so that a deep stack starts close to the identity.

Source: Lim et al., EDSR, CVPRW 2017 (arXiv:1707.02921); the initial scale is that
of Xiang et al., Zooming Slow-Mo, CVPR 2020 (arXiv:2002.11616).
"""

from typing import Any

import keras
from keras import layers

from keras_megan.layers.composite import Composite


@keras.saving.register_keras_serializable("keras_megan")
class ResidualBlock(Composite):
    """x + conv3x3(ReLU(conv3x3(x))).

    Input and output shape: (N, H, W, filters).

    Args:
        filters: number of channels, equal to the input's.
    """

    def __init__(self, filters: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = int(filters)
        dtype = self.dtype_policy
        # Variance 0.01 * 2 / fan_in: a tenth of He's standard deviation.
        self.conv_1 = layers.Conv2D(
            filters,
            3,
            padding="same",
            activation="relu",
            kernel_initializer=_small_he(),
            dtype=dtype,
            name="conv_1",
        )
        self.conv_2 = layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer=_small_he(),
            dtype=dtype,
            name="conv_2",
        )

    def call(self, inputs):
        return inputs + self.conv_2(self.conv_1(inputs))

    def build(self, inputs_shape):
        self.lay_out(inputs_shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def _small_he():
    return keras.initializers.VarianceScaling(
        scale=0.02, mode="fan_in", distribution="truncated_normal"
    )
