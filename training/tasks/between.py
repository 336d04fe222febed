"""The task of frames between two given ones, for a MEGAN that moves large frames.

Only what finds motion and what corrects new frames is trained; the still network's
large frames are taken as they are, each enlarged by itself. A sample is a triple of
frames of a clip: two given ones, some frames apart, and one of those between them, at
its own time. So the motion field learns from small and large motion and from every
time, not from the middle alone.

Batch, per replica: ``low`` uint8 (B, 3, h, w, 3), ``high`` uint8 (B, 4h, 4w, 3), the
frame between, ``time`` float32 (B, 1), and with a flow_weight ``flow`` float32
(B, h, w, 4), the motion between the given frames that optical flow finds. Loss, per
sample:

    pixel_weight * Charbonnier(new frame)
    + motion_weight * Charbonnier(moved small frames)
    + flow_weight * |motion between the given frames - flow|

Score: luma PSNR of the new frames of whole clips by the published protocol.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops

from keras_megan.imaging.resize import imresize
from keras_megan.layers import MotionAtTime, MotionToNeighbours
from keras_megan.losses import Charbonnier
from training.data.cache import ClipCache
from training.data.sampling import SCALE, flipped_and_turned, generator
from training.data.teacher import neighbour_flow
from training.errors import TrainingError
from training.tasks.video import (
    ClipValidator,
    VideoTask,
    extract,
    flow_distance,
    moved_between,
    moves_large_frames,
    per_sample,
)

#: The layers that are trained, in addition to those whose names begin with "extract".
LAYERS = ("motion", "between")


@dataclass(frozen=True)
class BetweenTask:
    """Settings of the task.

    Attributes:
        crop: Side of the high-resolution crop in pixels, a multiple of 32.
        gaps: (frames between the given ones, weight) pairs.
        middle_share: Share of samples whose time is the gap's middle; the others take
            any frame of it.
        candidates: In part of the samples, the number of random crops of which the
            one with the most change is taken.
        pixel_weight: Weight of the term for new frames; 0: large frames are never
            computed, only motion is learned.
        motion_weight: Weight of the term for small frames.
        flow_weight: Weight of the term for the motion between given frames.
        video: Settings of the whole network's scores.
    """

    crop: int = 160
    gaps: tuple[tuple[int, float], ...] = ((2, 0.6), (4, 0.25), (6, 0.15))
    middle_share: float = 0.5
    candidates: int = 3
    pixel_weight: float = 1.0
    motion_weight: float = 0.2
    flow_weight: float = 0.0
    video: VideoTask = field(
        default_factory=lambda: VideoTask(validation_downscale="1")
    )

    score_name = "psnr_new"

    def open(self, data: str, report: Callable[[str], None]) -> ClipCache:
        """The training clips; decodes them on first use."""
        return ClipCache(data, report)

    def sampler(self, data: ClipCache, seed: int, fraction: float) -> Callable:
        """n -> (low, high, time), with a ``flow_weight`` also the flow."""
        smallest = min(gap for gap, _ in self.gaps)
        usable = [
            i
            for i in range(len(data))
            if data.shape(i)[0] > smallest and min(data.shape(i)[1:]) >= self.crop
        ]
        if not usable:
            raise TrainingError(
                f"No clip has more than {smallest} frames with sides of at least "
                f"{self.crop} pixels. Prepare longer or larger clips, or use a smaller "
                "crop."
            )
        # Every group of clips counts alike, however many clips it has.
        groups = sorted({data.groups[i] for i in usable})
        groups = groups[: max(1, round(fraction * len(groups)))]
        members = [[i for i in usable if data.groups[i] == g] for g in groups]

        def sample(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            random = generator(seed, number)
            clips = members[int(random.integers(len(members)))]
            return self._triple(data[clips[int(random.integers(len(clips)))]], random)

        return sample

    def _triple(self, clip, random):
        length, height, width = clip.frames.shape[:3]
        gaps = [(gap, weight) for gap, weight in self.gaps if gap < length]
        weights = np.cumsum([weight for _, weight in gaps])
        gap = gaps[int(np.searchsorted(weights / weights[-1], random.random()))][0]
        first = int(random.integers(length - gap))
        step = gap // 2
        if random.random() >= self.middle_share:
            step = int(random.integers(1, gap))
        ends = clip.frames[first], clip.frames[first + gap]
        best = None
        count = self.candidates if random.random() < 0.6 else 1
        for _ in range(count):
            top = int(random.integers(height - self.crop + 1))
            left = int(random.integers(width - self.crop + 1))
            place = np.s_[top : top + self.crop, left : left + self.crop]
            change = np.abs(
                ends[0][place][::4, ::4].astype(np.int16) - ends[1][place][::4, ::4]
            ).mean()
            if best is None or change > best[0]:
                best = change, place
        frames = clip.frames[[first, first + gap, first + step]]
        high = np.stack([frame[best[1]] for frame in frames])
        time = step / gap
        if random.random() < 0.5:
            high, time = high[[1, 0, 2]], 1.0 - time
        high = flipped_and_turned(high, random)
        low = imresize(high, 1.0 / SCALE)
        triple = low, high[2], np.array([time], np.float32)
        return (*triple, neighbour_flow(*high[:2])) if self.flow_weight > 0 else triple

    def inputs(self, sample: Callable, count: int = 32) -> np.ndarray:
        """The given frames of ``count`` samples, float32 (count, 2, h, w, 3)."""
        low = np.stack([sample(number)[0][:2] for number in range(count)])
        return low.astype(np.float32) / np.float32(255.0)

    def sample_shape(self) -> list[tuple[int, ...]]:
        """Shapes of one sample's inputs, for counting multiply-adds."""
        side = self.crop // SCALE
        return [(side, side, 3), (side, side, 3), (1,)]

    def with_auxiliary(self, model: keras.Model) -> keras.Model:
        """A model of (pairs of frames, times) -> new frame and moved small frame.

        It shares the network's layers, for one gap: pairs (B, 2, h, w, 3).

        Raises:
            TrainingError: If the network does not move large frames.
        """
        if not moves_large_frames(model):
            raise TrainingError(
                "BetweenTask needs a MEGAN with still_blocks, which makes new frames "
                "of their neighbours' large results."
            )
        layer = {entry.name: entry for entry in model.layers}
        motion, between = (layer[name] for name in LAYERS)
        left = keras.Input((None, None, 3), name="left")
        right = keras.Input((None, None, 3), name="right")
        times = keras.Input((1,), name="times")

        def features(image):
            extracted = extract(layer, image)
            return motion.pyramid(motion.activation(motion.embed(extracted)))

        field = motion.field(features(left), features(right), left, right)
        flow, logits, context = MotionAtTime(motion.reach)(*field, times)
        outputs = {"moved": moved_between(left, right, flow, logits, motion.reach)}
        if self.pixel_weight > 0:
            still = layer["still"]
            large = [ops.stop_gradient(still(image)) for image in (left, right)]
            outputs["output"] = between(*large, flow, logits, context)
        if self.flow_weight > 0:
            outputs["flow"] = ops.concatenate(
                MotionToNeighbours(motion.reach)(field[0]), axis=-1
            )
        return keras.Model([left, right, times], outputs)

    def losses(self, network: keras.Model, batch, progress) -> dict:
        """Loss of every sample of a batch; see `VideoTask.losses`."""
        low, high = (ops.cast(frames, "float32") / 255.0 for frames in batch[:2])
        outputs = network([low[:, 0], low[:, 1], batch[2]], training=True)
        charbonnier = Charbonnier(1e-6, reduction=None)

        def of_samples(truth, received):
            return per_sample(charbonnier(truth, ops.cast(received, "float32")))

        terms = {"motion": of_samples(low[:, 2], outputs["moved"])}
        if self.pixel_weight > 0:
            terms["pixels"] = of_samples(high, outputs["output"])
        if self.flow_weight > 0:
            terms["flow"] = flow_distance(batch[3], outputs["flow"])
        weights = {
            "motion": self.motion_weight,
            "pixels": self.pixel_weight,
            "flow": self.flow_weight,
        }
        return {"loss": sum(weights[name] * terms[name] for name in terms), **terms}

    def validator(self, folder: str) -> ClipValidator:
        """Scores the whole network on the clips of a folder."""
        return ClipValidator(self.video, folder)
