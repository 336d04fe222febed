"""What a run reports as it goes: CSV, TensorBoard, the terminal.

``log.csv`` has a row every ``log_every`` steps (losses, learning rate, clips per
second), ``validation.csv`` one for each validation (scores and the multiply-adds spent
on training so far). When a run continues from a checkpoint, the rows of steps that are
repeated are cut off first, so each step has one row. TensorBoard gets the same numbers
and strips of low resolution, output and truth.
"""

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.console import Console

from keras_megan.files import write_whole
from training.errors import saving
from training.runs.progress import counted_progress


class CsvTable:
    """A CSV file whose rows begin with the step.

    Args:
        path: The file; its rows after ``step`` are cut off.
        step: The step from which the run continues.
    """

    def __init__(self, path: Path, step: int):
        self.path = path
        self.rows = [row for row in read_csv(path) if int(row["step"]) <= step]
        self._write()

    def add(self, step: int, values: dict[str, float]) -> None:
        """Appends a row; the columns are those of the first one."""
        row = {"step": str(step), **{k: f"{v:.8g}" for k, v in values.items()}}
        self.rows.append(row)
        if len(self.rows) == 1 or set(row) != set(self.rows[0]):
            self._write()
            return
        with saving(self.path), open(self.path, "a", newline="") as file:
            csv.DictWriter(file, list(self.rows[0])).writerow(row)

    def _write(self) -> None:
        columns = dict.fromkeys(name for row in self.rows for name in row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns) or ["step"])
        writer.writeheader()
        writer.writerows(self.rows)
        with saving(self.path):
            write_whole(self.path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The whole rows of a CSV file; none if it does not exist."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    # A row that was being written when the machine stopped lacks its last values.
    return [row for row in rows if None not in row.values()]


class RunLogs:
    """All logs of one stage.

    Args:
        folder: Folder of the stage.
        title: For the terminal.
        first_step, last_step: The steps that are still to do.
        samples_per_step: The global batch.
        console: The terminal; None: silent, writes nothing (workers but the chief).
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        first_step: int,
        last_step: int,
        samples_per_step: int,
        console: Console | None,
    ):
        self.console, self.title, self.last_step = console, title, last_step
        self.samples_per_step = samples_per_step
        self.timed = (time.monotonic(), first_step)
        self.progress = None
        if console is None:
            return
        self.table = CsvTable(folder / "log.csv", first_step)
        self.scores = CsvTable(folder / "validation.csv", first_step)
        self.board = tf.summary.create_file_writer(str(folder / "tensorboard"))
        if console.is_terminal:
            self.progress = counted_progress(
                console,
                "steps, {task.fields[rate]:.1f} samples/s,",
                "left, loss {task.fields[loss]:.5f}",
            )
            self.task = self.progress.add_task(
                title, total=last_step, completed=first_step, rate=0.0, loss=np.nan
            )
            self.progress.start()

    def line(self, text: str) -> None:
        """One line for the terminal."""
        if self.console is not None:
            self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def advance(self, step: int) -> None:
        """A step is done."""
        if self.progress is not None:
            self.progress.update(self.task, completed=step)

    def training(self, step: int, values: dict[str, float]) -> None:
        """Means over the steps since the last call."""
        now, (then, before) = time.monotonic(), self.timed
        seconds = max(now - then, 1e-9) / max(1, step - before)
        self.timed = (now, step)
        rate = self.samples_per_step / seconds
        if self.console is None:
            return
        self.table.add(step, {**values, "clips_per_second": rate})
        with self.board.as_default(step=step):
            for name, value in {**values, "clips_per_second": rate}.items():
                tf.summary.scalar(f"train/{name}", value)
        if self.progress is not None:
            self.progress.update(
                self.task, completed=step, rate=rate, loss=values["loss"]
            )
            return
        left = time.strftime("%H:%M:%S", time.gmtime(seconds * (self.last_step - step)))
        numbers = " ".join(f"{name} {value:.5g}" for name, value in values.items())
        self.line(
            f"{self.title} {step}/{self.last_step} {numbers} "
            f"{rate:.1f} samples/s {left} left"
        )

    def validation(self, step: int, scores: dict[str, float], macs: float) -> None:
        """Scores of the averaged weights."""
        if self.console is None:
            return
        self.scores.add(step, {**scores, "training_macs": macs})
        with self.board.as_default(step=step):
            for name, value in scores.items():
                tf.summary.scalar(f"validation/{name}", value)
        numbers = " ".join(f"{name} {value:.4f}" for name, value in scores.items())
        self.line(f"{self.title} {step}/{self.last_step} validation: {numbers}")
        # Validation is not training: its time must not count as such.
        self.timed = (time.monotonic(), step)

    def strips(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """uint8 pictures (H, W, 3) for TensorBoard."""
        if self.console is None:
            return
        with self.board.as_default(step=step):
            for name, picture in pictures.items():
                tf.summary.image(f"low, output, truth/{name}", picture[None])
        self.board.flush()

    def close(self) -> None:
        """Ends the progress bar and the files."""
        if self.progress is not None:
            self.progress.stop()
        if self.console is not None:
            self.board.close()
