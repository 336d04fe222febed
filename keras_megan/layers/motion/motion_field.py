"""Where does each pixel of the missing frame come from? Coarse to fine.

The missing frame lies halfway between its two neighbours. For each of its pixels
two displacements are estimated, into the left and into the right frame, from the
coarsest pyramid level to the finest:

    coarser levels (one estimator, the same weights at each):
        flow   = 2 * up(flow of the coarser level)       (0 at the coarsest)
        l, r   = both frames sampled at their flow       (window alignment)
        c      = bilateral correlation of l and r
        flow  += head(convs[l, r, c, flow])
    finest level:
        l, r   = both frames and their images, sampled at the flow
        flow, mask, context from convs[l, r, flow]

Bilateral correlation compares l at p - v with r at p + v for every small v: if an
object moves evenly through p, the best match names its velocity. Sharing the
estimator makes every level learn from all; offsets stay inside the window
alignment's reach, so all of it runs where gathers cannot.

All heads start at zero: an untrained field is zero motion and even blending.

Sources: coarse-to-fine refinement: Ranjan and Black, SPyNet, CVPR 2017
(arXiv:1611.00850); intermediate flow: Huang et al., RIFE, ECCV 2022
(arXiv:2011.06294); bilateral matching: Park et al., BMBC, ECCV 2020
(arXiv:2007.12622).
"""

from typing import Any

import keras
from keras import layers, ops

from keras_megan.layers.composite import Composite
from keras_megan.layers.mobile_operations import uses_mobile_operations
from keras_megan.layers.motion.window_alignment import WindowAlignment
from keras_megan.layers.pixels.bilinear_upsampling import BilinearUpsampling

SLOPE = 0.1
CORRELATION_RADIUS = 2
CONTRAST_WINDOW = 5
EPSILON = 1e-5


@keras.saving.register_keras_serializable("keras_megan")
class BilateralCorrelation(layers.Layer):
    """How alike left at p - v and right at p + v are, for every |v| <= radius.

    Call arguments:
        left, right: (N, H, W, E). From each pixel the mean of the 5x5 around it is
            taken away and the rest scaled to unit mean square, so that haze, shade and
            motion blur count as much as full contrast.

    Output shape: (N, H, W, (2*radius+1)^2), v row-major; zero outside the image.

    Args:
        radius: largest |v| along each axis, in pixels.
    """

    def __init__(self, radius: int = CORRELATION_RADIUS, **kwargs: Any):
        super().__init__(**kwargs)
        self.radius = int(radius)

    def call(self, left, right):
        radius = self.radius
        batch, height, width, channels = ops.shape(left)
        margin = ((0, 0), (radius, radius), (radius, radius), (0, 0))
        left = ops.pad(_local_contrast(left), margin)
        right = ops.pad(_local_contrast(right), margin)

        def shifted(padded, down, across):
            top, start = radius + down, radius + across
            return padded[:, top : top + height, start : start + width]

        window = range(-radius, radius + 1)
        products = [
            shifted(left, -down, -across) * shifted(right, down, across)
            for down in window
            for across in window
        ]
        if uses_mobile_operations():
            # Means, joined or of so wide a tensor, come out wrong on a mobile GPU's
            # runtime; as convolutions they do not.
            average = ops.full((1, 1, channels, 1), 1.0 / channels, dtype=left.dtype)
            means = [
                ops.conv(product, average, data_format="channels_last")
                for product in products
            ]
            return ops.concatenate(means, axis=-1)
        count = len(products)
        products = ops.concatenate(products, axis=-1)
        products = ops.reshape(products, (batch, height, width * count, channels))
        means = ops.mean(products, axis=-1, keepdims=True)
        return ops.reshape(means, (batch, height, width, count))

    def compute_output_shape(self, left_shape, right_shape):
        return (*left_shape[:-1], (2 * self.radius + 1) ** 2)

    def get_config(self):
        return {**super().get_config(), "radius": self.radius}


def _local_contrast(inputs):
    """Differences from the mean around each pixel, scaled to unit mean square."""
    around = ops.average_pool(
        inputs, CONTRAST_WINDOW, strides=1, padding="same", data_format="channels_last"
    )
    contrast = inputs - around
    power = ops.mean(ops.square(contrast), axis=-1, keepdims=True)
    return contrast * ops.rsqrt(power + EPSILON)


@keras.saving.register_keras_serializable("keras_megan")
class MotionField(Composite):
    """Motion from the missing frame into its two neighbours.

    Call arguments:
        left, right: pyramids, lists of (N, H/2^l, W/2^l, E), finest first.
        left_image, right_image: (N, H, W, 3).

    Output: a tuple of
        flow: (N, H, W, 4), (dy, dx) into the left, then into the right frame,
            in pixels of the finest level;
        mask: (N, H, W, 1), logit of taking the left frame;
        context: (N, H, W, filters), what the estimator saw.

    Args:
        filters: width of the estimators.
        levels: number of pyramid levels, at least 2.
        reach: largest displacement at the finest level, in pixels; halved (but at
            least 2) per coarser level.
    """

    def __init__(self, filters: int, levels: int = 4, reach: int = 12, **kwargs: Any):
        super().__init__(**kwargs)
        if levels < 2:
            raise ValueError(
                f"MotionField needs at least 2 pyramid levels. Received: {levels}."
            )
        self.filters = int(filters)
        self.levels = int(levels)
        self.reach = int(reach)
        dtype = self.dtype_policy

        def conv(name, width=filters, **options):
            return layers.Conv2D(
                width, 3, padding="same", dtype=dtype, name=name, **options
            )

        self.coarse_convs = [conv(f"coarse_{i}") for i in range(3)]
        self.coarse_head = conv("coarse_head", 4, kernel_initializer="zeros")
        self.fine_convs = [conv(f"fine_{i}") for i in range(2)]
        self.fine_head = conv("fine_head", 4, kernel_initializer="zeros")
        self.mask_head = conv("mask_head", 1, kernel_initializer="zeros")
        self.correlation = BilateralCorrelation(dtype=dtype, name="correlation")
        self.no_motion = NoMotion(dtype=dtype, name="no_motion")
        self.samplers = [
            SampleBothSides(
                max(2, -(-self.reach // 2**level)), dtype=dtype, name=f"sample_{level}"
            )
            for level in range(levels - 1)
        ]
        self.activation = layers.LeakyReLU(SLOPE, dtype=dtype, name="activation")
        self.concatenate = layers.Concatenate(dtype=dtype, name="concatenate")
        self.upsample = BilinearUpsampling(2, dtype=dtype, name="upsample")
        # Displacements are counted in pixels of their level.
        self.twice = layers.Rescaling(2.0, dtype=dtype, name="double")

    def call(self, left, right, left_image, right_image):
        join = self.concatenate
        flow = None
        for level in reversed(range(1, self.levels)):
            sides = left[level], right[level]
            if flow is None:
                flow = self.no_motion(left[level])
            else:
                flow = self.twice(self.upsample(flow))
                sides = self.samplers[level](*sides, flow)
            hidden = join([*sides, self.correlation(*sides), flow])
            for conv in self.coarse_convs:
                hidden = self.activation(conv(hidden))
            flow = flow + self.coarse_head(hidden)

        flow = self.twice(self.upsample(flow))
        sides = join([left[0], left_image]), join([right[0], right_image])
        context = join([*self.samplers[0](*sides, flow), flow])
        for conv in self.fine_convs:
            context = self.activation(conv(context))
        return flow + self.fine_head(context), self.mask_head(context), context

    def build(self, left_shape, right_shape, left_image_shape, right_image_shape):
        self.lay_out(left_shape, right_shape, left_image_shape, right_image_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "levels": self.levels,
            "reach": self.reach,
        }


@keras.saving.register_keras_serializable("keras_megan")
class NoMotion(layers.Layer):
    """Zero displacements of an image's size: (N, H, W, C) -> (N, H, W, 4)."""

    def call(self, inputs):
        return ops.zeros((*ops.shape(inputs)[:-1], 4), dtype=self.compute_dtype)

    def get_config(self):
        # Keras cannot derive it where the dtype was given as a policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_megan")
class SampleBothSides(Composite):
    """Samples the left frame at flow[..., :2] and the right one at flow[..., 2:].

    Call arguments:
        left, right: (N, H, W, C).
        flow: (N, H, W, 4), displacements (dy, dx) into the left and right frame.

    Output: the two sampled frames, (N, H, W, C) each.

    Args:
        reach: largest displacement, in pixels; see `WindowAlignment`.
    """

    def __init__(self, reach: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.reach = int(reach)
        self.sampler = WindowAlignment(reach, dtype=self.dtype_policy, name="sampler")

    def call(self, left, right, flow):
        return self.sampler(left, flow[..., :2]), self.sampler(right, flow[..., 2:])

    def build(self, left_shape, right_shape, flow_shape):
        self.lay_out(left_shape, right_shape, flow_shape)

    def get_config(self):
        return {**super().get_config(), "reach": self.reach}
