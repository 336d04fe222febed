"""Which importance prunes best: small networks on small images, several seeds.

Three networks (plain, residual, inverted residual) are trained on a few thousand
images, once per seed. Each is pruned to half of its multiply-adds by every importance,
with units competing over all groups ("global"; for some also inside their group,
"local"), and its accuracy is measured

- at once, as pruned;
- recalibrated: running statistics measured again on some training images;
- tuned: trained on for a few batches after that.

    python -m benchmarks.net2net.importance --data cifar10.npz --markdown table.md

The data file is as for `benchmarks.net2net.students`; without one, scikit-image's
pictures are cut into patches. Accuracies are means over networks and seeds.
"""

import argparse
import json
import os
import sys
import time

from benchmarks.net2net.students import load_pack, patches_of_pictures
from keras_megan.files import write_json

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

#: What is measured, in the order of the columns.
MOMENTS = ("at once", "recalibrated", "tuned")


def _conv_norm_relu(x, filters, size=3, stride=1, relu=True, depthwise=False):
    from keras import layers

    options = {"padding": "same", "use_bias": False}
    if depthwise:
        x = layers.DepthwiseConv2D(size, stride, **options)(x)
    else:
        x = layers.Conv2D(filters, size, stride, **options)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if relu else x


def plain_network(x):
    """Convolutions one after the other, as VGG."""
    for filters, stride in ((16, 2), (32, 1), (32, 2), (64, 1), (64, 2)):
        x = _conv_norm_relu(x, filters, stride=stride)
    return x


def residual_network(x):
    """A stem and three residual blocks, as ResNet."""
    from keras import layers

    x = _conv_norm_relu(x, 16, stride=2)
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        y = _conv_norm_relu(x, filters, stride=stride)
        y = _conv_norm_relu(y, filters, relu=False)
        if stride > 1:
            x = _conv_norm_relu(x, filters, size=1, stride=stride, relu=False)
        x = layers.ReLU()(layers.Add()([x, y]))
    return x


def mobile_network(x):
    """Inverted residual blocks, as MobileNetV2."""
    from keras import layers

    x = _conv_norm_relu(x, 16, stride=2)
    for filters, stride in ((16, 1), (32, 2), (32, 1), (64, 1)):
        y = _conv_norm_relu(x, 4 * x.shape[-1], size=1)
        y = _conv_norm_relu(y, None, stride=stride, depthwise=True)
        y = _conv_norm_relu(y, filters, size=1, relu=False)
        x = layers.Add()([x, y]) if y.shape == x.shape else y
    return layers.ReLU()(x)


NETWORKS = {
    "plain": plain_network,
    "residual": residual_network,
    "mobile": mobile_network,
}


def importances(samples, loss, seed):
    """Dict from name to importance, for one trained network."""
    from keras_megan import net2net

    inputs = samples[0]
    return {
        "random": net2net.RandomImportance(seed),
        "activation density": net2net.ActivationDensity(inputs),
        "filter norm": net2net.FilterNorm(),
        "batch-norm scale": net2net.BatchNormScale(),
        "group norm": net2net.GroupNorm(),
        "LAMP": net2net.LAMP(),
        "Taylor": net2net.Taylor(samples, loss),
        "Hessian diagonal": net2net.HessianDiagonal(samples, loss),
    }


def train(model, x, y, steps, rate, batch=64):
    """Trains for a number of steps with a cosine schedule."""
    import keras

    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss)
    epochs = -(-steps * batch // len(x))
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0)
    return loss


def accuracy(model, x, y):
    """Share of samples whose highest output is the label's."""
    predicted = model.predict(x, batch_size=250, verbose=0).argmax(axis=-1)
    return float(np.mean(predicted == y))


def measure(name, seed, data, options):
    """All rows of one trained network."""
    import keras
    from keras import layers

    from keras_megan import net2net

    x, y, x_val, y_val = data
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    entry = keras.Input(x.shape[1:])
    features = layers.GlobalAveragePooling2D()(NETWORKS[name](entry))
    model = keras.Model(entry, layers.Dense(int(y.max()) + 1)(features))
    loss = train(model, x, y, options.steps, 3e-3)
    rows = [{"importance": "not pruned", "tuned": accuracy(model, x_val, y_val)}]
    macs = net2net.count_macs(model) * options.macs
    few = x[: options.samples], y[: options.samples]
    graph = net2net.ChannelGraph(model)
    for kind, importance in importances(few, loss, seed).items():
        for scope in ("global", "local") if kind in options.local else ("global",):
            plan = net2net.prune(graph, importance=importance, scope=scope, macs=macs)
            small = plan.apply(verify=False)
            row = {"importance": kind, "scope": scope, "parameters": plan.parameters}
            row["at once"] = accuracy(small, x_val, y_val)
            net2net.recalibrate(small, x[: 2 * options.samples])
            row["recalibrated"] = accuracy(small, x_val, y_val)
            if options.tune:
                part = slice(0, options.tune * 64)
                train(small, x[part], y[part], options.tune, 1e-3)
                row["tuned"] = accuracy(small, x_val, y_val)
            rows.append(row)
    return [{"network": name, "seed": seed, **row} for row in rows]


def as_markdown(rows):
    """One line per importance and scope: means over networks and seeds."""
    groups = {}
    for row in rows:
        key = (row["importance"], row.get("scope", ""))
        groups.setdefault(key, []).append(row)
    lines = [f"| importance | scope | {' | '.join(MOMENTS)} |", "|---" * 5 + "|"]

    def mean(found, moment):
        values = [row[moment] for row in found if moment in row]
        return float(np.mean(values)) if values else None

    last = MOMENTS[-1] if any(MOMENTS[-1] in r for r in rows[1:2]) else MOMENTS[-2]
    order = sorted(groups.items(), key=lambda item: -(mean(item[1], last) or 0))
    for (kind, scope), found in order:
        cells = [mean(found, moment) for moment in MOMENTS]
        cells = ["" if value is None else f"{value:.3f}" for value in cells]
        lines.append(f"| {kind} | {scope} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments=None):
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help=".npz pack of JPEG images")
    parser.add_argument("--count", type=int, default=5000, help="training images")
    parser.add_argument("--steps", type=int, default=300, help="steps of training")
    parser.add_argument("--tune", type=int, default=25, help="steps after pruning")
    parser.add_argument("--macs", type=float, default=0.5, help="share that stays")
    parser.add_argument("--samples", type=int, default=256, help="for importances")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--local", nargs="*", default=["group norm"], help="importances tried per group"
    )
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--rows", nargs="+", default=[], help="JSON of earlier runs")
    parser.add_argument("--output", help="JSON file for the rows")
    parser.add_argument("--markdown", help="file for the table")
    options = parser.parse_args(arguments)
    if options.data:
        data = load_pack(options.data, options.count)
    else:
        data = patches_of_pictures(options.count)
    started, rows = time.perf_counter(), []
    for path in options.rows:
        with open(path, encoding="utf-8") as file:
            rows += json.load(file)
    for name in options.networks:
        for seed in range(options.seeds):
            rows += measure(name, seed, data, options)
            spent = time.perf_counter() - started
            print(f"{name}, seed {seed}: {spent:.0f} s", file=sys.stderr, flush=True)
            if options.output:
                write_json(options.output, rows)
    table = as_markdown(rows)
    if options.markdown:
        with open(options.markdown, "w", encoding="utf-8") as file:
            file.write(table + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
