"""Upscale a whole clip: a file or folder in, a file or folder out.

    reader thread                 calling thread              writer thread
    decode, find scene cuts,  ->  the network, tile by   ->   encode into segments
    cut into windows              tile; hold at cuts          and record them

N frames become 2N-1. Output frame 2i appears exactly when input frame i does, frame
2i+1 exactly half-way to the next, and the last is shown as long as the input's last, so
the duration stays. Other rates and sizes can be asked for (`request`). Across a scene
cut nothing is interpolated: no window reaches over it, and the frame before it stays.

Interrupted work continues (`journal`). After an interruption the clip is decoded from
its beginning, so that cuts and windows come out the same, but the network runs only for
what is missing. The output appears by a rename when all of it is on the disk.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from keras_megan.interrupts import check_interrupts
from keras_megan.video.errors import VideoError, reading, writing
from keras_megan.video.io.assemble import Beside, assemble_images
from keras_megan.video.io.codecs import Codec, choose_codec
from keras_megan.video.io.encoders import tune
from keras_megan.video.io.image_folder import TIMESTAMPS
from keras_megan.video.io.losses import picture_losses
from keras_megan.video.io.probe import VideoInfo
from keras_megan.video.io.read import Folder, VideoFile, open_clip
from keras_megan.video.io.segments import ImageEncoder, SegmentWriter, VideoEncoder
from keras_megan.video.io.trial import find_ways
from keras_megan.video.jobs.finish import join, put_in_place
from keras_megan.video.jobs.journal import Journal, open_journal
from keras_megan.video.jobs.pipeline import BackgroundWriter, prefetched
from keras_megan.video.jobs.schedule import Plan
from keras_megan.video.models.runner import Runner, takes_times
from keras_megan.video.request.rate import HALF, Rate, choose_rate
from keras_megan.video.request.size import Size, output_size, resizer
from keras_megan.video.scene_cuts import DEFAULT_THRESHOLD
from keras_megan.video.tiles import TiledRunner, choose_tile, fit_tile

_FORMAT = 3  # of the work folder; raise it when segments change


@dataclass(frozen=True)
class UpscaleOptions:
    """How to upscale.

    Attributes:
        tile: Largest tile in input pixels, "auto" or 0 for none.
        codec, crf: See `codecs.CODECS`; `None` for the usual.
        start, end: Part of the input, in seconds from its first frame.
        scene_threshold: See `SceneCutDetector`; `None` switches the detector off.
        rate: Frames per second of a folder of images.
        scale, size, fit: How large the result is; see `request.size.output_size`.
            `None`: as large as the network makes it.
        fps, factor: When output frames appear; see `request.rate`. `None`: twice as
            many as the input's.
        audio: Whether sound is kept.
        encoder, preset, pix_fmt: See `io.encoders.tune`; `None`: as usual.
        allow_damaged: Take what is there of a damaged file.
        deinterlace: "auto" where the stream says that it is interlaced, "on", "off".
        force: Replace an existing output.
        restart: Throw away what an earlier run has finished.
    """

    tile: int | str = "auto"
    codec: str | None = None
    crf: int | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    scene_threshold: float | None = DEFAULT_THRESHOLD
    rate: Fraction | None = None
    scale: Fraction | None = None
    size: Size | None = None
    fit: bool = False
    fps: Fraction | None = None
    factor: Fraction | None = None
    audio: bool = True
    encoder: str | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    allow_damaged: bool = False
    deinterlace: str = "auto"
    force: bool = False
    restart: bool = False


@dataclass
class Summary:
    """What happened.

    Attributes:
        frames_in, frames_out: Frames read and written; unless a rate was asked for,
            `frames_out` is 2 * `frames_in` - 1.
        width, height: Size of the output.
        duration: Seconds of the output.
        cuts: Scene cuts found.
        repeats: Input frames that equal the one before; they cost the network nothing.
        resumed_frames: Output frames that an earlier run had finished.
        tile: Tile size in input pixels; 0 for whole frames.
        seconds, model_seconds: Wall-clock time of the job, and in the network alone.
        notes: All lines the user was to see.
        doubts: Those of them for which it is not certain that the result is whole.
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
    """Hears how the job goes."""

    def begin(self, total: int, done: int) -> None:
        """`total` output frames are expected, `done` are finished already."""

    def advance(self) -> None:
        """One more output frame is written. Called from the writer thread."""

    def note(self, line: str) -> None:
        """Something the user should know."""


class _Silent:
    def begin(self, total: int, done: int) -> None: ...
    def advance(self) -> None: ...
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
        reporter: Hears about progress.

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


@dataclass(frozen=True)
class Job:
    """A job that can be done, as far as can be seen without a model.

    Attributes:
        source, output: From which file or folder to which.
        options: How.
        clip: The opened input.
        codec: How to encode; `None` for a folder of images.
        rate: When output frames appear.
        notes: Lines the user should see.
    """

    source: Path
    output: Path
    options: UpscaleOptions
    clip: VideoFile | Folder
    codec: Codec | None
    rate: Rate
    notes: tuple[str, ...] = ()

    def output_size(self, runner: Runner) -> tuple[int, int]:
        """Width and height of the result.

        Raises:
            VideoError: If the network cannot make what is asked for.
        """
        options, info = self.options, self.clip.info
        if not self.rate.only_half and not takes_times(runner):
            raise VideoError(
                f"The model '{runner.name}' makes new frames half-way between two "
                f"given ones only: from {float(info.rate):.4g} frames/s it makes "
                f"{float(2 * info.rate):.4g} or a whole part of that. Choose such a "
                "rate or a model that takes times (megan models)."
            )
        return output_size(
            info.width,
            info.height,
            runner.scale,
            options.scale,
            options.size,
            options.fit,
        )

    def expected_frames(self) -> tuple[int, int]:
        """About how many frames will be read, and how many written."""
        info, options = self.clip.info, self.options
        start = options.start or Fraction(0)
        end = info.duration if options.end is None else min(options.end, info.duration)
        length = max(Fraction(0), end - start)
        share = length / info.duration if info.duration else Fraction(1)
        given = max(1, round(info.num_frames * share))
        return given, self.rate.expected(given, length)


def check_job(source: Path, output: Path, options: UpscaleOptions) -> Job:
    """Finds out whether a job can be done, without a model and in a moment.

    Raises:
        VideoError: If not.
    """
    _check_output(source, output, options.force)
    codec = choose_codec(output, options.codec, options.crf)
    clip = open_clip(
        source,
        options.rate,
        allow_damaged=options.allow_damaged,
        deinterlace=options.deinterlace,
    )
    if codec is not None:
        codec = choose_codec(output, options.codec, options.crf, clip.info.depth)
    codec, notes = tune(codec, options.encoder, options.preset, options.pix_fmt)
    clip.deep = clip.info.depth > 8 and (codec is None or bool(codec.deep_format))
    rate = choose_rate(options.fps, options.factor, clip.info.rate)
    return Job(source, output, options, clip, codec, rate, notes)


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
    described = _describe_job(job, runner)
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
        new_encoder = ImageEncoder
        if codec is not None:
            new_encoder = partial(VideoEncoder, info=info, codec=codec, crf=options.crf)
        with writing(output):
            beside = _try_output(job, new_encoder, journal, (height, width), reporter)
        upscaler = _prepare(runner, info, options, journal)
        summary.tile = journal.facts["tile"]
        writer = SegmentWriter(journal, suffix, new_encoder, reporter.advance)
        reporter.begin(job.expected_frames()[1], journal.frames_done)
        plan = Plan(
            clip.frames(options.start, options.end),
            options.scene_threshold,
            runner.frames_in,
            job.rate,
        )
        time_base = job.rate.clock(info.time_base)
        try:
            with writing(output):
                _run(plan, upscaler, writer, time_base, resizer(width, height), summary)
                _finish(job, journal, plan, time_base, suffix, beside, reporter)
        except BaseException:
            writer.abandon()
            raise
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


def _run(
    plan: Plan,
    upscaler: TiledRunner,
    writer: SegmentWriter,
    time_base: Fraction,
    resize: Callable[[np.ndarray], np.ndarray],
    summary: Summary,
) -> None:
    """Drives the three stages until the last segment is recorded."""
    journal = writer.journal
    depth = 2 * upscaler.runner.frames_out

    def write(item: tuple[int, int, np.ndarray]) -> None:
        index, tick, image = item
        writer.write(index, tick, resize(image))

    with (
        prefetched(plan.tasks(), depth=2) as tasks,
        BackgroundWriter(write, depth) as background,
    ):
        for task in tasks:
            check_interrupts()
            first = task.first_output
            if journal.has_frames(range(first, first + len(task.shots))):
                continue
            before = time.monotonic()
            frames = np.stack([item.image for item in task.window.items])
            results = [upscaler(frames, _times(each, upscaler)) for each in task.times]
            summary.model_seconds += time.monotonic() - before
            for index, shot in enumerate(task.shots, first):
                tick = plan.tick(shot.moment, time_base)
                background.put((index, tick, results[shot.call][shot.position]))
            del results
    writer.finish()
    if plan.frames == 0:
        raise VideoError("There is no frame between --start and --end.")
    found = writer.journal.frames_done
    if found != plan.outputs:
        raise VideoError(
            f"{found} frames were written instead of {plan.outputs}; the input "
            "changed while it was being read. Run the command again."
        )


def _times(times: tuple[Fraction, ...], upscaler: TiledRunner) -> np.ndarray | None:
    """The times of one call as the network takes them; `None` for half-way."""
    if all(time == HALF for time in times):
        return None
    if not takes_times(upscaler.runner):
        raise VideoError(
            f"The model '{upscaler.runner.name}' makes new frames half-way between two "
            "given ones only, and this clip's frame rate varies. Leave out --fps, or "
            "choose a model that takes times (megan models)."
        )
    return np.array(times, np.float32)


def _finish(
    job: Job,
    journal: Journal,
    plan: Plan,
    time_base: Fraction,
    suffix: str,
    beside: Beside | None,
    reporter: _Noting,
) -> None:
    """Joins the segments and puts the result in its place."""
    info = job.clip.info
    made = journal.folder / f"assembled{suffix}"
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


def _prepare(
    runner: Runner, info: VideoInfo, options: UpscaleOptions, journal: Journal
) -> TiledRunner:
    """The runner for this clip, with the tile that is used for all of the job."""
    height, width = info.height, info.width
    try:
        if "tile" not in journal.facts:
            tile = options.tile
            if tile == "auto":
                tile = choose_tile(runner, height, width)
            journal.remember(tile=fit_tile(runner, height, width, tile))
        return TiledRunner(runner, height, width, journal.facts["tile"])
    except ValueError as error:
        raise VideoError(str(error)) from error


# What does not shape the result.
_PASSING = {"force", "restart", "audio"}


def _describe_job(job: Job, runner: Runner) -> dict:
    """All that the result depends on, as JSON values."""
    options = {
        f"--{name.replace('_', '-')}": _json_value(value)
        for name, value in vars(job.options).items()
        if name not in _PASSING
    }
    return {
        "the format of unfinished work": _FORMAT,
        "the input": job.clip.info.content,
        "the model": runner.fingerprint,
        "the kind of output": [
            job.output.suffix.lower(),
            job.codec and [job.codec.name, job.codec.encoder],
        ],
        **options,
    }


def _json_value(value):
    return str(value) if isinstance(value, Fraction | Size) else value


def _check_output(source: Path, output: Path, force: bool) -> None:
    """Refuses outputs that cannot be made, before any work is done."""
    for path in (source, output):
        if str(path) == "-":
            raise VideoError(
                "Jobs read and write files, which they need more than once, and not "
                "standard input or output ('-'). A file of that name is './-'."
            )
    with reading(source):
        source.stat()
    parent = output.parent
    with writing(output):
        exists = output.exists()
        same = exists and output.samefile(source)
        folder, inside = parent.is_dir(), parent.resolve()
    if same:
        raise VideoError(
            f"The output '{output}' is the input. Choose another name for it."
        )
    if not folder:
        raise VideoError(f"Cannot write '{output}': there is no folder '{parent}'.")
    if not os.access(inside, os.W_OK):
        raise VideoError(f"Cannot write '{output}': permission denied in '{parent}'.")
    if exists and not force:
        raise VideoError(f"'{output}' exists. Use --force to replace it.")
    if exists and not output.is_dir() and not output.is_file():
        raise VideoError(f"'{output}' is a pipe or a device. Give the name of a file.")
    if output.is_dir():
        with writing(output):
            entries = list(output.iterdir())
        strange = [
            entry.name
            for entry in entries
            if entry.suffix.lower() != ".png" and entry.name != TIMESTAMPS
        ]
        if strange:
            raise VideoError(
                f"The folder '{output}' holds other things than PNG images "
                f"('{strange[0]}'), so it is not replaced. Choose another "
                "name, or end it with '/' to put the result into it."
            )
