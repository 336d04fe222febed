"""`megan demo`: shows what the network does on a clip it draws itself."""

import argparse
from pathlib import Path

from keras_megan.cli import values


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="the folder to make"
    )
    parser.add_argument(
        "--model",
        default="megan_edge",
        help="a preset or a model file (default: %(default)s)",
    )
    parser.add_argument(
        "--frames",
        type=values.count,
        default=13,
        help="how many frames to draw (default: 13)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_megan.video.demo import demo

    for line in demo(arguments.output, arguments.model, arguments.frames):
        print(line)
