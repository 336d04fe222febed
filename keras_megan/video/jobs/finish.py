"""The end of a job: join the segments, put the result in its place.

The result was tried in advance (`io.writing.trial`), so joining works. Should it still
fail at some packet far into the file, hours of work are not lost: the sound is
re-encoded, or left out if that fails too, and a line says so.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from keras_megan.files import sync_folder
from keras_megan.video.errors import VideoError, reason
from keras_megan.video.io.opening import open_input
from keras_megan.video.io.writing.assemble import Beside, Pieces, assemble_video
from keras_megan.video.io.writing.tracks import Way, to_encoding
from keras_megan.video.io.writing.trial import NO_PLACE, REFUSED
from keras_megan.video.jobs.journal import remove


def join(
    pieces: Pieces,
    time_base: Fraction,
    end: int,
    path: Path,
    beside: Beside | None,
    note: Callable[[str], None],
) -> None:
    """Joins the segments and as much of the other streams as possible.

    Args: see `assemble_video`; `note` is called with each line the user should read.
    """
    for tried in _lesser(beside, path.suffix):
        try:
            assemble_video(pieces, time_base, end, path, tried)
            return
        except REFUSED as error:
            if tried is None or getattr(error, "errno", None) in NO_PLACE:
                raise
            note(
                f"The sound or subtitles cannot be joined as planned "
                f"({reason(error)}): trying with less."
            )


def _lesser(beside: Beside | None, suffix: str) -> Iterator[Beside | None]:
    """As planned, then with sound re-encoded, then with sound alone, then nothing."""
    if beside is not None and beside.ways:
        yield beside
        with open_input(beside.source) as source:
            sound = {stream.index for stream in source.streams.audio}
        encoded = to_encoding(list(beside.ways), sound, suffix)
        yield replace(beside, ways=encoded)
        alone: list[Way] = [way for way in encoded if way.index in sound]
        yield replace(beside, ways=alone)
    yield None if beside is None else replace(beside, ways=())
    yield None


def put_in_place(made: Path, output: Path, force: bool, aside: Path) -> None:
    """Renames the result to its name; replaces nothing unasked.

    Args:
        made: The result.
        output: Its final name.
        force: Whether an existing output may be replaced.
        aside: Where a folder that is replaced may be moved.

    Raises:
        VideoError: If something has appeared there meanwhile.
    """
    try:
        if force:
            if output.is_dir():  # only images: see `check_job`
                remove(aside)
                os.replace(output, aside)
            os.replace(made, output)
        elif made.is_dir() or not hasattr(os, "link"):
            if output.exists():
                raise FileExistsError
            os.rename(made, output)
        else:
            _link(made, output)
    except FileExistsError as error:
        raise VideoError(
            f"'{output}' appeared while it was being made, so it was not replaced. "
            "Nothing is lost: move it away and run the same command again, or add "
            "--force."
        ) from error
    sync_folder(output.parent)


def _link(made: Path, output: Path) -> None:
    """A rename that fails where the name is taken."""
    try:
        os.link(made, output)
    except FileExistsError:
        raise
    except OSError:  # a disk without second names
        if output.exists():
            raise FileExistsError from None
        os.replace(made, output)
    else:
        made.unlink()
