"""The one form of progress bar that the training programs show.

training ━━━━━━━━━━━━━━ 120/650 steps, 2.7 samples/s, 0:05:56 gone, 0:26:13 left
"""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def counted_progress(console: Console | None, counted: str, last: str = "left"):
    """A bar that counts, with the time gone and the time left.

    Args:
        console: Where it is drawn; rich leaves it out without a terminal.
        counted: What is counted, such as ``"windows,"``; may name a task's fields, as
            in ``"steps, {task.fields[rate]:.1f} samples/s,"``.
        last: What stands behind the time left, likewise.

    Returns:
        A `rich.progress.Progress` that disappears when it is done.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(counted),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn(last),
        console=console,
        transient=True,
    )
