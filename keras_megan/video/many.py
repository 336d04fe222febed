"""One clip after another: the model is loaded once, a bad file stops none of the rest.

In: clips with their outputs, options, and how to find the model. Out: an `Outcome` for
each. What is wrong with a clip is found before the model is loaded, and an input is
opened once.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from keras_megan.interrupts import check_interrupts
from keras_megan.video.errors import VideoError, writing
from keras_megan.video.models.engines import Model
from keras_megan.video.request.inputs import Clip
from keras_megan.video.upscale import (
    Job,
    Reporter,
    Summary,
    UpscaleOptions,
    check_job,
    run_job,
)

#: Whether new frames have to lie elsewhere than half-way -> what computes them.
FindModel = Callable[[bool], Model]


@dataclass(frozen=True)
class Outcome:
    """What became of one clip.

    Attributes:
        clip: The clip.
        summary: Of its job, if it was done.
        error: Why not, in one line; empty if it was done or skipped.
        skipped: Whether its result was there already.
    """

    clip: Clip
    summary: Summary | None = None
    error: str = ""
    skipped: bool = False


class Models:
    """Loads what computes when it is first needed, and keeps it for other clips."""

    def __init__(self, find: FindModel):
        self._find = find
        self._loaded: dict[str, Any] = {}

    def check_name(self) -> None:
        """Raises `VideoError` if there is no such model at all."""
        self._find(False)

    def check(self, job: Job) -> Model:
        """Finds the model for a job without loading it."""
        return self._find(not job.rate.only_half)

    def runner(self, job: Job):
        """The `Runner` for a job."""
        model = self.check(job)
        if model.engine not in self._loaded:
            self._loaded[model.engine] = model.load()
        runner = self._loaded[model.engine]
        if hasattr(runner, "for_size"):  # several files, each for a size of its own
            info = job.clip.info
            return runner.for_size(info.height, info.width)
        return runner


def upscale_clips(
    clips: Iterable[Clip],
    options: UpscaleOptions,
    models: Models,
    new_reporter: Callable[[Clip], Reporter],
    skip_existing: bool = False,
) -> Iterator[Outcome]:
    """Upscales clips, and yields what became of each as soon as it is known.

    Args:
        clips: The clips and their outputs.
        options: How.
        models: What computes.
        new_reporter: Makes what hears of one clip's progress.
        skip_existing: Leave out clips whose output is there.
    """
    for clip in clips:
        try:
            with writing(clip.output):
                exists = clip.output.exists()
            if skip_existing and exists:
                yield Outcome(clip, skipped=True)
                continue
            job = check_job(clip.source, clip.output, options)
            models.check(job)
            reporter = new_reporter(clip)
            runner = models.runner(job)
            check_interrupts()
            summary = run_job(job, runner, reporter)
        except VideoError as error:
            yield Outcome(clip, error=str(error))
        else:
            yield Outcome(clip, summary)
