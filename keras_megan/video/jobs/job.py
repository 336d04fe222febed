"""A job: from which file to which, how, and whether that can be done.

In: a source, an output and `UpscaleOptions`. Out: a `Job`, or one line that says why
it cannot be done. This takes a moment and needs no model, so problems with the files
are reported before a framework takes seconds to load.
"""

import functools
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from keras_megan.video.errors import VideoError, reading, writing
from keras_megan.video.io.reading.image_folder import TIMESTAMPS
from keras_megan.video.io.reading.read import Folder, VideoFile, open_clip
from keras_megan.video.io.writing.codecs import Codec, choose_codec
from keras_megan.video.io.writing.encoders import tune
from keras_megan.video.models.engines import Needs
from keras_megan.video.models.runner import Runner, takes_times
from keras_megan.video.request.footage import look_at
from keras_megan.video.request.rate import Rate, choose_rate
from keras_megan.video.request.size import Size, output_size
from keras_megan.video.scene_cuts import DEFAULT_THRESHOLD

_FORMAT = 3  # of the work folder; raise it when segments change
# Options that do not shape the result.
_PASSING = {"force", "restart", "audio"}


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
        even_sharpness: Whether new frames are sharpened to match the given ones.
        audio: Whether sound is kept.
        encoder, preset, pix_fmt: See `io.writing.encoders.tune`; `None`: as usual.
        allow_damaged: Whether to take what can be read of a damaged file.
        deinterlace: "auto" where the stream says that it is interlaced, "on", "off".
        force: Whether to replace an existing output.
        restart: Whether to throw away what an earlier run has finished.
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
    even_sharpness: bool = False
    audio: bool = True
    encoder: str | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    allow_damaged: bool = False
    deinterlace: str = "auto"
    force: bool = False
    restart: bool = False


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

    @functools.cached_property
    def needs(self) -> Needs:
        """What it asks of a model."""
        damage = look_at(self.clip.info).damage
        return Needs(times=not self.rate.only_half, damage=damage)

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
        """Approximate numbers of frames that will be read and written."""
        info, options = self.clip.info, self.options
        start = options.start or Fraction(0)
        end = info.duration if options.end is None else min(options.end, info.duration)
        length = max(Fraction(0), end - start)
        share = length / info.duration if info.duration else Fraction(1)
        given = max(1, round(info.num_frames * share))
        return given, self.rate.expected(given, length)

    def describe(self, runner: Runner) -> dict:
        """Everything the result depends on, as JSON values."""
        options = {
            f"--{name.replace('_', '-')}": _json_value(value)
            for name, value in vars(self.options).items()
            if name not in _PASSING
        }
        return {
            "the format of unfinished work": _FORMAT,
            "the input": self.clip.info.content,
            "the model": runner.fingerprint,
            "the kind of output": [
                self.output.suffix.lower(),
                self.codec and [self.codec.name, self.codec.encoder],
            ],
            **options,
        }


def check_job(source: Path, output: Path, options: UpscaleOptions) -> Job:
    """Checks that a job can be done; takes a moment and needs no model.

    Raises:
        VideoError: If it cannot.
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
