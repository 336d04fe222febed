"""Damage that real low-resolution footage has and clean bicubic frames lack.

Each function takes the frames that a network is given, uint8 (T, h, w, 3), its settings
and the sample's own generator, and returns frames of the same shape. One strength is
drawn per sample and used for all its frames: a camera does not change from frame to
frame. The truth is never touched, nor are the small frames between the given ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from training.data.codecs import CODECS, through_codec


@dataclass(frozen=True)
class Degradation:
    """One kind of damage.

    Attributes:
        name: A key of `DEGRADATIONS`.
        low, high: Range of its strength. "noise": standard deviation in grey levels;
            "blur": standard deviation of the Gaussian in low-resolution pixels;
            "sharpening": how much of what a Gaussian takes away is added;
            "compression": JPEG quality; "codec": from 0, the best, to 1, the worst
            quality of the video codec that is drawn (`training.data.codecs`).
        probability: Share of the samples that have it.
    """

    name: str
    low: float
    high: float
    probability: float = 0.5


def _noise(frames, strength, random):
    noise = random.normal(0.0, strength, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def _blur(frames, strength, random):
    return np.stack([cv2.GaussianBlur(frame, (0, 0), strength) for frame in frames])


def _sharpening(frames, strength, random):
    wide = np.float32(frames)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in wide])
    return np.clip(np.rint(wide + strength * (wide - blurred)), 0, 255).astype(np.uint8)


def _codec(frames, strength, random):
    codec = list(CODECS)[int(random.integers(len(CODECS)))]
    best, worst = CODECS[codec].best, CODECS[codec].worst
    quality = round(best + strength * (worst - best))
    # Most frames of a film are not key frames: up to T-1 others come first, which run
    # backwards to where these begin.
    lead = frames[1 : 1 + random.integers(len(frames))][::-1]
    decoded, _ = through_codec(np.concatenate([lead, frames]), codec, quality)
    return decoded[len(lead) :]


def _compression(frames, strength, random):
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(round(strength))]
    images = []
    for frame in frames:
        # OpenCV's order is BGR, and JPEG treats the colours differently.
        bgr = np.ascontiguousarray(frame[..., ::-1])
        data = cv2.imencode(".jpg", bgr, quality)[1]
        images.append(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
    return np.stack(images)


def _sometimes(apply: Callable) -> Callable:
    def degrade(frames, settings: Degradation, random: np.random.Generator):
        # Both numbers are always drawn: what follows does not depend on the outcome.
        chance, strength = random.random(), random.uniform(settings.low, settings.high)
        if chance >= settings.probability or strength <= 0:
            return frames
        return apply(frames, strength, random)

    return degrade


#: Name -> function (frames, settings, generator) -> frames.
DEGRADATIONS: dict[str, Callable] = {
    "noise": _sometimes(_noise),
    "blur": _sometimes(_blur),
    "sharpening": _sometimes(_sharpening),
    "compression": _sometimes(_compression),
    "codec": _sometimes(_codec),
}
