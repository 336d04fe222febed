"""The `megan` command: `main`, one file for each command, and what options mean.

Nothing here loads a network's framework, or even FFmpeg, before a command needs it: a
command's module is imported when the command is used, or its own `--help` is asked for.
"""

from keras_megan.cli.main import main

__all__ = ["main"]
