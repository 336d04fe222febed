"""The task of space-time super-resolution: 4 small frames in, 7 large ones out.

Batch, per replica: ``low`` uint8 (B, 7, h, w, 3) and ``high`` uint8 (B, 7, 4h, 4w, 3).
The network is given ``low[:, 0::2]``. Loss, per sample:

    pixel_weight * Charbonnier(all 7 frames)
    + motion_weight(step) * Charbonnier(moved small frames, low[:, 1::2])
    + flow_weight * |motion field - teacher's|

The second term asks of the network's motion field alone that neighbours moved to the
middle look like the true middle frame. Through 4x more pixels and the whole trunk that
lesson arrives very faintly, so a new motion field learns mostly from this term; it
fades out because a field that is best for the picture need not be best for the moved
pixels. With a pixel_weight of 0 that is all there is to learn, most of the network is
never computed, and large crops cost little.

Score: luma PSNR and SSIM of whole clips by the published protocol, with the average of
all frames deciding which weights are best; given and new frames are told apart.

Source: Charbonnier, all frames: Xiang et al., Zooming Slow-Mo, CVPR 2020; photometric
supervision of motion: Ren et al., Unsupervised Deep Learning for Optical Flow, AAAI
2017.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops

from keras_megan.imaging.find import find_clips
from keras_megan.layers import OcclusionBlend, SampleBothSides
from keras_megan.losses import Charbonnier
from training.data.cache import ClipCache
from training.data.codecs import parse_quality
from training.data.sampling import Sampler, SamplingSettings
from training.data.teacher import teacher_flow
from training.errors import TrainingError
from training.evaluation.clips import Clip, load_clip
from training.evaluation.scoring import Summary, score_clip

#: The layer whose second input is the small frames moved to the middle; it is there
#: under this name after pruning too.
MOTION_LAYER = "all_images"
#: The layer that estimates it, in a network that has not been pruned.
MOTION_FIELD = "interpolate"
#: Squared pixels: flow errors far below a tenth of a pixel are the teacher's own.
FLOW_SOFTNESS = 1e-2


@dataclass(frozen=True)
class VideoTask:
    """Settings of the task.

    Attributes:
        sampling: How samples are drawn.
        pixel_weight: Weight of the output's loss; 0: only the motion field is trained
            (name its layer in `Stage.layers`).
        motion_weight: Weight of the photometric term at the beginning of each stage; 0
            leaves it out.
        final_motion_weight: That weight at the stage's end; in between it changes
            linearly.
        flow_weight: Weight of the distance, in pixels, between the motion field and
            that of `training.data.teacher`; 0 leaves it out.
        charbonnier: Epsilon squared of the Charbonnier loss.
        validation_frames: Frames used of each validation clip, from its beginning.
        validation_downscale: "auto", "1" or "2"; see `training.evaluate`.
        validation_codec: Codec and quality, such as "h264:28", that the small frames of
            validation clips go through; None: none.
    """

    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    pixel_weight: float = 1.0
    motion_weight: float = 0.0
    final_motion_weight: float = 0.0
    flow_weight: float = 0.0
    charbonnier: float = 1e-6
    validation_frames: int | None = 25
    validation_downscale: str = "auto"
    validation_codec: str | None = None

    score_name = "psnr"

    @property
    def learns_motion(self) -> bool:
        """Whether anything is asked of the motion field itself."""
        return self.motion_weight > 0 or self.flow_weight > 0 or self.pixel_weight <= 0

    def open(self, data: str, report: Callable[[str], None]) -> ClipCache:
        """The training data; decodes it on first use."""
        return ClipCache(data, report)

    def sampler(self, data: ClipCache, seed: int, fraction: float) -> Callable:
        """n -> (low, high), uint8; with a ``flow_weight`` also the teacher's flow."""
        sample = Sampler(data, self.sampling, seed, fraction).sample
        if self.flow_weight <= 0:
            return sample

        def with_teacher(number):
            low, high = sample(number)
            return low, high, teacher_flow(high)

        return with_teacher

    def inputs(self, sample: Callable, count: int = 32) -> np.ndarray:
        """float32 (count, T, h, w, 3): inputs for importances that look at data."""
        low = np.stack([sample(number)[0][0::2] for number in range(count)])
        return low.astype(np.float32) / np.float32(255.0)

    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one input of the network, for counting its multiply-adds."""
        side = self.sampling.crop // 4
        return (self.sampling.num_inputs, side, side, 3)

    def with_auxiliary(self, model: keras.Model) -> keras.Model:
        """The network with what the loss needs: a dict of tensors, or its output."""
        if not self.learns_motion:
            return model
        if self.pixel_weight <= 0 or self.flow_weight > 0:
            outputs = _motion_alone(model)
        else:
            outputs = {"moved": _moved_frames(model)}
        if self.pixel_weight > 0:
            outputs["output"] = model.output
        return keras.Model(model.input, outputs)

    def losses(self, network: keras.Model, batch, progress) -> dict:
        """Loss of every sample of a batch.

        Args:
            network: From ``with_auxiliary``.
            batch: (low, high), with a ``flow_weight`` also the teacher's flow.
            progress: float32 scalar, 0 at the stage's beginning, 1 at its end.

        Returns:
            Name -> (B,) float32. ``"loss"`` is what is minimised.
        """
        low, high = (ops.cast(frames, "float32") / 255.0 for frames in batch[:2])
        outputs = network(low[:, 0::2], training=True)
        loss = Charbonnier(self.charbonnier, reduction=None)
        if not self.learns_motion:
            return {"loss": self.pixel_weight * per_sample(loss(high, outputs))}
        middle = low[:, 1::2]
        moved = ops.reshape(ops.cast(outputs["moved"], "float32"), ops.shape(middle))
        motion = per_sample(loss(middle, moved))
        weight = self.motion_weight + progress * (
            self.final_motion_weight - self.motion_weight
        )
        losses = {"motion": motion}
        total = weight * motion
        if self.flow_weight > 0:
            losses["flow"] = flow_distance(batch[2], outputs["flow"])
            total = total + self.flow_weight * losses["flow"]
        if self.pixel_weight > 0:
            losses["pixels"] = per_sample(loss(high, outputs["output"]))
            total = total + self.pixel_weight * losses["pixels"]
        return {"loss": total, **losses}

    def validator(self, folder: str) -> "ClipValidator":
        """Scores networks on the clips of a folder."""
        return ClipValidator(self, folder)


def _moved_frames(model: keras.Model):
    """The moved frames that the network itself makes on its way to the output."""
    if moves_large_frames(model):
        return _motion_alone(model)["moved"]
    try:
        return model.get_layer(MOTION_LAYER).input[1]
    except (ValueError, TypeError, IndexError) as error:
        raise TrainingError(
            f"motion_weight needs a network whose layer '{MOTION_LAYER}' takes the "
            "moved frames as its second input; this one has none. Set it to 0."
        ) from error


def _motion_alone(model: keras.Model) -> dict:
    """Flow and moved frames of a network, without the features that move along."""
    if moves_large_frames(model):
        return _motion_of_small_frames(model)
    try:
        layer = model.get_layer(MOTION_FIELD)
        flow, moved = layer.branch.motion_alone(*layer.input)
    except (ValueError, TypeError, AttributeError) as error:
        raise TrainingError(
            "flow_weight, or a pixel_weight of 0, needs a MEGAN with "
            f"alignment='window' and its layer '{MOTION_FIELD}'; this network has none."
        ) from error
    return {"flow": flow, "moved": moved}


def moves_large_frames(model: keras.Model) -> bool:
    """Whether a network makes new frames of its neighbours' large results."""
    return bool((getattr(model, "config", None) or {}).get("still_blocks"))


def _motion_of_small_frames(model: keras.Model) -> dict:
    """The same for a network that moves large frames: there small ones only teach."""
    layer = {entry.name: entry for entry in model.layers}
    images = layer["pad"](layer["fold"](model.input))
    motion = layer["motion"]
    flow, logits, _ = motion(extract(layer, images), images)
    sides = layer["left"](images), layer["right"](images)
    return {
        "flow": flow,
        "moved": moved_between(*sides, flow, logits, motion.reach),
    }


def extract(layer: dict[str, keras.Layer], images):
    """A network's features of images, by its layers' names."""
    for name in (name for name in layer if name.startswith("extract")):
        images = layer[name](images)
    return images


def moved_between(left, right, flow, logits, reach: int):
    """Both small frames moved along a motion field and blended by its mask."""
    sides = SampleBothSides(reach)(left, right, flow)
    return OcclusionBlend()(*sides, logits, flow)


def flow_distance(truth, flow):
    """(B,): mean Charbonnier distance of displacements (B, ..., h, w, 4) and flow."""
    flow = ops.reshape(ops.cast(flow, "float32"), ops.shape(truth))
    return per_sample(Charbonnier(FLOW_SOFTNESS, reduction=None)(truth, flow))


def per_sample(values):
    """(B, ...) -> (B,): the mean over everything but the batch."""
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))


class ClipValidator:
    """Whole clips, kept in memory as uint8.

    Args:
        task: What and how.
        folder: Folder of clips.

    Raises:
        VideoError: If there are none or one is too short.
    """

    def __init__(self, task: VideoTask, folder: str):
        self.num_inputs = task.sampling.num_inputs
        self.clips = [
            load_clip(
                source,
                max_frames=task.validation_frames,
                downscale=task.validation_downscale,
                min_frames=task.sampling.span,
            )
            for source in find_clips(folder)
        ]
        if task.validation_codec:
            damage = parse_quality(task.validation_codec)
            self.clips = [clip.compressed(*damage) for clip in self.clips]

    def __call__(self, model: keras.Model) -> dict[str, float]:
        """Means over the clips: psnr, psnr_given, psnr_new and the same of ssim."""
        method = _as_method(model)
        summaries = [
            Summary.of_frames(
                score_clip(clip, {"model": method}, self.num_inputs)["model"]
            )
            for clip in self.clips
        ]
        mean = Summary.of_clips(summaries)
        return {
            "psnr": mean.psnr["all"],
            "psnr_given": mean.psnr["given"],
            "psnr_new": mean.psnr["new"],
            "ssim": mean.ssim["all"],
            "ssim_given": mean.ssim["given"],
            "ssim_new": mean.ssim["new"],
        }

    def strips(self, model: keras.Model) -> dict[str, np.ndarray]:
        """Clip -> uint8 (H, 3W, 3), a new frame: low resolution, output, truth."""
        return {clip.name: _strip(clip, _as_method(model), self) for clip in self.clips}


def _strip(clip: Clip, method, validator: ClipValidator) -> np.ndarray:
    span = 2 * validator.num_inputs - 1
    truth = clip.truth[:span]
    low = clip.small(slice(span))
    middle = validator.num_inputs // 2 * 2 - 1
    output = method(low[0::2])[middle]
    enlarged = np.repeat(np.repeat(low[middle], 4, axis=0), 4, axis=1)
    return np.concatenate([enlarged, output, truth[middle]], axis=1)


def _as_method(model: keras.Model):
    """uint8 (T, h, w, 3) -> uint8 (2T-1, 4h, 4w, 3), as the evaluation asks."""

    def method(frames: np.ndarray) -> np.ndarray:
        inputs = frames[None].astype(np.float32) / np.float32(255.0)
        output = np.asarray(model.predict_on_batch(inputs)[0], np.float32)
        return np.rint(np.clip(output, 0.0, 1.0) * 255.0).astype(np.uint8)

    return method
