"""Growing and pruning many random models: none may be wrong, whatever they are made of.

    python -m benchmarks.net2net.random_graphs --count 2000 --output graphs.jsonl

The models and the promises are those of `tests.net2net.graphs.promises`: half are image
models of common motifs, half are sequence models of what is hard to follow (masks,
subclasses that override a helper, activations that mix units, reshapes by the size of
the input, operations without a rule). Each is widened (its plan taken through JSON),
widened and narrowed again, and pruned; two of ten are saved and loaded.

One line is printed for every model that is not right, with its number, which is its
seed; and counts at the end: right, wrong (a promise is broken), exception (anything
else). The output file gets a line for each model as soon as it is done, and models
that it has already are not tried again, so a run can be stopped and taken up. The
models run in processes of their own, a few dozen in each.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_RESULT = "RESULT "


def try_one(number):
    """Returns the row of one model: its number, the result, and what was not right."""
    from tests.net2net.graphs import promises

    row = {"number": number, "result": "right"}
    step = "build"
    try:
        graph = promises.graph_of(number)
        for promise in promises.PROMISES:
            if promise is promises.saving_keeps_the_function and number % 10 > 1:
                continue
            step = promise.__name__
            returned = promise(graph, number)
            if promise is promises.the_way_back_gives_the_weights_back:
                row["way_back"] = returned
    except AssertionError as error:
        row.update(result="wrong", step=step, why=str(error)[:300])
    except Exception as error:  # Whatever is raised is a result as well.
        why = f"{type(error).__name__}: {error}"[:300]
        row.update(result="exception", step=step, why=why)
    return row


def run_child(numbers):
    """Prints one row per model."""
    import warnings

    import keras

    warnings.simplefilter("ignore")
    for done, number in enumerate(numbers):
        if done % 10 == 9:
            keras.backend.clear_session()
        print(_RESULT + json.dumps(try_one(number)), flush=True)


def run_all(numbers, at_once, timeout):
    """Yields one row per model, `at_once` of them in a process."""
    waiting = list(numbers)
    while waiting:
        some = waiting[:at_once]
        command = [sys.executable, "-m", "benchmarks.net2net.random_graphs", "--child"]
        child = subprocess.Popen(
            [*command, *map(str, some)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        timer = threading.Timer(timeout * len(some), child.kill)
        timer.start()
        done = 0
        for line in child.stdout:
            if line.startswith(_RESULT):
                done += 1
                yield json.loads(line[len(_RESULT) :])
        child.wait()
        timer.cancel()
        if done < len(some):
            why = f"the process stopped, or took more than {timeout} s a model"
            yield {"number": some[done], "result": "exception", "why": why}
            done += 1
        waiting = waiting[done:]


def main(arguments=None):
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="number of models")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--output", help="file of JSON lines, taken up where it ends")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    parser.add_argument("--at-once", type=int, default=40, help="models per process")
    parser.add_argument("--timeout", type=int, default=60, help="seconds per model")
    parser.add_argument(
        "--child", type=int, nargs="+", metavar="NUMBER", help=argparse.SUPPRESS
    )
    options = parser.parse_args(arguments)
    if options.child:
        run_child(options.child)
        return 0
    rows = {}
    if options.output and Path(options.output).exists():
        lines = Path(options.output).read_text(encoding="utf-8").splitlines()
        rows = {row["number"]: row for row in map(json.loads, lines)}
    numbers = range(options.first, options.first + options.count)
    started = time.monotonic()
    for row in run_all(
        [n for n in numbers if n not in rows], options.at_once, options.timeout
    ):
        rows[row["number"]] = row
        if options.output:
            with open(options.output, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if row["result"] != "right":
            print(row["number"], row["result"], row.get("step"), row["why"], flush=True)
        if options.minutes and time.monotonic() - started > 60 * options.minutes:
            break
    chosen = [rows[n] for n in numbers if n in rows]
    counts = dict.fromkeys(("right", "wrong", "exception"), 0)
    for row in chosen:
        counts[row["result"]] += 1
    refused = sum(row.get("way_back") is False for row in chosen)
    shown = ", ".join(f"{count} {result}" for result, count in counts.items())
    print(f"{len(chosen)} models: {shown}; the way back was refused for {refused}")
    return 1 if counts["wrong"] or counts["exception"] else 0


if __name__ == "__main__":
    sys.exit(main())
