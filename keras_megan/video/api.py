"""`keras_megan.upscale`: everything `megan upscale` does, as one function.

Its arguments are the options of the command line, under the same names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from keras_megan.video.cluster import open_models
from keras_megan.video.errors import VideoError
from keras_megan.video.many import Outcome, upscale_clips
from keras_megan.video.models.engines import AUTO, Model, ModelChoice
from keras_megan.video.models.loaded import Models
from keras_megan.video.models.runner import Runner
from keras_megan.video.request.inputs import Clip, find_inputs, place_results
from keras_megan.video.request.size import Size, parse_size
from keras_megan.video.scene_cuts import DEFAULT_THRESHOLD
from keras_megan.video.upscale import Summary, UpscaleOptions

if TYPE_CHECKING:
    import keras

Name = str | PathLike[str]
Number = int | float | str | Fraction


@dataclass(frozen=True)
class Progress:
    """What a progress callback is told.

    Attributes:
        clip: The input.
        done: Number of output frames that are finished.
        total: About how many there will be; 0 while that is not known.
        note: A line that the user should know; empty for mere progress.
    """

    clip: Path
    done: int
    total: int
    note: str = ""


class _Caller:
    """A reporter that calls a function."""

    def __init__(self, clip: Clip, call: Callable[[Progress], object] | None):
        self._clip, self._call = clip.source, call
        self._done = self._total = 0

    def begin(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._tell()

    def advance(self, count: int = 1) -> None:
        self._done += count
        self._tell()

    def note(self, line: str) -> None:
        self._tell(line)

    def _tell(self, note: str = "") -> None:
        if self._call is not None:
            self._call(Progress(self._clip, self._done, self._total, note))


def upscale(
    inputs: Name | Sequence[Name],
    output: Name | None = None,
    *,
    model: Union[Name, Runner, "keras.Model"] = AUTO,
    scale: Number | None = None,
    size: str | tuple[int, int] | None = None,
    fit: bool = False,
    fps: Number | None = None,
    factor: Number | None = None,
    interpolation: bool = True,
    even_sharpness: bool = False,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    ray: str | bool = False,
    workers: int | None = None,
    tile: int | str = "auto",
    codec: str | None = None,
    crf: int | None = None,
    preset: str | None = None,
    encoder: str | None = None,
    pix_fmt: str | None = None,
    audio: bool = True,
    start: Number | None = None,
    end: Number | None = None,
    rate: Number | None = None,
    scene_threshold: float | None = DEFAULT_THRESHOLD,
    deinterlace: str = "auto",
    allow_damaged: bool = False,
    overwrite: bool = False,
    restart: bool = False,
    skip_existing: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Summary | list[Outcome]:
    """Makes video sharper (x4) and smoother (twice the frames), or as asked for.

    Args:
        inputs: A video file, a folder of images or of videos, a pattern such as
            "*.mp4", or several of these.
        output: A video file or, for a folder of PNG images, a name without an ending;
            for several clips, a folder. `None`: "clip.megan.mp4" beside "clip.mp4".
        model: Preset name or folder, `.keras` or `.tflite` file, a `keras.Model`, or
            anything that is a `keras_megan.video.models.runner.Runner`. "auto":
            megan_edge, and megan_edge_real for clips that compression has damaged.
        scale: Enlargement, 1 to 4.
        size: "1920x1080", (1920, 1080) or "1080p", in place of `scale`.
        fit: Whether `size` is a box that the result has to fit into.
        fps: Frames per second of the result, such as 60 or "60000/1001".
        factor: Frames of the result for each given one, such as 4 or 2.5.
        interpolation: `False` keeps the given frames alone.
        even_sharpness: Sharpen new frames to match the given ones beside them.
        engine: "auto", "litert" or "keras"; see `find_model`.
        precision: "auto", "int8" or "fp32", on LiteRT; see `find_model`.
        threads: CPU threads of the network; all if not given.
        ray: `True`: on several processes of this machine, by Ray; an address such as
            "10.0.0.1:6379": on the machines of a cluster. `model` must be a name then.
        workers: How many, with `ray`; as many as fit if not given.
        tile: "auto", the largest tile in input pixels, or 0 for whole frames.
        codec, crf, preset, encoder, pix_fmt: How to encode; `None` for the usual.
        audio: Whether sound is kept.
        start, end: The part to do, in seconds from the first frame.
        rate: Frames per second of a folder of images.
        scene_threshold: Score, 0 to 100, from which a frame opens a new scene; `None`
            interpolates between all frames.
        deinterlace: "auto" where the stream says that it is interlaced, "on", "off".
        allow_damaged: Take what is there of a damaged file.
        overwrite: Replace outputs that exist.
        restart: Forget what an earlier, interrupted call has finished.
        skip_existing: Leave out clips whose output exists.
        progress: Called with a `Progress` after each frame, from another thread.

    Returns:
        A `Summary` for a single file or folder of images; a list with an `Outcome` for
        each clip if `inputs` are several, a folder of videos or a pattern.

    Raises:
        VideoError: For everything a user can cause or cure. With several clips, what
            went wrong with one of them is in its `Outcome`.

    Example:

    >>> keras_megan.upscale("clip.mp4", "large.mp4", scale=2)
    >>> keras_megan.upscale("holiday/", "results/", fps=60, size="1080p", fit=False)
    """
    if not interpolation:
        if fps is not None or factor is not None:
            raise VideoError("interpolation=False excludes fps and factor.")
        factor = 1
    options = UpscaleOptions(
        tile=tile,
        codec=codec,
        crf=crf,
        start=_fraction(start),
        end=_fraction(end),
        scene_threshold=scene_threshold,
        rate=_fraction(rate),
        scale=_fraction(scale),
        size=_size(size),
        fit=fit,
        fps=_fraction(fps),
        factor=_fraction(factor),
        even_sharpness=even_sharpness,
        audio=audio,
        encoder=encoder,
        preset=preset,
        pix_fmt=pix_fmt,
        deinterlace=deinterlace,
        allow_damaged=allow_damaged,
        force=overwrite,
        restart=restart,
    )
    names = [inputs] if isinstance(inputs, str | PathLike) else list(inputs)
    sources = find_inputs([str(name) for name in names])
    single = sources == [Path(names[0])] if len(names) == 1 else False
    clips = place_results(sources, None if output is None else str(output))
    if isinstance(model, str | PathLike):
        choice = ModelChoice(str(model), engine, precision, threads)
        loaded = open_models(choice, ray, workers)
    elif ray is not False:
        raise VideoError("With ray, give the model by its name or file.")
    else:
        loaded = Models(lambda needs: _given(model))
    with loaded as models:
        outcomes = list(
            upscale_clips(
                clips,
                options,
                models,
                lambda clip: _Caller(clip, progress),
                skip_existing,
            )
        )
    if not single:
        return outcomes
    (outcome,) = outcomes
    if outcome.error:
        raise VideoError(outcome.error)
    return outcome.summary or Summary()


def _given(model: Any) -> Model:
    """Models that hand out a network that is already loaded."""
    if hasattr(model, "frames_in"):
        return Model(model.name, "runner", lambda: model)

    def load():
        from keras_megan.video.models.runner import KerasRunner

        return KerasRunner(model)

    return Model(model.name, "keras", load)


def _fraction(value: Number | None) -> Fraction | None:
    if value is None:
        return None
    try:
        # 29.97 is meant as it is written, not as the nearest binary fraction.
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError) as error:
        raise VideoError(f"Expected a number. Received: {value!r}") from error


def _size(value: str | tuple[int, int] | None) -> Size | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else "x".join(map(str, value))
    try:
        return parse_size(text)
    except ValueError as error:
        raise VideoError(f"size: {error}") from error
