"""`megan upscale`: the options, and the way from them to `upscale_clips`."""

import argparse
import sys
from fractions import Fraction
from typing import Any

from keras_megan.cli import values

_EXAMPLES = """\
examples:
  megan upscale clip.mp4                       makes clip.megan.mp4
  megan upscale clip.mp4 --preview 3s          makes three seconds to look at
  megan upscale clip.mp4 -o out.mkv --size 1080p --fps 60
  megan upscale holiday/ *.mov -o results/     does one video after another
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
        help='videos, folders of videos or images, or "*.mkv"',
    )
    add(
        "-o",
        "--output",
        metavar="PATH",
        help="the file to make, or a folder for the results",
    )

    add = parser.add_argument_group("size and rate").add_argument
    add(
        "--scale",
        type=values.factor,
        metavar="N",
        help="enlarge N times, 1 to 4 (default: 4)",
    )
    add(
        "--size",
        type=values.size,
        metavar="SIZE",
        help="the size to make instead: 1920x1080 or 1080p",
    )
    add("--fit", action="store_true", help="keep the shape and stay within --size")
    add(
        "--fps",
        type=values.rate,
        metavar="RATE",
        help="frames per second to make: 60 or 60000/1001",
    )
    add(
        "--factor",
        type=values.factor,
        metavar="N",
        help="make N times as many frames (default: 2)",
    )
    add(
        "--no-interpolation",
        action="store_true",
        help="enlarge the given frames, make no new ones",
    )
    add(
        "--even-sharpness",
        action="store_true",
        help="sharpen new frames to match the given ones",
    )

    add = parser.add_argument_group("what to read").add_argument
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
        help="frames per second of a folder of images (25)",
    )
    add(
        "--scene-threshold",
        type=values.threshold,
        metavar="N",
        help="how different a new scene is, 0 to 100 (16)",
    )
    add(
        "--no-scene-detection",
        action="store_true",
        help="also make new frames across scene cuts",
    )
    add(
        "--deinterlace",
        choices=("auto", "on", "off"),
        default="auto",
        metavar="WHEN",
        help="auto (default: if the file says so), on or off",
    )
    add(
        "--allow-damaged",
        action="store_true",
        help="take what can be read of a damaged file",
    )

    add = parser.add_argument_group("computing").add_argument
    add(
        "--model",
        default="auto",
        metavar="NAME",
        help="a preset (megan models), a model file or auto",
    )
    add(
        "--engine",
        choices=("auto", "litert", "keras"),
        default="auto",
        metavar="NAME",
        help="run the model on litert or keras (default: auto)",
    )
    add(
        "--precision",
        choices=("auto", "int8", "fp32"),
        default="auto",
        metavar="NAME",
        help="for LiteRT: int8, fp32 or auto (default)",
    )
    add(
        "--threads",
        type=values.count,
        metavar="N",
        help="use N CPU threads (default: all)",
    )
    add(
        "--ray",
        nargs="?",
        const=True,
        default=False,
        type=values.address,
        metavar="HOST:PORT",
        help="share the work: here, or on a Ray cluster",
    )
    add(
        "--workers",
        type=values.count,
        metavar="N",
        help="share it among N workers (with --ray)",
    )
    add(
        "--tile",
        type=values.tile,
        default="auto",
        metavar="N",
        help="cut frames into tiles of at most N pixels",
    )

    add = parser.add_argument_group("encoding").add_argument
    add(
        "--codec", metavar="NAME", help="h264 (default), h265, av1, vp9, ffv1 or prores"
    )
    add("--crf", type=int, metavar="N", help="quality: lower is better and larger")
    add("--preset", metavar="NAME", help="the encoder's speed: veryfast, slow, ...")
    add(
        "--encoder",
        metavar="NAME",
        help="in hardware: nvenc, qsv, amf or videotoolbox",
    )
    add("--pix-fmt", metavar="NAME", help="the pixel format to encode, such as yuv444p")
    add("--no-audio", action="store_true", help="leave the sound out")

    add = parser.add_argument_group("results").add_argument
    add(
        "--overwrite", "--force", action="store_true", help="replace results that exist"
    )
    add(
        "--skip-existing",
        action="store_true",
        help="leave out clips whose result exists",
    )
    add(
        "--restart",
        action="store_true",
        help="start over instead of continuing earlier work",
    )

    add = parser.add_argument_group("trying and watching").add_argument
    add(
        "--dry-run",
        action="store_true",
        help="only show what would be done, its time and size",
    )
    add(
        "--preview",
        type=values.positive_seconds,
        metavar="TIME",
        help="make only this much, as clip.preview.megan.mp4",
    )
    add("--quiet", action="store_true", help="print failures only")
    add(
        "--json",
        action="store_true",
        help="print events as JSON, one object a line",
    )


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
