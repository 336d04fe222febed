"""How sharp a picture is, and new frames made as sharp as the given ones beside them.

A new frame is softer than the given frames it lies between, because it is made of both
and neither fits exactly. At twice the rate every second frame is soft, and fine detail
pulses at the input's rate. `evened` takes the difference out by unsharp masking:

    sharpened = frame + amount * (frame - blurred frame)

The variance of its Laplacian is a quadratic polynomial of the amount, so the amount
that gives the neighbours' sharpness is a root of it and needs no search. What is
sharpened differs more from the truth where the detail is wrong: docs/upscale.md has
the cost in dB.
"""

import cv2
import numpy as np

_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)
#: Radius of the blur, in pixels of the enlarged frame, where an input pixel is 4 wide.
_SIGMA = 1.2
#: More would draw the noise of a frame that failed.
_LARGEST_AMOUNT = 1.5


def sharpness(image: np.ndarray) -> float:
    """The variance of the Laplacian of a picture's luma.

    Args:
        image: RGB (H, W, 3), uint8, uint16, or float in [0, 1].

    Returns:
        Of values from 0 to 255; more is sharper.
    """
    return float(_laplacian(_luma(image)).var())


def evened(frame: np.ndarray, before: float, after: float) -> np.ndarray:
    """A new frame, sharpened to the mean of the given frames beside it.

    Args:
        frame: RGB (H, W, 3), uint8 or uint16.
        before, after: The `sharpness` of the given frames on both sides.

    Returns:
        (H, W, 3) of the same type; untouched where it is sharp enough.
    """
    # The mean of logarithms: the sharpness between 10 and 1000 is 100.
    amount = _amount(_luma(frame), float(np.sqrt(before * after)))
    if amount == 0:
        return frame
    largest = np.iinfo(frame.dtype).max
    floats = frame.astype(np.float32)
    sharpened = floats + np.float32(amount) * (floats - _blurred(floats))
    return np.rint(np.clip(sharpened, 0, largest)).astype(frame.dtype)


def _amount(luma: np.ndarray, wanted: float) -> float:
    """How much of the detail to add, so that the Laplacian's variance is `wanted`."""
    first = _laplacian(luma)
    second = _laplacian(luma - _blurred(luma))
    have = float(first.var())
    if wanted <= have:
        return 0.0
    both = float(((first - first.mean()) * (second - second.mean())).mean())
    alone = float(second.var())
    if alone == 0:
        return 0.0
    # alone * a**2 + 2 * both * a + have - wanted = 0, the root above 0
    root = (-both + (both**2 + alone * (wanted - have)) ** 0.5) / alone
    return min(root, _LARGEST_AMOUNT)


def _luma(image: np.ndarray) -> np.ndarray:
    full = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
    return cv2.transform(image.astype(np.float32), _LUMA * np.float32(255 / full))


def _blurred(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), _SIGMA, borderType=cv2.BORDER_REFLECT_101)


def _laplacian(image: np.ndarray) -> np.ndarray:
    return cv2.Laplacian(image, cv2.CV_32F, ksize=1, borderType=cv2.BORDER_REFLECT_101)
