"""`megan upscale`: the options, and the way from them to `upscale_clips`."""

import argparse
import sys
from fractions import Fraction
from typing import Any

from keras_megan.cli import values

_EXAMPLES = """\
examples:
  megan upscale clip.mp4                          makes clip.megan.mp4
  megan upscale clip.mp4 -o out.mkv --size 1080p --fps 60
  megan upscale holiday/ *.mov -o results/        each video, one after another
  megan upscale clip.mp4 --preview 3s             try it; or say what: --dry-run
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.usage = "megan upscale INPUT [INPUT ...] [-o OUTPUT] [options]"
    parser.epilog = _EXAMPLES
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="videos, folders of them, folders of images, patterns",
    )
    add(
        "-o",
        "--output",
        metavar="PATH",
        help="file; PNG folder; folder for several results",
    )

    add = parser.add_argument_group("size and rate").add_argument
    add("--scale", type=values.factor, metavar="N", help="enlargement, 1 to 4 (4)")
    add(
        "--size",
        type=values.size,
        metavar="SIZE",
        help="1920x1080 or 1080p, in place of --scale",
    )
    add("--fit", action="store_true", help="--size is a box: keep the shape")
    add(
        "--fps",
        type=values.rate,
        metavar="RATE",
        help="frames per second: 60, 60000/1001",
    )
    add(
        "--factor",
        type=values.factor,
        metavar="N",
        help="frames for each given one (2): 4, 2.5",
    )
    add(
        "--no-interpolation", action="store_true", help="given frames only, no new ones"
    )
    add(
        "--even-sharpness",
        action="store_true",
        help="sharpen new frames to match the given ones",
    )

    add = parser.add_argument_group("which part, which frames").add_argument
    add(
        "--start",
        type=values.seconds,
        metavar="TIME",
        help="begin here: seconds or h:mm:ss",
    )
    add("--end", type=values.seconds, metavar="TIME", help="stop here")
    add(
        "--rate",
        type=values.rate,
        metavar="RATE",
        help="frames per second of image folders (25)",
    )
    add(
        "--scene-threshold",
        type=values.threshold,
        metavar="N",
        help="score, 0 to 100, that makes a cut (16)",
    )
    add(
        "--no-scene-detection",
        action="store_true",
        help="interpolate between all frames",
    )
    add(
        "--deinterlace",
        choices=("auto", "on", "off"),
        default="auto",
        metavar="WHEN",
        help="make fields whole pictures: auto, on, off",
    )
    add(
        "--allow-damaged",
        action="store_true",
        help="take what is there of a damaged file",
    )

    add = parser.add_argument_group("network").add_argument
    add(
        "--model",
        default="megan_edge",
        metavar="NAME",
        help="preset, folder, .keras, .tflite (megan_edge)",
    )
    add(
        "--engine",
        choices=("auto", "litert", "keras"),
        default="auto",
        metavar="NAME",
        help="what computes: auto, litert, keras",
    )
    add(
        "--precision",
        choices=("auto", "int8", "fp32"),
        default="auto",
        metavar="NAME",
        help="numbers LiteRT computes with: auto, int8, fp32",
    )
    add("--threads", type=values.count, metavar="N", help="CPU threads (all)")
    add(
        "--ray",
        nargs="?",
        const=True,
        default=False,
        type=values.address,
        metavar="HOST:PORT",
        help="several workers, here or on a Ray cluster",
    )
    add("--workers", type=values.count, metavar="N", help="how many, with --ray")
    add(
        "--tile",
        type=values.tile,
        default="auto",
        metavar="N",
        help="largest tile in pixels, 0: none (auto)",
    )

    add = parser.add_argument_group("encoding").add_argument
    add("--codec", metavar="NAME", help="h264 (default), h265, av1, vp9, ffv1, prores")
    add("--crf", type=int, metavar="N", help="quality: lower is better and larger")
    add("--preset", metavar="NAME", help="the encoder's: slow, veryfast, ...")
    add(
        "--encoder",
        metavar="NAME",
        help="software (default), nvenc, qsv, amf, videotoolbox",
    )
    add("--pix-fmt", metavar="NAME", help="pixel format, such as yuv444p")
    add("--no-audio", action="store_true", help="leave the sound out")

    add = parser.add_argument_group("files").add_argument
    add(
        "--overwrite", "--force", action="store_true", help="replace outputs that exist"
    )
    add(
        "--skip-existing",
        action="store_true",
        help="leave out clips whose output exists",
    )
    add("--restart", action="store_true", help="forget earlier, unfinished work")

    add = parser.add_argument_group("before and while").add_argument
    add(
        "--dry-run",
        action="store_true",
        help="say what would be done, how long, how large",
    )
    add(
        "--preview",
        type=values.positive_seconds,
        metavar="TIME",
        help="this much only, as clip.preview.megan.mp4",
    )
    add("--quiet", action="store_true", help="say nothing but failures")
    add("--json", action="store_true", help="events, one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; 1 or 2 if clips failed, or may not be whole."""
    from keras_megan.video.errors import VideoError

    if sys.stderr.isatty() and not (arguments.quiet or arguments.json):
        # Before anything is loaded, so that nobody looks at an empty screen.
        print(f"Reading {_list(arguments.inputs)} ...", file=sys.stderr, flush=True)
    settings = _settings(arguments)

    from keras_megan.cli.report import Report
    from keras_megan.video.cluster import open_models
    from keras_megan.video.many import upscale_clips
    from keras_megan.video.models.engines import ModelChoice
    from keras_megan.video.request.inputs import find_inputs, place_results
    from keras_megan.video.upscale import UpscaleOptions

    options = UpscaleOptions(**settings)
    sources = find_inputs(arguments.inputs)
    addition = "" if arguments.preview is None else ".preview"
    dry = arguments.dry_run
    clips = place_results(sources, arguments.output, addition, make_folder=not dry)
    choice = ModelChoice(
        arguments.model, arguments.engine, arguments.precision, arguments.threads
    )
    choice.find()
    report = Report(len(clips), arguments.json, arguments.quiet)
    if dry:
        from keras_megan.cli.dry_run import describe_clips

        return describe_clips(clips, options, open_models(choice), report)
    try:
        with open_models(choice, arguments.ray, arguments.workers) as models:
            for outcome in upscale_clips(
                clips, options, models, report.reporter, arguments.skip_existing
            ):
                report.outcome(outcome)
    finally:
        report.close()
    if len(clips) == 1 and report.errors:
        raise VideoError(report.errors[0])
    return report.finish()


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `UpscaleOptions`, once they are known to make sense together."""
    from keras_megan.errors import ExplainedError

    threshold = arguments.scene_threshold
    if arguments.no_scene_detection:
        if threshold is not None:
            raise ExplainedError(
                "--scene-threshold and --no-scene-detection exclude each other."
            )
        threshold = -1.0
    start, end = arguments.start, arguments.end
    if end is not None and end <= (start or 0):
        raise ExplainedError(
            f"--end ({float(end):g} s) must lie after --start ({float(start or 0):g} "
            "s)."
        )
    if arguments.preview is not None:
        preview = (start or Fraction(0)) + arguments.preview
        end = preview if end is None else min(end, preview)
    rates = (arguments.fps, arguments.factor, arguments.no_interpolation or None)
    if sum(rate is not None for rate in rates) > 1:
        raise ExplainedError(
            "--fps, --factor and --no-interpolation exclude each other: give one."
        )
    settings = {
        name: getattr(arguments, name)
        for name in (
            *("tile", "codec", "crf", "rate", "scale", "size", "fit", "fps", "factor"),
            *("encoder", "preset", "pix_fmt", "allow_damaged", "deinterlace"),
            *("restart", "even_sharpness"),
        )
    }
    settings |= {
        "start": start,
        "end": end,
        "audio": not arguments.no_audio,
        "force": arguments.overwrite,
    }
    if arguments.no_interpolation:
        settings["factor"] = Fraction(1)
    if threshold is not None:
        settings["scene_threshold"] = None if threshold < 0 else threshold
    return settings


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
