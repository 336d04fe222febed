"""Growing and pruning the backbones of keras-hub, exactly or not at all.

The models are those of keras-hub's own tests, in their small configurations. The tests
are not part of its wheel, so they are read from a checkout of the sources:

    python -m venv hub && hub/bin/pip install keras-hub==0.32.0 -c constraints.txt
    git clone https://github.com/keras-team/keras-hub
    hub/bin/python -m benchmarks.net2net.hub_coverage --sources keras-hub
    hub/bin/python -m benchmarks.net2net.hub_coverage --sources keras-hub llama bert

With `--output` rows of a run before are kept, and those of the named models replaced.

Where a configuration has a hidden size of 2, of which layer normalisation leaves only
the order, it gets four times as much, or eight times where the class wants more. Each
model gets random biases and scales. Then
every group of channels that can change is widened by 1.5 (by default shares and noise)
and pruned by 0.4; the widened model's outputs on the test's own inputs are compared
with the original's, the pruned one is compared by `apply` itself with the masked
original where that is defined.

A row says: exact (something could be widened, and the outputs agree), fixed (exact, but
nothing could change), refused (one clear error of net2net), crash (any other error),
WRONG (the outputs disagree).
"""

import argparse
import importlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from keras_megan.files import write_json, write_whole

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_RESULT = "RESULT "
_ERROR_LIMIT = 1e-4


def find_backbones(sources):
    """Dict from a model's name to the module of its backbone test."""
    root = pathlib.Path(sources)
    found = sorted(root.glob("keras_hub/src/models/*/*_backbone_test.py"))
    return {
        path.stem.removesuffix("_backbone_test"): ".".join(
            path.relative_to(root).with_suffix("").parts
        )
        for path in found
    }


def configuration_of(module):
    """The class, constructor arguments and inputs that a backbone test uses."""
    from keras_hub.src.tests.test_case import TestCase

    found = {}

    def remember(self, cls, init_kwargs, input_data, *args, **kwargs):
        found.setdefault("one", (cls, init_kwargs, input_data))

    for runner in ("backbone", "vision_backbone", "model_saving"):
        setattr(TestCase, f"run_{runner}_test", remember)
    tests = [
        value
        for value in vars(importlib.import_module(module)).values()
        if isinstance(value, type) and issubclass(value, TestCase) and value != TestCase
    ]
    for kind in tests:
        names = [name for name in dir(kind) if name.startswith("test_")]
        for name in sorted(names, key=lambda name: "basics" not in name):
            test = kind(name)
            test.setUp()
            try:
                getattr(test, name)()
            except Exception:  # Only what is captured on the way matters.
                continue
            if found:
                return found["one"]
    raise LookupError(f"{module} does not test a backbone")


def measure(name, module):
    """Widens and prunes one model; returns its row."""
    import keras
    import numpy as np

    from keras_megan import net2net

    row = {"model": name, "status": "crash"}
    cls, arguments, inputs = configuration_of(module)
    keras.utils.set_random_seed(0)
    model = _wide_enough(cls, arguments, inputs)
    random = np.random.default_rng(0)
    for weight in model.weights:
        if "float" in weight.dtype and len(weight.shape) == 1:
            small = weight.name in ("beta", "bias", "moving_mean")
            low, high = (-0.2, 0.2) if small else (0.8, 1.2)
            weight.assign(random.uniform(low, high, weight.shape))
    row["class"] = cls.__name__
    row["parameters"] = net2net.count_params(model)
    expected = _run(model, inputs)
    started = time.perf_counter()
    try:
        graph = net2net.ChannelGraph(model)
        row["groups"] = len(graph.groups)
        row["stays"] = len(graph.fixed)
        row["why"] = next(iter(graph.fixed.values()), "")
        wide = net2net.widen(graph, factor=1.5).apply()
        row["wider"] = net2net.count_params(wide)
        row["same_class"] = type(wide) is type(model)
        row["error"] = _error(expected, _run(wide, inputs))
        right = row["error"] <= _ERROR_LIMIT
        row["status"] = ("exact" if row["groups"] else "fixed") if right else "WRONG"
        small = net2net.prune(graph, ratio=0.4, scope="local").apply()
        row["smaller"] = net2net.count_params(small)
        if not all(np.isfinite(x).all() for x in _run(small, inputs)):
            row["status"] = "WRONG"
    except net2net.Net2NetError as error:
        row["status"] = "refused"
        row["why"] = str(error).splitlines()[0]
    row["seconds"] = time.perf_counter() - started
    return row


def _wide_enough(cls, arguments, inputs):
    """A model with a hidden size that shows errors, if its class takes one.

    Layer normalisation of two channels gives no more than their order.
    """
    sizes = {key: arguments.get(key) for key in ("hidden_dim", "intermediate_dim")}
    for factor in (4, 8) if sizes["hidden_dim"] == 2 else ():
        wide = {key: factor * size for key, size in sizes.items() if size}
        try:
            model = cls(**{**arguments, **wide})
            _run(model, inputs)
        except Exception:  # Whatever a class says to other widths than its test has.
            continue
        return model
    return cls(**arguments)


def _run(model, inputs):
    import keras

    outputs = keras.tree.flatten(model(inputs, training=False))
    return [keras.ops.convert_to_numpy(x).astype("float64") for x in outputs]


def _error(expected, received):
    import numpy as np

    return max(
        float(np.max(np.abs(a - b)) / (np.max(np.abs(a)) or 1.0))
        for a, b in zip(expected, received, strict=True)
    )


def run_child(sources, names):
    """Prints one row per model."""
    sys.path.insert(0, str(sources))
    modules = find_backbones(sources)
    for name in names:
        try:
            row = measure(name, modules[name])
        except Exception as error:  # A crash is a result as well.
            text = (str(error).strip().splitlines() or [""])[0]
            why = f"{type(error).__name__}: {text}"
            row = {"model": name, "status": "crash", "why": why}
            if os.environ.get("SHOW_TRACEBACKS"):
                import traceback

                traceback.print_exc()
        print(_RESULT + json.dumps(row), flush=True)


def run_all(options, names):
    """Yields one row per model, `--at-once` of them in a process."""
    waiting = list(names)
    while waiting:
        some = waiting[: options.at_once]
        command = [sys.executable, "-m", "benchmarks.net2net.hub_coverage", "--child"]
        command += ["--sources", options.sources, *some]
        rows = []
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        timer = threading.Timer(options.timeout * len(some), child.kill)
        timer.start()
        for line in child.stdout:
            if line.startswith(_RESULT):
                rows.append(json.loads(line[len(_RESULT) :]))
                yield rows[-1]
        child.wait()
        timer.cancel()
        if len(rows) < len(some):
            why = f"stopped, or more than {options.timeout} s a model"
            yield {"model": some[len(rows)], "status": "crash", "why": why}
            rows.append(None)
        waiting = waiting[len(rows) :]


def as_markdown(rows):
    """The table as Markdown."""
    lines = [
        "| model | result | groups | parameters (x1.5, -0.4) | error | same class "
        "| first of what stays, or why not |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        sizes = [row.get(key) for key in ("parameters", "wider", "smaller")]
        shown = [f"{size:,}" if size is not None else "-" for size in sizes]
        error = f"{row['error']:.0e}" if "error" in row else ""
        lines.append(
            f"| {row['model']} | {row['status']} | {row.get('groups', '')} "
            f"| {shown[0]} ({shown[1]}, {shown[2]}) | {error} "
            f"| {'yes' if row.get('same_class') else ''} "
            f"| {row.get('why', '').replace('|', '/')[:160]} |"
        )
    counts = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    total = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return "\n".join([*lines, "", f"{len(rows)} backbones: {total}."])


def main(arguments=None):
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names such as llama; default: all")
    parser.add_argument("--sources", required=True, help="checkout of keras-hub")
    parser.add_argument("--output", help="JSON file for the rows")
    parser.add_argument("--markdown", help="file for the table")
    parser.add_argument("--timeout", type=int, default=300, help="seconds per model")
    parser.add_argument("--at-once", type=int, default=6, help="models per process")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        run_child(options.sources, options.models)
        return 0
    known = find_backbones(options.sources)
    unknown = sorted(set(options.models) - set(known))
    if unknown:
        parser.error(f"no such backbone: {', '.join(unknown)}")
    found, rows = {}, []
    if options.output and os.path.exists(options.output):
        with open(options.output, encoding="utf-8") as file:
            found = {row["model"]: row for row in json.load(file)}
    for row in run_all(options, options.models or known):
        found[row["model"]] = row
        rows = [found[name] for name in known if name in found]
        print(row["model"], row["status"], row.get("why", ""), flush=True)
        if options.output:
            write_json(options.output, rows)
        if options.markdown:
            write_whole(options.markdown, as_markdown(rows) + "\n")
    print(as_markdown(rows))
    bad = {"crash", "WRONG"}
    return 1 if any(row["status"] in bad for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
