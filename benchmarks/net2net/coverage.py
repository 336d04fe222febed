"""Growing and pruning every model of `keras.applications`, exactly.

For each of the 40 constructors (``weights=None``, logits, the default input size), in a
process of its own, with random scales and biases and calibrated batch normalisation:

1. widen every group of channels by 1.25, compare the outputs with the original's;
2. widen one group by 2, compare again;
3. prune half of the units of every group, run it;
4. save both new models, load them back, compare with before.

    python -m benchmarks.net2net.coverage                      # all, about an hour
    python -m benchmarks.net2net.coverage VGG16 NASNetMobile   # some
    python -m benchmarks.net2net.coverage --output coverage.json --markdown table.md

Each row: groups that can change, parameters and multiply-adds of the original, the
widened and the pruned model, the largest error relative to the largest output, seconds
for planning and applying. A model that fails has the reason in its row.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time

from keras_megan.files import write_json, write_whole

_RESULT = "RESULT "
_ERROR_LIMIT = 1e-5


def constructors():
    """Names of all model constructors in `keras.applications`."""
    import keras

    return [
        name
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value)
    ]


def measure(name):
    """Widens, prunes, saves and reloads one model; returns its row."""
    import keras
    import numpy as np

    from keras_megan import net2net

    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    adapted = [x for x in model.layers if isinstance(x, keras.layers.Normalization)]
    fixed = {id(weight) for layer in adapted for weight in layer.weights}
    for weight in model.weights:
        if id(weight) in fixed:
            continue
        if weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(random.normal(0.0, 0.1, weight.shape))
        elif len(weight.shape) == 1 and "float" in weight.dtype:
            # Scales and variances; some start near zero and would hide errors.
            weight.assign(random.uniform(0.8, 1.2, weight.shape))
    # Preprocessing inside some of the models expects 0..255.
    shape = tuple(size or 224 for size in model.input_shape[1:-1]) + (3,)
    images = random.uniform(0.0, 255.0, (1, *shape)).astype("float32")
    _calibrate(model, images)
    expected = _run(model, images)
    started = time.perf_counter()
    graph = net2net.ChannelGraph(model)
    row = {
        "model": name,
        "groups": len(graph.groups),
        "params": net2net.count_params(model),
        "macs": net2net.count_macs(model, shape),
    }
    wide_plan = net2net.widen(graph, factor=1.25)
    wide = wide_plan.apply()
    row["widen_seconds"] = time.perf_counter() - started
    row["widen_params"] = net2net.count_params(wide)
    row["widen_macs"] = net2net.count_macs(wide, shape)
    row["widen_error"] = _error(expected, _run(wide, images))
    row["reload_error"] = _reload_error(wide, images)
    del wide, wide_plan
    group = graph.groups[len(graph.groups) // 2]
    plan = net2net.Plan(
        graph,
        {
            group: net2net.IndexMap.copies(
                group.size, np.arange(2 * group.size) % group.size, "random"
            )
        },
    )
    double = plan.apply()
    row["double_error"] = _error(expected, _run(double, images))
    del double, plan
    started = time.perf_counter()
    small = net2net.prune(graph, ratio=0.5, scope="local").apply()
    row["prune_seconds"] = time.perf_counter() - started
    row["prune_params"] = net2net.count_params(small)
    row["prune_macs"] = net2net.count_macs(small, shape)
    output = _run(small, images)
    if not np.all(np.isfinite(output)):
        raise ValueError("the pruned model gives numbers that are not finite")
    row["reload_error"] = max(row["reload_error"], _reload_error(small, images))
    errors = (row["widen_error"], row["double_error"], row["reload_error"])
    row["ok"] = bool(max(errors) <= _ERROR_LIMIT)
    return row


def _calibrate(model, images):
    """Sets the batch normalisations to the statistics of the images.

    With random weights and other statistics the deepest of the models amplify a
    rounding error a million times and more, which would say nothing of the rewriting.
    """
    import keras

    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    if norms:
        model(images, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def _run(model, images):
    import keras

    return keras.ops.convert_to_numpy(model(images, training=False))


def _error(expected, received):
    import numpy as np

    return float(np.max(np.abs(expected - received)) / np.max(np.abs(expected)))


def _reload_error(model, images):
    import keras

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        again = keras.models.load_model(path, safe_mode=True)
    return _error(_run(model, images), _run(again, images))


def run_in_child(name, timeout):
    """One row, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.net2net.coverage", "--child", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return {"model": name, "ok": False, "reason": f"more than {timeout} s"}
    for line in done.stdout.splitlines():
        if line.startswith(_RESULT):
            return json.loads(line[len(_RESULT) :])
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[
        -1
    ]
    return {"model": name, "ok": False, "reason": reason}


def as_markdown(rows):
    """The table as Markdown."""
    lines = [
        "| model | groups | M params (x1.25, half) | GMAC (x1.25, half) "
        "| error x1.25 | error x2 | reload | s widen, prune |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "prune_macs" not in row:
            lines.append(f"| {row['model']} | {row.get('reason', '')} | | | | | | |")
            continue
        params, macs = (
            [row[f"{step}{what}"] / scale for step in ("", "widen_", "prune_")]
            for what, scale in (("params", 1e6), ("macs", 1e9))
        )
        lines.append(
            f"| {row['model']} | {row['groups']} "
            f"| {params[0]:.2f} ({params[1]:.2f}, {params[2]:.2f}) "
            f"| {macs[0]:.3f} ({macs[1]:.3f}, {macs[2]:.3f}) "
            f"| {row['widen_error']:.1e} | {row['double_error']:.1e} "
            f"| {row['reload_error']:.0e} "
            f"| {row['widen_seconds']:.1f}, {row['prune_seconds']:.1f} |"
        )
    passed = sum(bool(row["ok"]) for row in rows)
    lines += ["", f"{passed} of {len(rows)} models."]
    return "\n".join(lines)


def main(arguments=None):
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="constructors; all if none is named")
    parser.add_argument("--output", help="JSON file for the rows")
    parser.add_argument("--markdown", help="file for the table")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds per model")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(_RESULT + json.dumps(measure(options.child)), flush=True)
        return 0
    rows = []
    for name in options.models or constructors():
        rows.append(run_in_child(name, options.timeout))
        row = rows[-1]
        print(name, "ok" if row["ok"] else f"FAILED: {row}", flush=True)
        if options.output:
            write_json(options.output, rows)
        if options.markdown:
            write_whole(options.markdown, as_markdown(rows) + "\n")
    print(as_markdown(rows))
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
