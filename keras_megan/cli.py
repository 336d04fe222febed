"""The `megan` command.

    megan upscale clip.mp4 -o out.mp4        sharper (x4) and smoother (x2)
    megan compare clip.mp4 out.mp4 -o strip.png
    megan info out.mp4                       or: megan info megan_edge
    megan demo -o demo                       makes its own clip and upscales it

Exit codes: 0 done; 1 a failure that one line on standard error explains; 2 done, but a
note says why the result may not be whole, or a command line that makes no sense; 130 interrupted (run `megan upscale` again to continue).

Each command is one function in a registry: `@command` adds it with its options. Heavy
imports happen inside the functions, so that `megan --help` answers at once.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from keras_megan.version import __version__

DEFAULT_MODEL = "megan_edge"
UNCERTAIN = 2
INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """A subcommand: what `megan NAME` does and which options it takes."""

    name: str
    help: str
    run: Callable[[argparse.Namespace], int | None]
    add_options: Callable[[argparse.ArgumentParser], None]


COMMANDS: dict[str, Command] = {}


def command(name: str, summary: str, add_options: Callable) -> Callable:
    """Decorator: registers a function as `megan NAME`."""

    def register(run: Callable[[argparse.Namespace], int | None]) -> Callable:
        COMMANDS[name] = Command(name, summary, run, add_options)
        return run

    return register


# === Values on the command line ===


def _seconds(text: str) -> Fraction:
    from keras_megan.video.io.probe import parse_clock

    try:
        return parse_clock(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(
            f"expected seconds or h:mm:ss. Received: '{text}'"
        ) from error


def _rate(text: str) -> Fraction:
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(
            f"expected frames per second, such as 25 or 30000/1001. Received: '{text}'"
        )
    return rate


def _tile(text: str) -> int | str:
    if text == "auto":
        return text
    if text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(
        f"expected 'auto', a number of pixels, or 0 for no tiles. Received: '{text}'"
    )


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected 0 to 100. Received: '{text}'")
    return value


# === megan upscale ===


def _upscale_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, help="video file or folder of images")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="video file (.mp4, .mkv, .mov, .webm), or a name without an ending for a "
        "folder of PNG images",
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="preset name or folder, .keras or .tflite file (default: %(default)s)",
    )
    parser.add_argument(
        "--tile",
        type=_tile,
        default="auto",
        help="largest tile in input pixels; 0: whole frames; auto: what fits into "
        "memory (default)",
    )
    parser.add_argument("--codec", help="h264 (default), h265, av1, vp9, ffv1, prores")
    parser.add_argument("--crf", type=int, help="quality: lower is better and larger")
    parser.add_argument("--start", type=_seconds, help="begin here: seconds or h:mm:ss")
    parser.add_argument("--end", type=_seconds, help="stop here: seconds or h:mm:ss")
    parser.add_argument(
        "--rate", type=_rate, help="frames per second of a folder of images (25)"
    )
    parser.add_argument(
        "--scene-threshold",
        type=_threshold,
        help="score, 0 to 100, from which a frame opens a new scene (16)",
    )
    parser.add_argument(
        "--no-scene-detection",
        action="store_true",
        help="interpolate between all frames",
    )
    parser.add_argument(
        "--deinterlace",
        choices=("auto", "on", "off"),
        default="auto",
        help="make interlaced fields whole pictures: where the stream says that it is "
        "interlaced (auto), always or never",
    )
    parser.add_argument(
        "--allow-damaged",
        action="store_true",
        help="take what is there of a damaged file",
    )
    parser.add_argument("--force", action="store_true", help="replace the output")
    parser.add_argument(
        "--restart", action="store_true", help="forget earlier, unfinished work"
    )
    parser.add_argument(
        "--json", action="store_true", help="progress as one JSON object a line"
    )


@command("upscale", "make a clip sharper (x4) and smoother (x2)", _upscale_options)
def run_upscale(arguments: argparse.Namespace) -> int:
    """`megan upscale`."""
    from keras_megan.interrupts import check_interrupts
    from keras_megan.video.errors import VideoError
    from keras_megan.video.models.runner import load_runner
    from keras_megan.video.progress import choose_reporter
    from keras_megan.video.scene_cuts import DEFAULT_THRESHOLD
    from keras_megan.video.upscale import UpscaleOptions, check_job, run_job

    threshold = arguments.scene_threshold
    if arguments.no_scene_detection:
        if threshold is not None:
            raise VideoError(
                "--scene-threshold and --no-scene-detection exclude each other."
            )
    elif threshold is None:
        threshold = DEFAULT_THRESHOLD
    start, end = arguments.start, arguments.end
    if end is not None and end <= (start or 0):
        raise VideoError(
            f"--end ({float(end):g} s) must lie after --start ({float(start or 0):g} "
            "s)."
        )
    options = UpscaleOptions(
        tile=arguments.tile,
        codec=arguments.codec,
        crf=arguments.crf,
        start=start,
        end=end,
        scene_threshold=threshold,
        rate=arguments.rate,
        allow_damaged=arguments.allow_damaged,
        deinterlace=arguments.deinterlace,
        force=arguments.force,
        restart=arguments.restart,
    )
    # What is wrong with the files is said before a framework takes seconds to load.
    job = check_job(arguments.input, arguments.output, options)
    reporter = choose_reporter(arguments.json)
    try:
        runner = load_runner(arguments.model)
        check_interrupts()
        summary = run_job(job, runner, reporter)
        reporter.done(summary, str(arguments.output))
    finally:
        reporter.close()
    return UNCERTAIN if summary.doubts else 0


# === megan compare ===


def _compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path, help="video, folder of images or image")
    parser.add_argument("second", type=Path, help="the same, of any size and rate")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .png file")
    parser.add_argument("--labels", nargs=2, help="names to show (default: file names)")
    parser.add_argument(
        "--moments", type=int, default=3, help="rows of the picture (default: 3)"
    )
    parser.add_argument("--force", action="store_true", help="replace the output")


@command("compare", "a picture of two clips side by side, with crops", _compare_options)
def run_compare(arguments: argparse.Namespace) -> None:
    """`megan compare`."""
    from keras_megan.video.compare import compare

    compare(
        arguments.first,
        arguments.second,
        arguments.output,
        labels=arguments.labels,
        moments=arguments.moments,
        force=arguments.force,
    )
    print(f"{arguments.first} and {arguments.second}: {arguments.output}")


# === megan info ===


def _info_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "subject", help="video, folder of images, preset, .keras or .tflite file"
    )
    parser.add_argument(
        "--size",
        default="112x64",
        help="input size for counting a model's work (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")


@command("info", "describe a model or a video", _info_options)
def run_info(arguments: argparse.Namespace) -> None:
    """`megan info`."""
    from keras_megan.video.models.info import describe_subject

    describe_subject(arguments.subject, arguments.size, arguments.json)


# === megan demo ===


def _demo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="as for upscale (default: %(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, default=13, help="input frames (default: %(default)s)"
    )


@command("demo", "render a small clip, upscale it, show the result", _demo_options)
def run_demo(arguments: argparse.Namespace) -> None:
    """`megan demo`."""
    from keras_megan.video.demo import demo

    for line in demo(arguments.output, arguments.model, arguments.frames):
        print(line)


# === The program ===


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="megan",
        description="Space-time video super-resolution: sharper and smoother video.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for entry in COMMANDS.values():
        sub = commands.add_parser(entry.name, help=entry.help, description=entry.help)
        entry.add_options(sub)
        sub.set_defaults(run=entry.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs `megan` and returns its exit code."""
    from keras_megan.interrupts import heeding_signals

    with heeding_signals():
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            advice = ""
            if "upscale" in (sys.argv[1:] if arguments is None else arguments)[:1]:
                advice = " Run the same command again to continue."
            print(f"megan: interrupted.{advice}", file=sys.stderr)
            return INTERRUPTED


def _run(arguments: list[str] | None) -> int:
    parsed = build_parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from keras_megan.video.errors import VideoError

    try:
        return parsed.run(parsed) or 0
    except VideoError as error:
        print(f"megan: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our lines has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
