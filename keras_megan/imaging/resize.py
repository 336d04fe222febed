"""Resizing as two matrix products: one for the rows, one for the columns.

Every separable resize is linear, so along one axis it is a matrix: output sample
``i`` is ``sum_k matrix[i, k] * input[k]``. Building that matrix once and multiplying
keeps the rules (kernel, antialiasing, borders) in a single place, and the same
matrix serves numpy, ``keras.ops.matmul`` and TensorFlow pipelines alike.

The rules are those of MATLAB's ``imresize``, which made the low-resolution side of
every published super-resolution benchmark:

* Half-pixel centres: output sample ``i`` sits at ``(i + 0.5) / scale - 0.5`` in
  input coordinates.
* Antialiasing: for ``scale < 1`` the kernel is stretched by ``1 / scale``, so that
  it averages all the pixels it replaces. OpenCV's and ``tf.image``'s bicubic do not
  by default, and a network fed with their aliased frames is measured on another task.
* Cubic convolution with ``a = -0.5`` (Keys, 1981); OpenCV uses ``a = -0.75``.
* Borders mirror with the edge pixel repeated; the weights of each row sum to one.

``trilinear_upsample`` is the plain space-time reference that an untrained MEGAN
equals: bilinear in space, the average of the two neighbours in time.
"""

import functools
import math
from collections.abc import Callable

import numpy as np


def _cubic(x):
    """Keys' cubic convolution kernel with a = -0.5; support 4."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, inner, np.where(x < 2.0, outer, 0.0))


def _triangle(x):
    """Linear interpolation's kernel; support 2."""
    return np.maximum(0.0, 1.0 - np.abs(x))


def _box(x):
    """The average of the pixels that a pixel replaces; support 1."""
    return np.where(np.abs(x) < 0.5, 1.0, np.where(np.abs(x) == 0.5, 0.5, 0.0))


def _lanczos3(x):
    """A sinc inside three lobes of a wider one; support 6."""
    return np.where(np.abs(x) < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)


#: Name of a resize method -> (kernel, width of the kernel's support in samples).
KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "bicubic": (_cubic, 4.0),
    "bilinear": (_triangle, 2.0),
    "box": (_box, 1.0),
    "lanczos3": (_lanczos3, 6.0),
}


@functools.lru_cache(maxsize=128)
def resize_matrix(
    input_length: int,
    output_length: int,
    method: str = "bicubic",
    antialias: bool = True,
    scale: float | None = None,
) -> np.ndarray:
    """The matrix that resizes one axis.

    Args:
        input_length: Samples before, >= 1.
        output_length: Samples after, >= 1.
        method: A key of ``KERNELS``.
        antialias: Stretch the kernel when the axis shrinks.
        scale: Output samples per input sample. Defaults to
            ``output_length / input_length``; it differs from that quotient when the
            output length was rounded up, as ``imresize`` does for a given scale.

    Returns:
        Read-only float64 array (output_length, input_length), rows summing to one.
        Cached: the same arguments give the same array.

    Raises:
        ValueError: If a length or the scale is not positive or the method unknown.
    """
    if input_length < 1 or output_length < 1:
        raise ValueError(
            "resize_matrix expects lengths of at least one sample; received "
            f"input_length={input_length}, output_length={output_length}."
        )
    if method not in KERNELS:
        raise ValueError(
            f"Unknown resize method {method!r}; choose one of {sorted(KERNELS)}."
        )
    if scale is None:
        scale = output_length / input_length
    if not scale > 0 or not math.isfinite(scale):
        raise ValueError(f"Expected a finite scale above zero; received {scale}.")

    kernel, support = KERNELS[method]
    stretch = max(1.0, 1.0 / scale) if antialias else 1.0
    width = support * stretch
    centres = (np.arange(output_length) + 0.5) / scale - 0.5
    # Two taps more than the support covers every sample that can weigh anything.
    taps = math.ceil(width) + 2
    positions = np.floor(centres - width / 2)[:, None] + np.arange(taps)[None, :]
    weights = kernel((centres[:, None] - positions) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)

    # Mirror with the edge repeated, as often as needed: ...1 0 | 0 1 ... n-1 | n-1...
    folded = np.mod(positions.astype(np.int64), 2 * input_length)
    folded = np.minimum(folded, 2 * input_length - 1 - folded)
    matrix = np.zeros((output_length, input_length))
    np.add.at(matrix, (np.arange(output_length)[:, None], folded), weights)
    matrix.setflags(write=False)
    return matrix


def imresize(
    images: np.ndarray,
    scale: float | None = None,
    output_size: tuple[int, int] | None = None,
    method: str = "bicubic",
    antialias: bool = True,
) -> np.ndarray:
    """Resizes images or frames as MATLAB's ``imresize`` does.

    Args:
        images: (..., H, W, C), uint8 or floating.
        scale: Factor for both axes; the output has ``ceil(H * scale)`` rows and
            ``ceil(W * scale)`` columns.
        output_size: Rows and columns of the output, in place of ``scale``.
        method: A key of ``KERNELS``.
        antialias: Stretch the kernel when shrinking.

    Returns:
        (..., H', W', C) of the input's dtype. Both products run in float64 (float32
        input: float32); uint8 is rounded and clipped once, at the end. Bicubic
        overshoots: floating output may leave the input's range.

    Raises:
        ValueError: Unless exactly one of ``scale`` and ``output_size`` is given and
            ``images`` has at least three axes.
        TypeError: For a dtype other than uint8 or floating.
    """
    images = np.asarray(images)
    if images.ndim < 3:
        raise ValueError(
            f"imresize expects images (..., H, W, C); received shape {images.shape}."
        )
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise TypeError(
            f"imresize expects uint8 or floating images; received {images.dtype}."
        )
    height, width = images.shape[-3:-1]
    if scale is not None and output_size is None:
        size = (_scaled_length(height, scale), _scaled_length(width, scale))
    elif output_size is not None and scale is None:
        size = output_size
    else:
        raise ValueError(
            "imresize expects exactly one of scale and output_size; received "
            f"scale={scale}, output_size={output_size}."
        )
    rows = resize_matrix(height, size[0], method, antialias, scale)
    columns = resize_matrix(width, size[1], method, antialias, scale)
    resized = apply_resize(images, rows, columns)
    if images.dtype == np.uint8:
        return np.clip(np.rint(resized), 0, 255).astype(np.uint8)
    return resized.astype(images.dtype, copy=False)


def _scaled_length(length: int, scale: float) -> int:
    # Without the guard, 100 * (1 / 3 * 3.0...1) would gain a sample by rounding error.
    return max(1, math.ceil(length * scale - 1e-9))


def apply_resize(
    images: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Applies ``rows`` (H', H) and ``columns`` (W', W) to images (..., H, W, C).

    Returns:
        (..., H', W', C), float32 for float32 images and float64 otherwise.
    """
    working = np.float32 if images.dtype == np.float32 else np.float64
    rows, columns = rows.astype(working), columns.astype(working)
    *leading, height, width, channels = images.shape
    images = images.astype(working, copy=False)
    # Rows: (H', H) x (H, W*C); columns: (W', W) x (W, C), broadcast over the rest.
    result = rows @ images.reshape(*leading, height, width * channels)
    return columns @ result.reshape(*leading, rows.shape[0], width, channels)


def area_downscale(images: np.ndarray, factor: int) -> np.ndarray:
    """Shrinks by a whole factor, each output pixel the mean of a square of pixels.

    Averaging the source's pixels also averages away much of its compression noise,
    so clips from lossy files are shrunk like this before they serve as ground truth.

    Args:
        images: (..., H, W, C), uint8 or floating. Rows and columns beyond the last
            multiple of ``factor`` are left out.
        factor: Whole number >= 1; 1 returns the images as they are.

    Returns:
        (..., H // factor, W // factor, C), same dtype. uint8 rounds halves up.

    Raises:
        ValueError: If ``factor`` is below one or larger than the image.
    """
    images = np.asarray(images)
    if images.ndim < 3:
        raise ValueError(
            "area_downscale expects images (..., H, W, C); received shape "
            f"{images.shape}."
        )
    if not 1 <= factor <= min(images.shape[-3:-1]):
        raise ValueError(
            f"area_downscale expects a factor between 1 and the image's sides; "
            f"received factor={factor} for shape {images.shape}."
        )
    if factor == 1:
        return images
    height, width = images.shape[-3] // factor, images.shape[-2] // factor
    blocks = images[..., : height * factor, : width * factor, :].reshape(
        *images.shape[:-3], height, factor, width, factor, images.shape[-1]
    )
    if images.dtype == np.uint8:
        total = blocks.sum(axis=(-4, -2), dtype=np.uint32)
        pixels = factor * factor
        return ((total + pixels // 2) // pixels).astype(np.uint8)
    return blocks.mean(axis=(-4, -2), dtype=np.float64).astype(images.dtype)


def trilinear_upsample(frames: np.ndarray, scale: int = 4) -> np.ndarray:
    """Space-time upsampling by linear interpolation along all three axes.

    Args:
        frames: (T, H, W, C) floating, T >= 1.
        scale: Whole spatial factor.

    Returns:
        (2T - 1, scale*H, scale*W, C), same dtype: frames 0, 2, 4, ... are the given
        ones, bilinear with half-pixel centres and repeated edges; frames 1, 3, ...
        the averages of their neighbours.

    Raises:
        ValueError: If ``frames`` is not a floating array of rank 4.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(
            "trilinear_upsample expects floating frames (T, H, W, C); received "
            f"{frames.dtype} of shape {frames.shape}."
        )
    return interleave_midpoints(imresize(frames, scale, method="bilinear"))


def interleave_midpoints(frames: np.ndarray) -> np.ndarray:
    """Puts the average of each two neighbours between them: (T, ...) -> (2T-1, ...)."""
    result = np.empty((2 * len(frames) - 1, *frames.shape[1:]), frames.dtype)
    result[0::2] = frames
    result[1::2] = (frames[:-1] + frames[1:]) * 0.5
    return result
