"""How a running job shows itself: a bar, plain lines, JSON objects, or not at all.

A terminal gets a bar with frames per second and the time left; a pipe or a log file
gets a line every few seconds; `--json` gets events a program can read; `--quiet` says
nothing. All hear the same things (`opens`, `begin`, `advance`, `note`, `done`).

The remaining time is shown as soon as the first window is done.
"""

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from typing import Any, TextIO

from keras_megan.video.upscale import Summary

_LINE_SECONDS = 5.0
_EVENT_SECONDS = 1.0
_FIRST_FRAMES = 7  # after so many frames the remaining time can be estimated


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class LineReporter:
    """A plain line every few seconds.

    Args:
        stream: Where lines go; standard error if not given.
    """

    every = _LINE_SECONDS

    def __init__(self, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._total = self._done = self._already = 0
        self._began = self._shown = 0.0
        self._lock = threading.Lock()

    def opens(self, number: int, total: int, source: str) -> None:
        """Clip `number` of `total` has its turn."""
        self.say(f"{number}/{total} {source}")

    def begin(self, total: int, done: int) -> None:
        self._total, self._done, self._already = total, done, done
        self._began = self._shown = time.monotonic()

    def advance(self, count: int = 1) -> None:
        with self._lock:
            before = self._done - self._already
            self._done += count
            now = time.monotonic()
            first = before < _FIRST_FRAMES <= before + count
            if first or now - self._shown >= self.every:
                self._shown = now
                self.show(self._done, self._total, *self._speed(now))

    def _speed(self, now: float) -> tuple[float, float]:
        rate = (self._done - self._already) / max(now - self._began, 1e-6)
        return rate, max(0, self._total - self._done) / max(rate, 1e-6)

    def show(self, done: int, total: int, rate: float, left: float) -> None:
        self.say(
            f"{done}/{total} frames, {rate:.2f} frames/s, about {clock(left)} left"
        )

    def say(self, line: str) -> None:
        try:
            print(line, file=self._stream, flush=True)
        except BrokenPipeError:
            # Who listened has gone (`megan upscale --json | head`), the job has not.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    note = say

    def done(self, summary: Summary, output: str) -> None:
        self.say(describe(summary, output))

    def close(self) -> None:
        """Leaves the terminal as it was."""


class JsonReporter(LineReporter):
    """One JSON object a line, on standard output."""

    every = _EVENT_SECONDS

    def __init__(self, stream: TextIO | None = None):
        super().__init__(stream or sys.stdout)

    def _event(self, kind: str, **facts) -> None:
        self.say(json.dumps({"event": kind, **facts}))

    def opens(self, number: int, total: int, source: str) -> None:
        self._event("clip", input=source, number=number, clips=total)

    def begin(self, total: int, done: int) -> None:
        super().begin(total, done)
        self._event("begin", frames=total, finished=done)

    def show(self, done: int, total: int, rate: float, left: float) -> None:
        self._event(
            "progress",
            finished=done,
            frames=total,
            frames_per_second=round(rate, 3),
            seconds_left=round(left, 1),
        )

    def note(self, line: str) -> None:
        self._event("note", text=line)

    def done(self, summary: Summary, output: str) -> None:
        self._event("done", output=output, **asdict(summary))


class QuietReporter(LineReporter):
    """Says nothing."""

    def say(self, line: str) -> None:
        """Notes nothing."""

    note = say


class BarReporter(LineReporter):
    """A progress bar on a terminal."""

    def __init__(self, stream: TextIO | None = None):
        super().__init__(stream)
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._progress = Progress(
            TextColumn("[bold]upscaling"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} frames"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            console=Console(file=self._stream),
        )
        self._task: Any = None

    def begin(self, total: int, done: int) -> None:
        super().begin(total, done)
        self._progress.start()
        self._task = self._progress.add_task(
            "", total=total, completed=done, speed="compiling the network"
        )

    def advance(self, count: int = 1) -> None:
        with self._lock:
            self._done += count
            rate, left = self._speed(time.monotonic())
            speed = f"{rate:.2f} frames/s, {clock(left)} left"
            self._progress.update(self._task, advance=count, speed=speed)

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)

    note = say

    def done(self, summary: Summary, output: str) -> None:
        self.close()
        super().done(summary, output)

    def close(self) -> None:
        self._progress.stop()


def describe(summary: Summary, output: str) -> str:
    """The job in one line."""
    new = summary.frames_out - summary.resumed_frames
    rate = new / summary.seconds if summary.seconds else 0.0
    cuts = {0: "no scene cut", 1: "1 scene cut"}.get(
        summary.cuts, f"{summary.cuts} scene cuts"
    )
    return (
        f"{summary.frames_in} -> {summary.frames_out} frames of {summary.width}x"
        f"{summary.height}, {summary.duration:.2f} s of video, {cuts}, in "
        f"{clock(summary.seconds)} ({rate:.2f} frames/s): {output}"
    )


def choose_reporter(as_json: bool, quiet: bool = False) -> LineReporter:
    """JSON or nothing if asked for, a bar on a terminal, else plain lines."""
    if as_json:
        return JsonReporter()
    if quiet:
        return QuietReporter()
    return BarReporter() if sys.stderr.isatty() else LineReporter()
