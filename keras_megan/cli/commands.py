"""The commands: name, line in `megan --help`, and module of each."""

import argparse
import importlib
from dataclasses import dataclass
from typing import Protocol


class Module(Protocol):
    """What the module of a command holds."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Adds the command's options."""

    def run(self, arguments: argparse.Namespace) -> int | None:
        """Runs the command; the exit code, `None` for 0."""


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        name: The word after `megan` on the command line.
        summary: What it does, in a few words.
    """

    name: str
    summary: str

    @property
    def module(self) -> Module:
        """Its module, loaded when it is needed."""
        return importlib.import_module(f"keras_megan.cli.{self.name}")


COMMANDS = {
    command.name: command
    for command in (
        Command("upscale", "make video sharper (x4) and smoother (twice the frames)"),
        Command("compare", "draw two clips side by side, whole and in detail"),
        Command("info", "describe a video or a model"),
        Command("models", "list the models that come with megan"),
        Command("demo", "draw a small clip, upscale it and show the result"),
        Command("completion", "print a script that makes the shell complete commands"),
    )
}
