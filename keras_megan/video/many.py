"""One clip after another: the model is loaded once, and a bad file stops no other.

In: clips with their outputs, options, and how to find the model. Out: an `Outcome` for
each. What is wrong with a clip is found before the model is loaded, and an input is
opened once.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from keras_megan.interrupts import check_interrupts
from keras_megan.video.errors import VideoError, writing
from keras_megan.video.models.loaded import Models
from keras_megan.video.request.inputs import Clip
from keras_megan.video.upscale import (
    Reporter,
    Summary,
    UpscaleOptions,
    check_job,
    run_job,
)


@dataclass(frozen=True)
class Outcome:
    """What became of one clip.

    Attributes:
        clip: The clip.
        summary: The summary of its job, if it was done.
        error: Why it failed, in one line; empty if it was done or skipped.
        skipped: Whether its result already existed.
    """

    clip: Clip
    summary: Summary | None = None
    error: str = ""
    skipped: bool = False


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
        options: How to upscale.
        models: What loads the network.
        new_reporter: Makes the reporter of one clip's progress.
        skip_existing: Whether to leave out clips whose output exists.
    """
    for clip in clips:
        try:
            with writing(clip.output):
                exists = clip.output.exists()
            if skip_existing and exists:
                yield Outcome(clip, skipped=True)
                continue
            job = check_job(clip.source, clip.output, options)
            model = models.find(job.needs)
            reporter = new_reporter(clip)
            if model.why:
                reporter.note(model.why)
            info = job.clip.info
            runner = models.runner(info.height, info.width, job.needs)
            check_interrupts()
            summary = run_job(job, runner, reporter)
            if model.why:
                summary.notes.insert(0, model.why)
        except VideoError as error:
            yield Outcome(clip, error=str(error))
        else:
            yield Outcome(clip, summary)
