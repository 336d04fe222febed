"""`megan compare`: a picture that shows two clips side by side."""

import argparse
from pathlib import Path

from keras_megan.cli import values


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "first", type=Path, help="a video, a folder of images or an image"
    )
    parser.add_argument("second", type=Path, help="another one, of any size and rate")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="the .png file to make"
    )
    parser.add_argument(
        "--labels", nargs=2, help="the names to show (default: those of the files)"
    )
    parser.add_argument(
        "--moments",
        type=values.count,
        default=3,
        help="how many moments to show, one a row (default: 3)",
    )
    parser.add_argument(
        "--overwrite",
        "--force",
        action="store_true",
        help="replace the picture if it exists",
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_megan.video.compare import compare

    compare(
        arguments.first,
        arguments.second,
        arguments.output,
        labels=arguments.labels,
        moments=arguments.moments,
        force=arguments.overwrite,
    )
    print(f"{arguments.first} and {arguments.second}: {arguments.output}")
