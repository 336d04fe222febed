"""Upscale a whole clip: a file or folder in, a file or folder out.

    reader thread                 calling thread              writer thread
    decode, find scene cuts,  ->  the network, tile by   ->   encode into segments
    cut into windows              tile; hold at cuts          and record them

N frames become 2N-1. Output frame 2i appears exactly when input frame i does, frame
2i+1 exactly half-way to the next, and the last is shown as long as the input's last, so
the duration stays. Across a scene cut nothing is interpolated: no window reaches over
it, and the frame half-way repeats the one before.

Interrupted work continues (`journal`). After an interruption the clip is decoded from
its beginning, so that cuts and windows come out the same, but the network runs only for
what is missing. The output appears by a rename when all of it is on the disk.
"""

import os
import time
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from keras_megan.video.errors import VideoError, writing
from keras_megan.video.io.assemble import assemble_images, assemble_video
from keras_megan.video.io.codecs import choose_codec
from keras_megan.video.io.image_folder import TIMESTAMPS
from keras_megan.video.io.probe import VideoInfo
from keras_megan.video.io.read import open_clip
from keras_megan.video.io.segments import ImageEncoder, SegmentWriter, VideoEncoder
from keras_megan.video.jobs.journal import Journal, fingerprint, open_journal, remove
from keras_megan.video.jobs.pipeline import BackgroundWriter, prefetched
from keras_megan.video.jobs.schedule import Plan
from keras_megan.video.models.runner import Runner
from keras_megan.video.scene_cuts import DEFAULT_THRESHOLD
from keras_megan.video.tiles import TiledRunner, choose_tile, fit_tile

_FORMAT = 1  # of the work folder; raise it when segments change
_FINEST_CLOCK = 1_000_000


@dataclass(frozen=True)
class UpscaleOptions:
    """How to upscale.

    Attributes:
        tile: Largest tile in input pixels, "auto" or 0 for none.
        codec, crf: See `codecs.CODECS`; `None` for the usual.
        start, end: Part of the input, in seconds from its first frame.
        scene_threshold: See `SceneCutDetector`; `None` switches the detector off.
        rate: Frames per second of a folder of images.
        force: Replace an existing output.
        restart: Ignore what an earlier run has finished.
    """

    tile: int | str = "auto"
    codec: str | None = None
    crf: int | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    scene_threshold: float | None = DEFAULT_THRESHOLD
    rate: Fraction | None = None
    force: bool = False
    restart: bool = False


@dataclass
class Summary:
    """What happened.

    Attributes:
        frames_in, frames_out: Frames read and written; `frames_out` is
            2 * `frames_in` - 1.
        width, height: Size of the output.
        duration: Seconds of the output.
        cuts: Scene cuts found.
        resumed_frames: Output frames that an earlier run had finished.
        tile: Tile size in input pixels; 0 for whole frames.
        seconds, model_seconds: Wall-clock time of the job, and in the network alone.
    """

    frames_in: int = 0
    frames_out: int = 0
    width: int = 0
    height: int = 0
    duration: float = 0.0
    cuts: int = 0
    resumed_frames: int = 0
    tile: int = 0
    seconds: float = 0.0
    model_seconds: float = 0.0


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
    began = time.monotonic()
    options, reporter = options or UpscaleOptions(), reporter or _Silent()
    source, output = Path(source), Path(output)
    clip, codec = check_job(source, output, options)
    info = clip.info
    for line in (*runner.notes, *info.notes):
        reporter.note(line)
    if codec is None and info.audio:
        reporter.note("A folder of images holds no sound: left out.")
    job = _describe_job(source, output, runner, options, codec)
    with open_journal(output, job, options.restart) as journal:
        if journal.restarted:
            reporter.note(
                f"Starting anew: {journal.restarted} changed since the earlier, "
                "unfinished run."
            )
        summary = Summary(resumed_frames=journal.frames_done)
        if summary.resumed_frames:
            reporter.note(
                f"Continuing: {summary.resumed_frames} frames are already finished."
            )
        upscaler = _prepare(runner, info, options, journal)
        summary.tile = journal.facts["tile"]
        suffix = "" if codec is None else output.suffix.lower()
        new_encoder = ImageEncoder
        if codec is not None:
            new_encoder = partial(VideoEncoder, info=info, codec=codec, crf=options.crf)
        writer = SegmentWriter(journal, suffix, new_encoder, reporter.advance)
        reporter.begin(_expected_frames(info, options), journal.frames_done)
        plan = Plan(
            clip.frames(options.start, options.end),
            options.scene_threshold,
            runner.frames_in,
        )
        time_base = _output_clock(info)
        try:
            with writing(output):
                _run(plan, upscaler, writer, time_base, summary)
                _finish(journal, plan, info, time_base, suffix, output, reporter, codec)
        except BaseException:
            writer.abandon()
            raise
        journal.discard()
    summary.frames_in, summary.frames_out = plan.frames, 2 * plan.frames - 1
    summary.cuts, summary.duration = plan.cuts, float(plan.end - plan.begin)
    summary.width, summary.height = (
        info.width * runner.scale,
        info.height * runner.scale,
    )
    summary.seconds = time.monotonic() - began
    return summary


def check_job(source: Path, output: Path, options: UpscaleOptions):
    """Finds out whether a job can be done, without a model and in a moment.

    Returns:
        The opened clip and the codec, `None` for a folder of images.

    Raises:
        VideoError: If not.
    """
    codec = choose_codec(output, options.codec, options.crf)
    _check_output(source, output, options.force)
    return open_clip(source, options.rate), codec


def _run(
    plan: Plan, upscaler: TiledRunner, writer: SegmentWriter, time_base, summary
) -> None:
    """Drives the three stages until the last segment is recorded."""
    done = writer.journal.frames_done
    depth = 2 * upscaler.runner.frames_out

    def write(item: tuple[int, int, np.ndarray]) -> None:
        writer.write(*item)

    held: tuple[Fraction, np.ndarray] | None = None  # the last frame and its time
    with (
        prefetched(plan.tasks(), depth=2) as tasks,
        BackgroundWriter(write, depth) as background,
    ):
        for task in tasks:
            window, first = task.window, task.first_output
            # The frame after a window may be a repetition of its last one.
            if first + window.num_outputs + 1 <= done:
                continue
            moments = task.moments()
            if task.hold and held is not None:
                moment = (held[0] + window.items[0].time) / 2
                background.put((first - 1, plan.tick(moment, time_base), held[1]))
            before = time.monotonic()
            images = upscaler(np.stack([frame.image for frame in window.items]))
            summary.model_seconds += time.monotonic() - before
            for offset, position in enumerate(
                range(window.keep.start, window.keep.stop)
            ):
                tick = plan.tick(moments[position], time_base)
                background.put((first + offset, tick, images[position]))
            last = window.keep.stop - 1
            held = (moments[last], images[last].copy())
            del images
    writer.finish()
    if plan.frames == 0:
        raise VideoError("There is no frame between --start and --end.")
    found = writer.journal.frames_done
    if found != 2 * plan.frames - 1:
        raise VideoError(
            f"{found} frames were written instead of {2 * plan.frames - 1}; the input "
            "changed while it was being read. Run the command again."
        )


def _finish(journal, plan, info, time_base, suffix, output, reporter, codec) -> None:
    """Joins the segments and puts the result in its place."""
    made = journal.folder / f"assembled{suffix}"
    end = plan.tick(plan.end, time_base)
    if codec is None:
        assemble_images(journal, time_base, end, made)
    else:
        whole = plan.begin == info.start and plan.end >= info.end
        span = (plan.begin, None if whole else plan.end)
        assemble_video(journal, suffix, info, time_base, end, span, made, reporter.note)
    if output.is_dir():  # only with force, and only images: see _check_output
        remove(journal.folder / "replaced")
        os.replace(output, journal.folder / "replaced")
    os.replace(made, output)


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


def _describe_job(source, output, runner, options: UpscaleOptions, codec) -> dict:
    settings = asdict(replace(options, force=False, restart=False))
    job = {name: _json_value(value) for name, value in settings.items()}
    return {
        "the format of unfinished work": _FORMAT,
        "the input": fingerprint(source),
        "the model": runner.fingerprint,
        "the kind of output": [output.suffix.lower(), codec and codec.name],
        **{f"--{name.replace('_', '-')}": value for name, value in job.items()},
    }


def _json_value(value):
    return str(value) if isinstance(value, Fraction) else value


def _check_output(source: Path, output: Path, force: bool) -> None:
    """Refuses outputs that cannot be made, before any work is done."""
    if not source.exists():
        raise VideoError(f"Cannot read '{source}': no such file or folder.")
    if output.exists() and output.samefile(source):
        raise VideoError(
            f"The output '{output}' is the input. Choose another name for it."
        )
    parent = output.parent
    if not parent.is_dir():
        raise VideoError(f"Cannot write '{output}': there is no folder '{parent}'.")
    if not os.access(parent, os.W_OK):
        raise VideoError(f"Cannot write '{output}': permission denied in '{parent}'.")
    if output.exists() and not force:
        raise VideoError(f"'{output}' exists. Use --force to replace it.")
    if output.is_dir():
        strange = [
            entry.name
            for entry in output.iterdir()
            if entry.suffix.lower() != ".png" and entry.name != TIMESTAMPS
        ]
        if strange:
            raise VideoError(
                f"The folder '{output}' holds other things than PNG images "
                f"('{strange[0]}'), so it is not replaced. Choose another name."
            )


def _expected_frames(info: VideoInfo, options: UpscaleOptions) -> int:
    """About how many frames will be written, for the progress display."""
    start = options.start or Fraction(0)
    end = info.duration if options.end is None else min(options.end, info.duration)
    share = max(Fraction(0), end - start) / info.duration if info.duration else 1
    return max(1, 2 * round(info.num_frames * share) - 1)


def _output_clock(info: VideoInfo) -> Fraction:
    """Half of the input's tick, so that midpoints are exact."""
    half = info.time_base / 2
    if half.denominator > 2**31 - 1:
        return Fraction(1, _FINEST_CLOCK)
    return half
