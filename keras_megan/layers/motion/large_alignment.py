"""Moving enlarged frames along a motion field of the small ones, with a cubic kernel.

    large (N, s*H, s*W, C), flow (N, H, W, 2) as (dy, dx) in small pixels
        -> (N, s*H, s*W, C)

The flow is enlarged bilinearly and counted in large pixels; each output pixel p reads
its source at p + flow with the Keys cubic kernel (a = -0.5), 4 x 4 pixels. Where the
source lies outside the image, the nearest place inside is read.

The four pixels of a row lie side by side in the channels, so an output pixel takes four
gathers. Mobile GPUs have none; networks with this layer are for CPUs and servers.

Source of the kernel: Keys, Cubic Convolution Interpolation for Digital Image
Processing, IEEE ASSP 1981.
"""

from typing import Any

import keras
from keras import ops

from keras_megan.layers.mobile_operations import uses_mobile_operations
from keras_megan.layers.pixels.bilinear_upsampling import BilinearUpsampling


def _cubic(distance):
    """The Keys kernel with a = -0.5 at distances of any sign; support (-2, 2)."""
    x = ops.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x <= 1.0, near, ops.where(x < 2.0, far, ops.zeros_like(x)))


@keras.saving.register_keras_serializable("keras_megan")
class LargeAlignment(keras.layers.Layer):
    """Samples enlarged frames at a motion field of the small ones, cubically.

    Call arguments:
        large: (N, scale*H, scale*W, C).
        flow: (N, H, W, 2), (dy, dx) in small pixels, clipped to [-reach, reach].

    Output shape: (N, scale*H, scale*W, C).

    Raises:
        ValueError: when traced for a mobile GPU, or for a flow of other channels.

    Args:
        reach: largest displacement along each axis, in small pixels.
        scale: how much larger the frames are.
    """

    def __init__(self, reach: int = 12, scale: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.reach = int(reach)
        self.scale = int(scale)
        self.enlarge = BilinearUpsampling(self.scale, dtype="float32", name="enlarge")

    def build(self, large_shape, flow_shape):
        self.enlarge.build(flow_shape)

    def call(self, large, flow):
        if flow.shape[-1] != 2:
            raise ValueError(
                f"{self.name} expected a flow of shape (N, H, W, 2), (dy, dx). "
                f"Received: flow.shape={tuple(flow.shape)}."
            )
        if uses_mobile_operations():
            raise ValueError(
                "Large frames are moved by gathers, which mobile GPUs lack. Export "
                "this network for the CPU, or megan_mobile or megan_nano for GPUs."
            )
        reach = float(self.reach)
        flow = ops.clip(ops.cast(flow, "float32"), -reach, reach)
        offsets = self.enlarge(flow) * float(self.scale)
        batch, height, width, channels = ops.shape(large)
        # Room for the kernel around the image, which is mirrored there.
        padded = ops.pad(large, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="symmetric")
        rows = [padded[:, :, k : k + width + 1] for k in range(4)]
        rows = ops.concatenate(rows, axis=-1)
        stride = width + 1
        pixels = ops.reshape(rows, (batch * (height + 4) * stride, 4 * channels))

        down, top = self._place(offsets[..., 0], height, (1, -1, 1))
        right, left = self._place(offsets[..., 1], width, (1, 1, -1))
        frame = ops.reshape(ops.arange(batch) * (height + 4), (batch, 1, 1))
        corner = (frame + top) * stride + left
        four = [corner + k * stride for k in range(4)]
        gathered = ops.take(pixels, ops.concatenate(four, axis=0), axis=0)
        across = [_cubic(right - (k - 1.0))[..., None] for k in range(4)]
        across = [ops.cast(weight, large.dtype) for weight in across]
        result = None
        for k, row in enumerate(ops.split(gathered, 4, axis=0)):
            parts = ops.split(row, 4, axis=-1)
            summed = sum(part * w for part, w in zip(parts, across, strict=True))
            weight = ops.cast(_cubic(down - (k - 1.0)), large.dtype)[..., None]
            result = summed * weight if result is None else result + summed * weight
        return result

    @staticmethod
    def _place(offset, size, shape):
        """Fraction in [0, 1) and whole part of positions kept inside an axis."""
        place = ops.reshape(ops.arange(size, dtype="float32"), shape) + offset
        last = ops.cast(size - 1, "float32")
        place = ops.clip(place, 0.0, last)
        whole = ops.floor(place)
        # Bounded again: NaN may turn into any whole number.
        index = ops.clip(ops.cast(whole, "int32"), 0, size - 1)
        # The padded axis begins two pixels earlier, the kernel one before the pixel.
        return place - whole, index + 1

    def compute_output_shape(self, large_shape, flow_shape):
        return large_shape

    def get_config(self):
        return {**super().get_config(), "reach": self.reach, "scale": self.scale}
