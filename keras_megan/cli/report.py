"""What is reported about one clip or many, and the exit code that follows."""

import json
import sys

from keras_megan.video.many import Outcome
from keras_megan.video.progress import LineReporter, choose_reporter, clock
from keras_megan.video.request.inputs import Clip

SOME_FAILED = 2
UNCERTAIN = 2


class Report:
    """Is told what became of each clip.

    Args:
        total: How many clips there are.
        as_json: Whether events go to standard output as JSON.
        quiet: Whether only failures are reported.

    Attributes:
        as_json: As given.
        errors: What went wrong with each clip that failed.
    """

    def __init__(self, total: int, as_json: bool, quiet: bool):
        self._total, self.as_json, self._quiet = total, as_json, quiet
        self._current: LineReporter | None = None
        self._outcomes: list[Outcome] = []
        self.errors: list[str] = []

    def reporter(self, clip: Clip) -> LineReporter:
        """The reporter that follows one clip's progress."""
        self.close()
        self._current = choose_reporter(self.as_json, self._quiet)
        if self._total > 1:
            number = len(self._outcomes) + 1
            self._current.opens(number, self._total, str(clip.source))
        return self._current

    def outcome(self, outcome: Outcome) -> None:
        """Reports that a clip is finished, skipped or has failed."""
        self._outcomes.append(outcome)
        source, output = str(outcome.clip.source), str(outcome.clip.output)
        if outcome.error:
            self.close()
            self.errors.append(outcome.error)
            if self.as_json and self._total > 1:
                self._event("failed", input=source, text=outcome.error)
            elif self._total > 1:
                print(f"megan: {outcome.error}", file=sys.stderr)
        elif outcome.skipped:
            if self.as_json:
                self._event("skipped", input=source, output=output)
            elif not self._quiet:
                print(f"{output} exists: skipped.", file=sys.stderr)
        elif self._current is not None and outcome.summary is not None:
            self._current.done(outcome.summary, output)
            self.close()

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def finish(self) -> int:
        """Reports how all of them went; returns the exit code."""
        if self._total > 1 and not self._quiet:
            if self.as_json:
                self._event(
                    "finished",
                    done=sum(o.summary is not None for o in self._outcomes),
                    skipped=sum(o.skipped for o in self._outcomes),
                    failed=len(self.errors),
                )
            else:
                _print_table(self._outcomes)
        return self.code

    @property
    def code(self) -> int:
        """The exit code."""
        doubtful = any(o.summary and o.summary.doubts for o in self._outcomes)
        return SOME_FAILED if self.errors else UNCERTAIN if doubtful else 0

    def _event(self, kind: str, **facts) -> None:
        print(json.dumps({"event": kind, **facts}), flush=True)


def _print_table(outcomes: list[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("input", "result", "frames", "time", box=None, pad_edge=False)
    for outcome in outcomes:
        clip, summary = outcome.clip, outcome.summary
        if summary is not None:
            result = str(clip.output)
            rest = (str(summary.frames_out), clock(summary.seconds))
        else:
            result, rest = "skipped" if outcome.skipped else "FAILED", ("", "")
        table.add_row(str(clip.source), result, *rest)
    Console(stderr=True).print(table)
