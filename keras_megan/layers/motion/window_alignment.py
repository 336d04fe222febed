"""Bilinear sampling with bounded offsets: by gathers, or by matrix products.

    features (N, H, W, C), offsets (N, H, W, 2) as (dy, dx) in pixels
        -> (N, H, W, C), zeros outside the image

Exactly plain bilinear sampling wherever |dy|, |dx| <= reach; larger offsets are
clipped to the reach.

On a computer the four neighbours of each sample are gathered. No mobile GPU runtime
gathers; but as every offset stays within `reach` pixels, the same bilinear sample is
also a sum over the (2*reach+1)^2 neighbours with separable tent weights,

    out[y, x] = sum_i tent(dy - i) sum_j tent(dx - j) in[y + i, x + j]
    tent(d) = max(0, 1 - |d|),     i, j in -reach..reach

with dy, dx taken at the output pixel (y, x). The inner sum is a small matrix
product once the row is cut into blocks of 16 pixels: the 16 outputs of a block
read the same strip of 16 + 2*reach inputs, so a (16 x strip) matrix of tents
times a (strip x C) matrix of features does the block, at the full rate of the
matrix units. The outer sum runs over the 2*reach+1 rows. That takes only slices,
reshapes, concatenations, elementwise operations and batched matrix products, none of
more than four axes; `mobile_operations` chooses it.
"""

from typing import Any

import keras
from keras import ops

from keras_megan.layers.mobile_operations import sum_in_groups, uses_mobile_operations

BLOCK = 16
# In groups of four channels. A mobile GPU runtime gives zeros for products of tensors
# somewhere between 498,000 and 824,000 of them, and says nothing.
LARGEST_TENSOR = 480_000


@keras.saving.register_keras_serializable("keras_megan")
class WindowAlignment(keras.layers.Layer):
    """Samples features at bounded per-pixel offsets, bilinearly.

    Call arguments:
        features: (N, H, W, C).
        offsets: (N, H, W, 2), (dy, dx) in pixels, added to each pixel's own
            position. Clipped to [-reach, reach].

    Output shape: (N, H, W, C). Samples outside the image count as zero.

    Args:
        reach: largest offset, in whole pixels, at least 1. As matrix products it
            costs (2*reach + 1) * (2*reach + 16) * C multiply-adds per pixel.
    """

    def __init__(self, reach: int = 12, **kwargs: Any):
        super().__init__(**kwargs)
        if reach < 1 or int(reach) != reach:
            raise ValueError(
                f"reach must be a whole number of pixels, >= 1. Received: {reach}."
            )
        self.reach = int(reach)

    def call(self, features, offsets):
        if offsets.shape[-1] != 2:
            raise ValueError(
                f"{self.name} expected offsets of shape (N, H, W, 2), (dy, dx). "
                f"Received: offsets.shape={tuple(offsets.shape)}."
            )
        reach = float(self.reach)
        offsets = ops.clip(ops.cast(offsets, "float32"), -reach, reach)
        if uses_mobile_operations():
            return self._by_products(features, offsets)
        return self._by_gathers(features, offsets)

    def _by_gathers(self, features, offsets):
        batch, height, width, channels = ops.shape(features)
        margin = self.reach + 1
        around = ((0, 0), (margin, margin), (margin, margin), (0, 0))
        padded = ops.pad(features, around)
        rows, columns = height + 2 * margin, width + 2 * margin
        pixels = ops.reshape(padded, (batch * rows * columns, channels))

        whole = ops.floor(offsets)
        part = ops.cast(offsets - whole, features.dtype)
        # Bounded again: NaN may turn into any whole number.
        whole = ops.clip(ops.cast(whole, "int32"), -self.reach, self.reach)
        down, right = part[..., 0:1], part[..., 1:2]
        top = ops.reshape(ops.arange(height), (1, height, 1)) + whole[..., 0] + margin
        left = ops.arange(width) + whole[..., 1] + margin
        frame = ops.reshape(ops.arange(batch) * rows, (batch, 1, 1))
        corner = (frame + top) * columns + left

        # One gather of all four: it takes fewer operations than four gathers.
        corners = [corner + step for step in (0, 1, columns, columns + 1)]
        gathered = ops.take(pixels, ops.concatenate(corners, axis=0), axis=0)
        top_left, top_right, low_left, low_right = ops.split(gathered, 4, axis=0)
        upper = top_left * (1.0 - right) + top_right * right
        lower = low_left * (1.0 - right) + low_right * right
        return upper * (1.0 - down) + lower * down

    def _by_products(self, features, offsets):
        reach = self.reach
        batch, height, width, channels = ops.shape(features)
        blocks = (width + BLOCK - 1) // BLOCK
        fill = blocks * BLOCK - width

        offsets = ops.transpose(offsets, (1, 0, 2, 3))
        offsets = ops.pad(offsets, ((0, 0), (0, 0), (0, fill), (0, 0)))
        offsets = ops.reshape(offsets, (height, batch * blocks, BLOCK, 2))
        down, right = offsets[..., 0:1], offsets[..., 1:2]

        # Where in its strip each of a block's pixels reads: own place + reach + dx.
        own_place = ops.reshape(ops.arange(BLOCK, dtype="float32"), (1, 1, BLOCK, 1))
        strip = ops.arange(BLOCK + 2 * reach, dtype="float32")
        across = _tent(right + (own_place + float(reach)) - strip)
        across = ops.cast(across, features.dtype)

        vertical = _tent(down - ops.arange(-reach, reach + 1, dtype="float32"))
        vertical = ops.cast(vertical, features.dtype)

        parts = [
            self._sample(part, across, vertical, blocks, fill)
            for part in self._parts(features, blocks)
        ]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    def _parts(self, features, blocks):
        """The features, their channels divided where the strips would be too large."""
        batch, height, _, channels = features.shape
        if None in (batch, height, channels) or not isinstance(blocks, int):
            return [features]
        strip = (height + 2 * self.reach) * batch * blocks * (BLOCK + 2 * self.reach)
        most = max(1, LARGEST_TENSOR // strip) * 4
        starts = range(0, channels, most)
        if len(starts) == 1:
            return [features]
        return [features[..., n : min(n + most, channels)] for n in starts]

    def _sample(self, features, across, vertical, blocks, fill):
        batch, height, width, channels = ops.shape(features)
        strips = self._strips(features, blocks, fill)
        total = sum_in_groups(
            [
                ops.matmul(across, strips[row : row + height])
                * vertical[..., row : row + 1]
                for row in range(2 * self.reach + 1)
            ]
        )
        total = ops.reshape(total, (height, batch, blocks * BLOCK, channels))
        return ops.transpose(total[:, :, :width], (1, 0, 2, 3))

    def _strips(self, features, blocks, fill):
        """(N, H, W, C) -> (H + 2*reach, N*blocks, BLOCK + 2*reach, C), zero-padded.

        Rows come first so that the slice for each vertical shift is one
        contiguous piece of memory.
        """
        reach = self.reach
        # Whole blocks of margin, as many as the reach touches.
        margin = (reach + BLOCK - 1) // BLOCK
        batch, height, _, channels = ops.shape(features)
        rows_first = ops.transpose(features, (1, 0, 2, 3))
        padded = ops.pad(
            rows_first,
            (
                (reach, reach),
                (0, 0),
                (margin * BLOCK, margin * BLOCK + fill),
                (0, 0),
            ),
        )
        rows = height + 2 * reach
        total = blocks + 2 * margin
        padded = ops.reshape(padded, (rows * batch, total, BLOCK, channels))
        parts = []
        for k in range(-margin, margin + 1):
            part = padded[:, margin + k : margin + k + blocks]
            # Only those pixels of the outermost blocks matter that are within reach.
            if k == -margin:
                part = part[:, :, margin * BLOCK - reach :]
            elif k == margin:
                part = part[:, :, : reach - (margin - 1) * BLOCK]
            parts.append(part)
        strips = ops.concatenate(parts, axis=2)
        return ops.reshape(strips, (rows, batch * blocks, BLOCK + 2 * reach, channels))

    def compute_output_shape(self, features_shape, offsets_shape):
        return features_shape

    def get_config(self):
        return {**super().get_config(), "reach": self.reach}


def _tent(distance):
    """max(0, 1 - |distance|): the weight of linear interpolation."""
    return ops.relu(1.0 - ops.abs(distance))


def kept_inside(offsets, height, width):
    """Offsets shortened where they would lead out of the image: (N, H, W, 2)."""
    kept = []
    for axis, size in ((0, height), (1, width)):
        place = ops.arange(size, dtype="float32")
        place = ops.reshape(place, (1, -1, 1) if axis == 0 else (1, 1, -1))
        last = ops.cast(size, "float32") - 1.0
        offset = offsets[..., axis]
        kept.append(ops.clip(offset, -place, last - place))
    return ops.stack(kept, axis=-1)
