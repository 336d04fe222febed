"""Measures methods on a clip, frame by frame, and averages as published.

In: a clip and methods, each a function (T, H, W, 3) -> (2T-1, 4H, 4W, 3). Out: luma
PSNR, SSIM and sharpness of every frame, marked "given" (its reduced version was an
input) or "new" (invented between two inputs). The mean of both hides the difference
that matters most: a method may be good at detail and bad at motion.

Frames are averaged within a clip, then clips with equal weight.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from keras_megan.imaging.sharpness import sharpness
from keras_megan.metrics import PSNR_CAP, luma_psnr_ssim
from training.errors import TrainingError
from training.evaluation.baselines import SCALE, Method
from training.evaluation.clips import Clip
from training.evaluation.scored_windows import EvaluationWindow, evaluation_windows


@dataclass(frozen=True)
class FrameScore:
    """One predicted frame.

    Attributes:
        frame: Its index in the clip.
        given: Whether its reduced version was an input.
        psnr: Luma PSNR in dB, at most 100.
        ssim: Luma SSIM.
        sharpness: Variance of the prediction's Laplacian.
    """

    frame: int
    given: bool
    psnr: float
    ssim: float
    sharpness: float = 0.0


#: Groups of frames with a column each: name -> which frames.
FRAME_GROUPS: dict[str, Callable[[FrameScore], bool]] = {
    "all": lambda score: True,
    "given": lambda score: score.given,
    "new": lambda score: not score.given,
}


@dataclass(frozen=True)
class Summary:
    """Means over some frames, or over clips.

    Attributes:
        psnr: Group of frames (``"all"``, ``"given"``, ``"new"``) -> dB.
        ssim: Group of frames -> SSIM.
        evenness: Sharpness of new frames over that of given ones; `None` where given
            frames have none. Below 1 fine detail pulses at the input's rate.
    """

    psnr: dict[str, float]
    ssim: dict[str, float]
    evenness: float | None = None

    @classmethod
    def of_frames(cls, scores: Iterable[FrameScore]) -> "Summary":
        """Means over a clip's frames."""
        scores = list(scores)
        groups = {
            name: [score for score in scores if belongs(score)]
            for name, belongs in FRAME_GROUPS.items()
        }
        sharp = {n: np.mean([s.sharpness for s in g]) for n, g in groups.items()}
        return cls(
            psnr={n: float(np.mean([s.psnr for s in g])) for n, g in groups.items()},
            ssim={n: float(np.mean([s.ssim for s in g])) for n, g in groups.items()},
            evenness=float(sharp["new"] / sharp["given"]) if sharp["given"] else None,
        )

    @classmethod
    def of_clips(cls, summaries: Iterable["Summary"]) -> "Summary":
        """Means over clips, each with the same weight."""
        summaries = list(summaries)
        known = [s.evenness for s in summaries if s.evenness is not None]
        return cls(
            evenness=float(np.mean(known)) if known else None,
            **{
                measure: {
                    name: float(np.mean([getattr(s, measure)[name] for s in summaries]))
                    for name in FRAME_GROUPS
                }
                for measure in ("psnr", "ssim")
            },
        )

    def as_dict(self) -> dict:
        """Plain dictionaries, for JSON."""
        return asdict(self)


Observer = Callable[[str, EvaluationWindow, np.ndarray], None]


def score_clip(
    clip: Clip,
    methods: Mapping[str, Method],
    num_inputs: int = 4,
    observe: Observer | None = None,
    after_window: Callable[[], None] | None = None,
) -> dict[str, list[FrameScore]]:
    """Runs and measures all methods on one clip, window by window.

    Args:
        clip: Ground truth.
        methods: Name -> method.
        num_inputs: T of every window.
        observe: Called with the name, the window and the prediction (2T-1, H, W, 3) of
            every method, for figures.
        after_window: Called when a window is done by all, for progress.

    Returns:
        Name of the method -> one score per frame of the clip, in order.

    Raises:
        TrainingError: If a method's prediction has another shape than the truth.
    """
    scores: dict[str, list[FrameScore]] = {name: [] for name in methods}
    for window in evaluation_windows(len(clip.truth), num_inputs):
        inputs = clip.small(window.inputs)
        truth = clip.truth[window.start : window.stop]
        for name, method in methods.items():
            prediction = np.asarray(method(inputs))
            if prediction.shape != truth.shape:
                raise TrainingError(
                    f"'{name}' predicted frames of shape {prediction.shape} from "
                    f"{inputs.shape}; expected {truth.shape} (twice the frame rate, "
                    f"{SCALE} times the size)."
                )
            if observe is not None:
                observe(name, window, prediction)
            new = window.first_scored - window.start
            values = luma_psnr_ssim(truth[new:], prediction[new:])
            sharp = map(sharpness, prediction[new:])
            for frame, psnr, ssim, detail in zip(
                window.scored, *values, sharp, strict=True
            ):
                capped = min(float(psnr), PSNR_CAP)
                given = window.is_given(frame)
                scores[name].append(
                    FrameScore(frame, given, capped, float(ssim), detail)
                )
        if after_window is not None:
            after_window()
    return scores
