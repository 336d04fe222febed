"""Modulated deformable convolution: a convolution that looks where it is told.

A plain convolution reads the same neighbours at every pixel. A deformable one
moves each tap by its own fractional offset and weighs it by its own mask, so that
features of one frame can be gathered from where the motion has carried them in
another. For output pixel p and filter f,

    out[p, f] = bias[f] + sum over taps k and channels c of kernel[k, c, f]
                * mask[p, g(c), k] * x(p + tap[k] + offset[p, g(c), k], c)

where `x(y, x, c)` is bilinear with zeros outside the image, and the channels are
split into contiguous groups g(c) that share offsets and masks.

    inputs   (N, H, W, C)                    float
    offsets  (N, H, W, groups, taps, 2)      pixels, (dy, dx), unbounded
    masks    (N, H, W, groups, taps)         usually 0..1
    kernel   (kh, kw, C, filters)            taps = kh * kw, in row-major order
    result   (N, H, W, filters)

How (measured in docs/deformable_conv2d.md): `_pixel_blocks` lays out the 2x2
neighbourhood of every pixel of the zero-bordered image as one row, so that a sample is
one gathered row and needs no validity tests; `_sample_geometry` gives each sample's row
and its four masked weights; then a weighted sum, one kernel row at a time, and one
matrix product with the kernel.

Source: Zhu et al., "Deformable ConvNets v2: More Deformable, Better Results",
CVPR 2019 (https://arxiv.org/abs/1811.11168).
"""

from typing import Any

import keras
from keras import ops


def deformable_conv2d(
    inputs: Any,
    offsets: Any,
    masks: Any,
    kernel: Any,
    bias: Any = None,
    dilation_rate: int | tuple[int, int] = 1,
) -> Any:
    """Modulated, grouped deformable convolution, stride 1, 'same' size.

    A sample at (y, x) contributes iff -1 < y < H and -1 < x < W. Positions are
    computed in float32 at least, whatever the dtype of the offsets; infinite offsets
    are legal and contribute nothing, NaN offsets are not.

    Args:
        inputs: features, (N, H, W, channels); N, H and W may be unknown.
        offsets: (N, H, W, groups, taps, 2), (dy, dx) in pixels, added to the regular
            tap positions. `groups` must divide the channels.
        masks: (N, H, W, groups, taps), factor of each sample.
        kernel: (kernel_height, kernel_width, channels, filters).
        bias: (filters,) or None.
        dilation_rate: distance of the regular taps in pixels, an integer or a pair.

    Returns:
        (N, H, W, filters), in the dtype of `inputs`.

    Raises:
        ValueError: when the shapes do not fit together.
    """
    dilation_rate = _pair(dilation_rate, "dilation_rate")
    inputs, kernel = ops.convert_to_tensor(inputs), ops.convert_to_tensor(kernel)
    offsets, masks = ops.convert_to_tensor(offsets), ops.convert_to_tensor(masks)
    _check_shapes(inputs.shape, offsets.shape, masks.shape, kernel.shape)
    batch, height, width = ops.shape(inputs)[:3]
    kernel_height, kernel_width, channels, filters = kernel.shape
    groups = offsets.shape[3]
    group_channels = channels // groups

    position_dtype = keras.backend.result_type(offsets.dtype, "float32")
    offsets = ops.cast(offsets, position_dtype)
    masks = ops.cast(masks, position_dtype)

    blocks = _pixel_blocks(inputs, groups)
    sampled_rows = []
    for row in range(kernel_height):
        taps = slice(row * kernel_width, (row + 1) * kernel_width)
        block_index, weights = _sample_geometry(
            offsets[:, :, :, :, taps],
            masks[:, :, :, :, taps],
            row,
            (kernel_height, kernel_width),
            dilation_rate,
        )
        # Pixels in one axis: LiteRT sums tensors of at most six.
        neighbours = ops.reshape(
            ops.take(blocks, block_index, axis=0),
            (-1, groups, kernel_width, 4, group_channels),
        )
        weights = ops.reshape(
            ops.cast(weights, inputs.dtype), (-1, groups, kernel_width, 4, 1)
        )
        sampled_rows.append(ops.sum(neighbours * weights, axis=-2))

    # Joining the rows by a concatenation keeps the loop over channels, in the code that
    # XLA makes of all the above, an innermost loop of its own: faster than one piece.
    samples = ops.concatenate(sampled_rows, axis=1)
    samples = ops.reshape(samples, (-1, kernel_height * kernel_width * channels))
    kernel = ops.reshape(
        ops.cast(kernel, inputs.dtype),
        (kernel_height, kernel_width, groups, group_channels, filters),
    )
    # From (row, column, group, c) to the order of the samples.
    kernel = ops.reshape(ops.transpose(kernel, (0, 2, 1, 3, 4)), (-1, filters))
    outputs = ops.matmul(samples, kernel)
    outputs = ops.reshape(outputs, (batch, height, width, filters))
    if bias is not None:
        outputs = outputs + ops.cast(bias, outputs.dtype)
    return outputs


def _pixel_blocks(inputs, groups):
    """The 2x2 neighbourhood of every pixel and group as one row.

    The image gets a border of zeros (one pixel before, two after), wide enough for
    every clamped sample. Row `((n * H' + y) * W' + x) * groups + g` of the result
    holds the group's channels at (y, x), (y, x+1), (y+1, x), (y+1, x+1).
    """
    batch, height, width, channels = ops.shape(inputs)
    border = ((0, 0), (1, 2), (1, 2), (0, 0))
    flat = ops.reshape(ops.pad(inputs, border), (-1, channels // groups))
    below = (width + 3) * groups
    rows = batch * (height + 3) * below
    # Longer by what the corners reach ahead. Cutting the last rows instead, which no
    # sample starts from, would do, but XLA then writes the blocks out: slower.
    flat = ops.pad(flat, ((0, below + groups), (0, 0)))
    corners = (0, groups, below, below + groups)
    return ops.concatenate([flat[start : start + rows] for start in corners], -1)


def _sample_geometry(offsets, masks, kernel_row, kernel_size, dilation_rate):
    """Where the samples of one kernel row lie, and how their corners weigh.

    `offsets` (N, H, W, groups, kernel_width, 2) and `masks` (without the 2) are those
    of row `kernel_row`. Returns the samples' rows in `_pixel_blocks`, int32 (N, H, W,
    groups, kernel_width), and the masked weights of the corners, (same shape, 4).
    """
    batch, height, width, groups = ops.shape(offsets)[:4]
    # The regular position of each tap: 'same' padding as Keras's Conv2D places it.
    vertical, horizontal = (
        rate * (size - 1) // 2
        for size, rate in zip(kernel_size, dilation_rate, strict=True)
    )
    tap_y = ops.reshape(ops.arange(height), (-1, 1, 1, 1))
    tap_y = tap_y + (kernel_row * dilation_rate[0] - vertical)
    tap_x = ops.reshape(ops.arange(width), (-1, 1, 1))
    tap_x = tap_x + (ops.arange(kernel_size[1]) * dilation_rate[1] - horizontal)

    # The *offset* is clamped and split into whole and fraction, not the position:
    # near x = 1000 a float32 position would keep only four digits of the fraction.
    # Clamping to the zero border changes no value and makes the cast to int safe.
    top, y_fraction = _split(offsets[..., 0], tap_y, height)
    left, x_fraction = _split(offsets[..., 1], tap_x, width)

    padded_width = width + 3
    image = ops.reshape(ops.arange(batch), (-1, 1, 1, 1, 1)) * (height + 3)
    regular = ((image + tap_y + 1) * padded_width + tap_x + 1) * groups
    regular = regular + ops.reshape(ops.arange(groups), (-1, 1))
    block_index = top * (padded_width * groups) + left * groups + regular

    lower = masks * y_fraction
    upper = masks - lower
    upper_right = upper * x_fraction
    lower_right = lower * x_fraction
    weights = (upper - upper_right, upper_right, lower - lower_right, lower_right)
    return block_index, ops.moveaxis(ops.stack(weights, axis=0), 0, -1)


def _split(offset, tap, size):
    """Clamp `tap + offset` to [-1, size]; the offset's whole part and fraction."""
    before, after = (ops.cast(edge - tap, offset.dtype) for edge in (-1, size))
    offset = ops.clip(offset, before, after)
    whole = ops.floor(offset)
    return ops.cast(whole, "int32"), offset - whole


def _check_shapes(inputs, offsets, masks, kernel):
    """Raise one clear ValueError if the four shapes do not fit together."""
    if len(inputs) != 4 or len(kernel) != 4 or inputs[3] != kernel[2]:
        raise ValueError(
            "expected inputs (N, H, W, channels) and a kernel (kernel_height, "
            "kernel_width, channels, filters) with the same channels. "
            f"Received: inputs {tuple(inputs)}, kernel {tuple(kernel)}."
        )
    taps = kernel[0] * kernel[1]
    if len(offsets) != 6 or offsets[4] != taps or offsets[5] != 2:
        raise ValueError(
            f"offsets must have shape (N, H, W, groups, {taps}, 2): one (dy, dx) for "
            f"each of the kernel's {taps} taps. Received: {tuple(offsets)}."
        )
    if len(masks) != 5 or tuple(masks[3:]) != tuple(offsets[3:5]):
        raise ValueError(
            f"masks must have shape (N, H, W, {offsets[3]}, {taps}), one factor per "
            f"offset. Received: {tuple(masks)}."
        )
    _check_groups(inputs[3], offsets[3])
    for name, shape in (("offsets", offsets), ("masks", masks)):
        if not _same_image(inputs, shape):
            raise ValueError(
                f"{name} must have the inputs' N, H, W {tuple(inputs[:3])}. "
                f"Received: {tuple(shape[:3])}."
            )


def _same_image(first, second):
    """Whether N, H and W agree wherever both are known."""
    pairs = zip(first[:3], second[:3], strict=True)
    return all(None in (a, b) or a == b for a, b in pairs)


def _check_groups(channels, groups):
    if channels % groups:
        raise ValueError(
            "The channels must be divisible by the number of offset groups. "
            f"Received: {channels} channels, {groups} groups."
        )


def _pair(value, name):
    """`value` as two positive integers (vertical, horizontal)."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int) and v > 0 for v in pair):
        raise ValueError(
            f"{name} must be a positive integer or a pair of them. Received: {value}."
        )
    return pair


@keras.saving.register_keras_serializable("keras_megan")
class DeformableConv2D(keras.layers.Layer):
    """Deformable convolution that predicts its own offsets and masks.

    A 'same' convolution of `guide` gives 3 * groups * taps channels: first the
    offsets, with dy of group g and tap k at channel `g * 2 * taps + 2 * k` and dx right
    after it, then the mask logits at `2 * groups * taps + g * taps + k`, which go
    through a sigmoid. That convolution starts at zero, so a new layer samples the
    regular positions with mask 1/2. With 64 channels, 8 groups and 3x3 taps it has
    161,560 parameters.

    Args:
        filters: number of output channels.
        kernel_size: an integer or (height, width), of both convolutions.
        offset_groups: contiguous groups of input channels that move together; must
            divide the input channels.
        dilation_rate: distance of the regular taps, an integer or a pair.
        activation: applied to the output; a name, a callable or None.
        use_bias: whether the output has a bias.
        kernel_initializer: of `kernel`; default uniform within 1 / sqrt(fan_in).

    Call arguments:
        inputs: the features to sample, (N, H, W, channels).
        guide: what predicts the offsets, (N, H, W, any); None means the inputs.

    Source: Zhu et al., CVPR 2019, with the channel order used by EDVR and Zooming
    Slow-Mo, so their weights can be copied.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int] = 3,
        offset_groups: int = 8,
        dilation_rate: int | tuple[int, int] = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not all(isinstance(v, int) and v > 0 for v in (filters, offset_groups)):
            raise ValueError(
                "filters and offset_groups must be positive integers. Received: "
                f"filters={filters}, offset_groups={offset_groups}."
            )
        self.filters = filters
        self.kernel_size = _pair(kernel_size, "kernel_size")
        self.taps = self.kernel_size[0] * self.kernel_size[1]
        self.offset_groups = offset_groups
        self.dilation_rate = _pair(dilation_rate, "dilation_rate")
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        if kernel_initializer is None:
            # VarianceScaling draws from +-sqrt(3 * scale / fan_in).
            kernel_initializer = keras.initializers.VarianceScaling(
                scale=1 / 3, mode="fan_in", distribution="uniform"
            )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, inputs_shape, guide_shape=None):
        self._check_call_shapes(inputs_shape, guide_shape)
        channels, guide_channels = inputs_shape[-1], (guide_shape or inputs_shape)[-1]
        offset_channels = 3 * self.offset_groups * self.taps
        kernel_shape = (*self.kernel_size, channels, self.filters)
        self.kernel = self.add_weight(
            kernel_shape, self.kernel_initializer, name="kernel"
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight((self.filters,), "zeros", name="bias")
        offset_kernel_shape = (*self.kernel_size, guide_channels, offset_channels)
        self.offset_kernel = self.add_weight(
            offset_kernel_shape, "zeros", name="offset_kernel"
        )
        self.offset_bias = self.add_weight(
            (offset_channels,), "zeros", name="offset_bias"
        )

    def call(self, inputs, guide=None):
        offsets, masks = self.predict_offsets(inputs if guide is None else guide)
        outputs = deformable_conv2d(
            inputs, offsets, masks, self.kernel, self.bias, self.dilation_rate
        )
        return self.activation(outputs)

    def predict_offsets(self, guide: Any) -> tuple[Any, Any]:
        """Offsets (N, H, W, groups, taps, 2) in pixels and masks in 0..1 of `guide`."""
        predicted = ops.conv(
            guide,
            self.offset_kernel,
            padding="same",
            dilation_rate=self.dilation_rate,
            data_format="channels_last",
        )
        predicted = predicted + self.offset_bias
        offsets = predicted[..., : 2 * self.offset_groups * self.taps]
        masks = ops.sigmoid(predicted[..., 2 * self.offset_groups * self.taps :])
        masks_shape = (*ops.shape(guide)[:3], self.offset_groups, self.taps)
        return ops.reshape(offsets, (*masks_shape, 2)), ops.reshape(masks, masks_shape)

    def compute_output_shape(self, inputs_shape, guide_shape=None):
        self._check_call_shapes(inputs_shape, guide_shape)
        return (*inputs_shape[:-1], self.filters)

    def _check_call_shapes(self, inputs_shape, guide_shape):
        for name, shape in (("inputs", inputs_shape), ("guide", guide_shape)):
            if shape is not None and (len(shape) != 4 or shape[-1] is None):
                raise ValueError(
                    f"DeformableConv2D expects {name} of shape (N, H, W, channels) "
                    f"with known channels. Received: {tuple(shape)}."
                )
        _check_groups(inputs_shape[-1], self.offset_groups)
        if guide_shape is not None and not _same_image(inputs_shape, guide_shape):
            raise ValueError(
                "guide must have the inputs' N, H, W. Received: inputs "
                f"{tuple(inputs_shape)}, guide {tuple(guide_shape)}."
            )

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "offset_groups": self.offset_groups,
            "dilation_rate": self.dilation_rate,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
