"""The program `megan`.

    megan upscale clip.mp4                   makes clip.megan.mp4: x4 and twice the rate
    megan compare clip.mp4 clip.megan.mp4 -o strip.png
    megan info clip.mp4                      or: megan info megan_edge
    megan models
    megan demo -o demo                       makes its own clip and upscales it

Exit codes: 0 done; 1 a failure that one line on standard error explains; 2 a command
line that makes no sense, some clips of many failed, or it is not certain that a result
is whole; 130 interrupted (run `megan upscale` again to continue).
"""

import argparse
import os
import sys

from keras_megan.cli.commands import COMMANDS
from keras_megan.errors import ExplainedError
from keras_megan.interrupts import heeding_signals
from keras_megan.version import __version__

INTERRUPTED = 130
_DESCRIPTION = "Space-time video super-resolution: sharper and smoother video."
_HELP_WIDTH = 80


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that fits on one screen: 80 columns, each option on one line if possible."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=27, width=_HELP_WIDTH)


def build_parser(name: str | None = None) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        name: The command whose options it needs; `None` for all of them.
    """
    parser = argparse.ArgumentParser(
        prog="megan",
        description=_DESCRIPTION,
        epilog="`megan COMMAND --help` explains a command.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        sub = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        if name in (None, command.name):
            command.module.add_options(sub)
            sub.set_defaults(run=command.module.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs `megan` and returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Only the module of the command that was asked for is loaded.
    name = next((text for text in arguments if text in COMMANDS), "")
    with heeding_signals():
        try:
            code = _run(name, arguments)
            sys.stdout.flush()
            return code
        except ExplainedError as error:
            print(f"megan: {' '.join(str(error).split())}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            advice = ""
            if name == "upscale":
                advice = " Run the same command again to continue."
            print(f"megan: interrupted.{advice}", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # Who read our lines has had enough (`megan info clip.mp4 | head -1`).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


def _run(name: str, arguments: list[str]) -> int:
    parsed = build_parser(name).parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return parsed.run(parsed) or 0
