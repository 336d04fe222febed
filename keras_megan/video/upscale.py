"""Upscale a whole clip: a file or folder in, a file or folder out.

    check_job      what can be found out without a model: `jobs.job`
    run_job        trial of the output, then segments, made in this process
                   (`jobs.in_process`) or by workers (`cluster.drive`), then joined

N frames become 2N-1. Output frame 2i appears exactly when input frame i does, frame
2i+1 exactly half-way to the next, and the last is shown as long as the input's last, so
the duration stays. Other rates and sizes can be asked for (`request`). Nothing is
interpolated across a scene cut: no window spans it, and the frame before it stays.

Interrupted work can continue (`jobs.journal`): the clip is decoded from its beginning
again, so that cuts and windows come out the same, but the network runs only for what is
missing. The output appears by a rename once all of it is on the disk.
"""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from keras_megan.interrupts import check_interrupts
from keras_megan.video.cluster.crew import CrewRunner
from keras_megan.video.cluster.drive import OnCrew
from keras_megan.video.errors import VideoError, writing
from keras_megan.video.io.writing.assemble import Beside, assemble_images
from keras_megan.video.io.writing.left_out import picture_losses
from keras_megan.video.io.writing.trial import find_ways
from keras_megan.video.jobs.finish import join, put_in_place
from keras_megan.video.jobs.in_process import InProcess
from keras_megan.video.jobs.job import Job, UpscaleOptions, check_job
from keras_megan.video.jobs.journal import Journal, open_journal
from keras_megan.video.jobs.production import Production
from keras_megan.video.jobs.schedule import Plan
from keras_megan.video.models.runner import Runner

__all__ = [
    "Job",
    "Reporter",
    "Summary",
    "UpscaleOptions",
    "check_job",
    "run_job",
    "upscale",
]


@dataclass
class Summary:
    """The outcome of a job.

    Attributes:
        frames_in, frames_out: Frames read and written; unless a rate was asked for,
            `frames_out` is 2 * `frames_in` - 1.
        width, height: Size of the output.
        duration: Seconds of the output.
        cuts: Number of scene cuts.
        repeats: Number of input frames that equal the one before; the network skips
            them.
        resumed_frames: Number of output frames that an earlier run had finished.
        tile: Tile size in input pixels; 0 for whole frames.
        seconds, model_seconds: Wall-clock time of the job, and in the network alone.
        notes: All lines for the user.
        doubts: Those of them that say why the result may not be whole.
    """

    frames_in: int = 0
    frames_out: int = 0
    width: int = 0
    height: int = 0
    duration: float = 0.0
    cuts: int = 0
    repeats: int = 0
    resumed_frames: int = 0
    tile: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


class Reporter(Protocol):
    """Follows the progress of a job."""

    def begin(self, total: int, done: int) -> None:
        """`total` output frames are expected, `done` are finished already."""

    def advance(self, count: int = 1) -> None:
        """So many more output frames are written. Called from the writer thread."""

    def note(self, line: str) -> None:
        """Something the user should know."""


class _Silent:
    def begin(self, total: int, done: int) -> None: ...
    def advance(self, count: int = 1) -> None: ...
    def note(self, line: str) -> None: ...


def upscale(
    source: str | Path,
    output: str | Path,
    runner: Runner,
    options: UpscaleOptions | None = None,
    reporter: Reporter | None = None,
) -> Summary:
    """Upscales a clip in space and time.

    Args:
        source: A video file or a folder of images.
        output: The video file to make, or, without an ending, a folder of PNG images.
        runner: The network; see `load_runner`.
        options: An `UpscaleOptions`.
        reporter: Follows the progress.

    Returns:
        A `Summary`.

    Raises:
        VideoError: For everything a user can cause or cure. No output is left behind,
            but finished segments are, and the same call continues with them.

    Example:

    >>> upscale("clip.mp4", "out.mp4", load_runner("megan_edge"))
    """
    job = check_job(Path(source), Path(output), options or UpscaleOptions())
    return run_job(job, runner, reporter)


def run_job(job: Job, runner: Runner, reporter: Reporter | None = None) -> Summary:
    """Does a job that `check_job` found possible. See `upscale`."""
    began = time.monotonic()
    check_interrupts()  # while the network was loaded
    reporter = _Noting(reporter or _Silent())
    output, options, codec, clip = job.output, job.options, job.codec, job.clip
    info = clip.info
    width, height = job.output_size(runner)
    lost = picture_losses(info, codec, clip.deep)
    for line in (*job.notes, *runner.notes, *info.notes, *lost):
        reporter.note(line)
    for line in info.doubts:
        reporter.doubt(line)
    if clip.deinterlaces:
        reporter.note("The input is interlaced: its fields are made whole pictures.")
    elif info.interlaced:
        reporter.note("The input is interlaced: its combs are enlarged with it.")
    suffix = "" if codec is None else output.suffix.lower()
    described = job.describe(runner)
    with open_journal(output, described, suffix, options.restart) as journal:
        for line in journal.notes:
            reporter.note(line)
        summary = Summary(
            resumed_frames=journal.frames_done, width=width, height=height
        )
        if summary.resumed_frames:
            reporter.note(
                f"Continuing: {summary.resumed_frames} frames are already finished."
            )
        production = Production(
            clip, options, job.rate, codec, runner.frames_in, (width, height)
        )
        with writing(output):
            beside = _try_output(
                job, production.new_encoder, journal, (height, width), reporter
            )
        maker: OnCrew | InProcess
        if isinstance(runner, CrewRunner):
            maker = OnCrew(job, runner, journal, production, reporter)
        else:
            maker = InProcess(job, runner, journal, production, reporter)
        if "tile" not in journal.facts:  # one for all of the job, continued runs too
            try:
                journal.remember(tile=maker.choose_tile())
            except ValueError as error:
                raise VideoError(str(error)) from error
        summary.tile = journal.facts["tile"]
        reporter.begin(job.expected_frames()[1], journal.frames_done)
        plan = production.plan
        with writing(output):
            summary.model_seconds = maker.run()
            _check_complete(plan, journal)
            _finish(job, journal, production, beside, reporter)
        journal.discard()
    for line in clip.remarks:
        reporter.note(line)
    for line in clip.doubts:
        (reporter.note if options.allow_damaged else reporter.doubt)(line)
    summary.frames_in, summary.frames_out = plan.frames, plan.outputs
    summary.cuts, summary.repeats = plan.cuts, plan.repeats
    summary.duration = float(plan.result_end - plan.begin)
    summary.notes, summary.doubts = reporter.notes, reporter.doubts
    summary.seconds = time.monotonic() - began
    return summary


class _Noting:
    """Passes everything on to a reporter and keeps the lines."""

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self.begin, self.advance = reporter.begin, reporter.advance
        self.notes: list[str] = []
        self.doubts: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)
        self._reporter.note(line)

    def doubt(self, line: str) -> None:
        self.doubts.append(line)
        self.note(line)


def _try_output(
    job: Job, new_encoder, journal: Journal, size: tuple[int, int], reporter
) -> Beside | None:
    """Tries the output with all its streams, before hours are spent on its frames.

    Returns:
        What will go beside the pictures of a file; `None` for images in or out.
    """
    info, options = job.clip.info, job.options
    picture = np.full((*size, 3), 128, np.uint16 if job.clip.deep else np.uint8)
    if job.codec is None:
        if info.audio:
            reporter.note("A folder of images holds no sound: left out.")
        return None
    folder, suffix = journal.folder, job.output.suffix.lower()
    beside = None
    if not job.source.is_dir():
        beside = Beside(job.source, (), info.start)
    ways = find_ways(
        new_encoder, picture, beside, folder, suffix, reporter.note, options.audio
    )
    return None if beside is None else replace(beside, ways=ways)


def _check_complete(plan: Plan, journal: Journal) -> None:
    """Raises `VideoError` unless all frames of the plan are in finished segments."""
    if plan.frames == 0:
        raise VideoError("There is no frame between --start and --end.")
    if journal.frames_done != plan.outputs:
        raise VideoError(
            f"{journal.frames_done} frames were written instead of {plan.outputs}; the "
            "input changed while it was being read. Run the command again."
        )


def _finish(
    job: Job,
    journal: Journal,
    production: Production,
    beside: Beside | None,
    reporter: _Noting,
) -> None:
    """Joins the segments and puts the result in its place."""
    info, plan, time_base = job.clip.info, production.plan, production.time_base
    made = journal.folder / f"assembled{journal.suffix}"
    end = plan.tick(plan.result_end, time_base)
    if job.codec is None:
        assemble_images(journal.pieces(), time_base, end, made)
    else:
        if beside is not None:
            whole = plan.begin == info.start and plan.end >= info.end
            stop = None if whole else plan.end
            beside = replace(beside, begin=plan.begin, end=stop)
        join(journal.pieces(), time_base, end, made, beside, reporter.note)
    put_in_place(made, job.output, job.options.force, journal.folder / "replaced")
