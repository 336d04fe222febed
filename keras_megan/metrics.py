"""PSNR and SSIM on luma, by the protocol that space-time super-resolution publishes.

A number can be compared with a published one only if every step agrees:

1. The output is clamped to [0, 1], multiplied by 255 and rounded, as it would be
   stored in an 8-bit file.
2. Luma by ITU-R BT.601, "studio swing", from the rounded RGB:
   ``Y = (65.481 R + 128.553 G + 24.966 B) / 255 + 16``. Y itself is not rounded.
3. PSNR with a peak of 255 (although Y only spans 16..235).
4. SSIM (Wang et al., 2004): 11x11 Gaussian window, sigma 1.5, only where the window
   fits into the frame; K1 = 0.01, K2 = 0.03, L = 255, population covariance.
5. No border is cropped. Mean over a clip's frames, then over the clips.

Skipping the rounding, measuring RGB or cropping a border each moves the result by
tenths of a decibel up to more than one.

The functions are numpy in float64, for evaluation. The classes are ``keras.Metric``s
in ``keras.ops``, for ``compile(metrics=...)`` on every backend; they follow the same
steps and agree with the functions.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

#: Weights of R, G and B in 0..255 for BT.601 luma, and its offset.
LUMA_WEIGHTS = (65.481 / 255.0, 128.553 / 255.0, 24.966 / 255.0)
LUMA_OFFSET = 16.0
PEAK = 255.0
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
_C1, _C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
#: What a frame identical to the truth counts in a mean, instead of infinity.
PSNR_CAP = 100.0


def _gaussian_window() -> np.ndarray:
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    return weights / weights.sum()


def luma(images: np.ndarray) -> np.ndarray:
    """BT.601 luma of RGB images, after rounding them to 8 bits.

    Args:
        images: (..., H, W, 3), uint8, or floating with [0, 1] as the range of colour;
            values outside are clamped.

    Returns:
        (..., H, W) float64 in 16..235.

    Raises:
        ValueError: If the last axis is not 3.
        TypeError: For a dtype other than uint8 or floating.
    """
    images = np.asarray(images)
    if images.ndim < 3 or images.shape[-1] != 3:
        raise ValueError(
            f"Expected RGB images (..., H, W, 3); received shape {images.shape}."
        )
    if images.dtype == np.uint8:
        rounded = images.astype(np.float64)
    elif np.issubdtype(images.dtype, np.floating):
        # float32 is multiplied as float32, where halves fall as in published code.
        working = np.promote_types(images.dtype, np.float32)
        clamped = np.clip(images.astype(working, copy=False), 0.0, 1.0)
        rounded = np.rint(clamped * working.type(PEAK)).astype(np.float64)
    else:
        raise TypeError(
            "Expected uint8 images or floating ones in [0, 1]; received "
            f"{images.dtype}."
        )
    return rounded @ np.asarray(LUMA_WEIGHTS) + LUMA_OFFSET


def luma_psnr(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio on luma, in decibels; higher is better.

    Args:
        truth: (..., H, W, 3), uint8 or floating in [0, 1].
        prediction: Same shape.

    Returns:
        float64 of shape (...): one value per frame; infinity for identical frames.

    Raises:
        ValueError: If the shapes differ.
    """
    return _psnr(*_luma_pair(truth, prediction))


def luma_ssim(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Structural similarity on luma; 1 for identical frames.

    Args:
        truth: (..., H, W, 3), uint8 or floating in [0, 1], H and W at least 11.
        prediction: Same shape.

    Returns:
        float64 of shape (...): one value per frame.

    Raises:
        ValueError: If the shapes differ or the frames are smaller than the window.
    """
    return _ssim(*_luma_pair(truth, prediction))


def luma_psnr_ssim(
    truth: np.ndarray, prediction: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``luma_psnr`` and ``luma_ssim`` at once; luma is computed only once."""
    pair = _luma_pair(truth, prediction)
    return _psnr(*pair), _ssim(*pair)


def _luma_pair(truth, prediction):
    truth, prediction = luma(truth), luma(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(
            "Expected a prediction of the truth's shape; received "
            f"{(*prediction.shape, 3)} for a truth of {(*truth.shape, 3)}."
        )
    return truth, prediction


def _psnr(truth, prediction):
    error = np.mean(np.square(truth - prediction), axis=(-2, -1))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(PEAK**2 / error)


def _ssim(truth, prediction):
    height, width = truth.shape[-2:]
    _check_window_fits(height, width)
    values = [
        np.mean(_ssim_map(a, b))
        for a, b in zip(
            truth.reshape(-1, height, width),
            prediction.reshape(-1, height, width),
            strict=True,
        )
    ]
    return np.reshape(np.asarray(values), truth.shape[:-2])


def _ssim_map(a, b):
    moments = (a, b, a * a, b * b, a * b)
    return _similarity(_blur_valid(x, x.shape) for x in moments)


def _similarity(moments, shift=0.0):
    """SSIM from local moments of signals that had ``shift`` taken away.

    The moments are the means of a, b, a * a, b * b and a * b.
    """
    mean_a, mean_b, square_a, square_b, product = moments
    variance_a = square_a - mean_a * mean_a
    variance_b = square_b - mean_b * mean_b
    covariance = product - mean_a * mean_b
    mean_a, mean_b = mean_a + shift, mean_b + shift
    return ((2.0 * mean_a * mean_b + _C1) * (2.0 * covariance + _C2)) / (
        (mean_a * mean_a + mean_b * mean_b + _C1) * (variance_a + variance_b + _C2)
    )


def _check_window_fits(height, width):
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels; "
            f"received {width}x{height}."
        )


class _FrameMean(keras.metrics.Mean):
    """Mean over all frames of a number that ``per_frame`` gives for each frame."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch.

        Args:
            y_true: (B, ..., H, W, 3) in [0, 1].
            y_pred: Same shape.
            sample_weight: None, or weights that broadcast to (B, ...).
        """
        values = self.per_frame(_luma_tensor(y_true), _luma_tensor(y_pred))
        super().update_state(values, sample_weight)

    def per_frame(self, truth: Any, prediction: Any) -> Any:
        """Value per frame, shape (...), from two lumas (..., H, W)."""
        raise NotImplementedError


def _luma_tensor(images):
    images = ops.cast(ops.convert_to_tensor(images), "float32")
    rounded = ops.round(ops.clip(images, 0.0, 1.0) * PEAK)
    # Three products instead of a matmul: accelerators may run that in half precision.
    red, green, blue = (
        rounded[..., channel] * weight for channel, weight in enumerate(LUMA_WEIGHTS)
    )
    return red + green + blue + LUMA_OFFSET


@keras.saving.register_keras_serializable("keras_megan")
class LumaPSNR(_FrameMean):
    """Mean over frames of the luma PSNR in decibels, for ``compile(metrics=...)``.

    Equal to ``luma_psnr`` with identical frames counted as 100 dB, lest one black
    frame make the mean of an epoch infinite.

    Args:
        name: Name in logs.
        dtype: Dtype of the running sums.
    """

    def __init__(self, name: str = "luma_psnr", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def per_frame(self, truth: Any, prediction: Any) -> Any:
        error = ops.mean(ops.square(truth - prediction), axis=(-2, -1))
        floor = PEAK**2 / 10.0 ** (PSNR_CAP / 10.0)
        return 10.0 * ops.log10(PEAK**2 / ops.maximum(error, floor))


@keras.saving.register_keras_serializable("keras_megan")
class LumaSSIM(_FrameMean):
    """Mean over frames of the luma SSIM, for ``compile(metrics=...)``.

    Equal to ``luma_ssim``. Frames must have at least 11x11 pixels.

    Args:
        name: Name in logs.
        dtype: Dtype of the running sums.
    """

    def __init__(self, name: str = "luma_ssim", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def per_frame(self, truth: Any, prediction: Any) -> Any:
        height, width = truth.shape[-2:]
        if height is not None and width is not None:
            _check_window_fits(height, width)
        # Variances do not feel a shift, but in float32 they lose digits to the mean.
        shift = 128.0
        a, b = truth - shift, prediction - shift
        moments = (_blur_valid(x, ops.shape(x)) for x in (a, b, a * a, b * b, a * b))
        return ops.mean(_similarity(moments, shift), axis=(-2, -1))


def _blur_valid(images, shape):
    """Gaussian window over (..., H, W), where it fits: (..., H - 10, W - 10)."""
    for axis in (-2, -1):
        length = shape[axis] - (SSIM_WINDOW - 1)
        shifted = (
            weight
            * (
                images[..., k : k + length, :]
                if axis == -2
                else images[..., k : k + length]
            )
            for k, weight in enumerate(_gaussian_window().tolist())
        )
        images = sum(shifted)
    return images
