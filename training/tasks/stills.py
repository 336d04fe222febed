"""The task of enlarging single frames: the still network of a MEGAN by itself.

Photographs and single frames of clips are cropped, reduced, and enlarged again by the
network's layer ``still``; nothing else of it is computed or changed. A photograph
teaches texture seven times as fast as a clip, whose frames show nearly the same seven
times.

Batch, per replica: ``low`` uint8 (B, h, w, 3) and ``high`` uint8 (B, 4h, 4w, 3). Loss,
per sample: Charbonnier, and for the last part of a stage the squared error, which is
what PSNR counts. Score: luma PSNR of given frames by the published protocol.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops

from keras_megan.imaging.resize import imresize
from keras_megan.losses import Charbonnier
from training.data.cache import ClipCache
from training.data.photos import Photos
from training.data.sampling import SCALE, flipped_and_turned, generator
from training.errors import TrainingError
from training.tasks.video import ClipValidator, VideoTask, per_sample

#: The layer that is trained.
STILL = "still"
#: Brings the squared error's gradients to the size of Charbonnier's.
SQUARED_WEIGHT = 20.0
#: Images of more pixels than this are not drawn more often.
MOST_PIXELS = 600_000


@dataclass(frozen=True)
class StillTask:
    """Settings of the task.

    Attributes:
        crop: Side of the high-resolution crop in pixels, a multiple of 4.
        clip_step: Every how many frames of a clip one is used as a single image.
        squared_from: Share of a stage from which on errors are squared; 1: never.
        video: Settings of the whole network's scores.
    """

    crop: int = 192
    clip_step: int = 12
    squared_from: float = 0.8
    video: VideoTask = field(
        default_factory=lambda: VideoTask(validation_downscale="1")
    )

    score_name = "psnr_given"

    def open(self, data: str, report: Callable[[str], None]) -> list[np.ndarray]:
        """All images: the photographs beside the shards, and frames of the clips."""
        photos, clips = Photos(data), ClipCache(data, report)
        images = [photos[i] for i in range(len(photos))]
        for i in range(len(clips)):
            images += list(clips[i].frames[:: self.clip_step])
        images = [image for image in images if min(image.shape[:2]) >= self.crop]
        if not images:
            raise TrainingError(
                f"'{data}' holds no image with sides of at least {self.crop} pixels, "
                "the crop that is trained on."
            )
        return images

    def sampler(self, data: list[np.ndarray], seed: int, fraction: float) -> Callable:
        """n -> (low, high), uint8."""
        chosen = generator(seed, 2**63).permutation(len(data))
        images = [data[i] for i in chosen[: max(1, round(fraction * len(data)))]]
        areas = [min(MOST_PIXELS, i.shape[0] * i.shape[1]) for i in images]
        shares = np.cumsum(areas) / np.sum(areas)

        def sample(number: int) -> tuple[np.ndarray, np.ndarray]:
            random = generator(seed, number)
            index = int(np.searchsorted(shares, random.random()))
            high = self._cut(images[min(index, len(images) - 1)], random)
            return imresize(high, 1.0 / SCALE), high

        return sample

    def _cut(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """A crop, in half of the samples the busier of two; flipped and turned."""
        height, width = image.shape[:2]
        crops = []
        for _ in range(2 if random.random() < 0.5 else 1):
            top = int(random.integers(height - self.crop + 1))
            left = int(random.integers(width - self.crop + 1))
            crops.append(image[top : top + self.crop, left : left + self.crop])
        high = max(crops, key=_detail)
        high = flipped_and_turned(high, random)
        if random.random() < 0.5:
            high = high[..., random.permutation(3)]
        return np.ascontiguousarray(high)

    def inputs(self, sample: Callable, count: int = 32) -> np.ndarray:
        """float32 (count, T, h, w, 3): inputs for importances that look at data."""
        frames = self.video.sampling.num_inputs
        low = np.stack([sample(number)[0] for number in range(count * frames)])
        low = low.reshape(count, frames, *low.shape[1:])
        return low.astype(np.float32) / np.float32(255.0)

    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one input of the network, for counting its multiply-adds."""
        side = self.crop // SCALE
        return (side, side, 3)

    def with_auxiliary(self, model: keras.Model) -> keras.Model:
        """The still network alone, as a model of images.

        Raises:
            TrainingError: If the network has none.
        """
        try:
            layer = model.get_layer(STILL)
        except ValueError as error:
            raise TrainingError(
                "StillTask needs a MEGAN with still_blocks, whose layer "
                f"'{STILL}' enlarges single frames; this network has none."
            ) from error
        images = keras.Input((None, None, 3))
        return keras.Model(images, layer(images))

    def losses(self, network: keras.Model, batch, progress) -> dict:
        """Loss of every sample of a batch; see `VideoTask.losses`."""
        low, high = (ops.cast(frames, "float32") / 255.0 for frames in batch)
        output = network(low, training=True)
        loss = Charbonnier(1e-6, reduction=None)(high, output)
        squared = SQUARED_WEIGHT * ops.square(high - output)
        pixels = per_sample(loss)
        target = ops.where(progress >= self.squared_from, per_sample(squared), pixels)
        return {"loss": target, "pixels": pixels}

    def validator(self, folder: str) -> ClipValidator:
        """Scores the whole network on the clips of a folder."""
        return ClipValidator(self.video, folder)


def _detail(crop: np.ndarray) -> float:
    """Mean difference between every other pixel of the green channel."""
    green = crop[::2, ::2, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=1)).mean())
