"""`megan info`: the facts of a video or a model."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "subject", help="a video, a folder of images, a preset or a model file"
    )
    parser.add_argument(
        "--size",
        default="112x64",
        help="count a model's work for frames of this size (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from keras_megan.video.models.info import describe_subject

    describe_subject(arguments.subject, arguments.size, arguments.json)
