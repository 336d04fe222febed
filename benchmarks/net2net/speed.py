"""How long growing takes, and how exact it is: VGG19 and ResNet50.

    python -m benchmarks.net2net.speed

- VGG19 with batch normalisation for 64x64 images, all 16 convolutions widened from a
  quarter of their width to the full one;
- ResNet50: tracing, planning and applying a widening by 1.25 and a pruning by half.

Prints seconds (median of the repetitions) and the largest error relative to the largest
output.
"""

import argparse
import statistics
import sys
import time

import numpy as np

_VGG19 = (64, 64, 0, 128, 128, 0) + (256,) * 4 + (0,) + ((512,) * 4 + (0,)) * 2


def vgg19(width, classes=200):
    """Returns VGG19-BN for 64x64 images and the full widths of its convolutions."""
    import keras
    from keras import layers

    x = entry = keras.Input((64, 64, 3))
    full = {}
    for filters in _VGG19:
        if not filters:
            x = layers.MaxPooling2D(2)(x)
            continue
        name = f"conv{len(full) + 1}"
        full[name] = filters
        x = layers.Conv2D(int(filters * width), 3, padding="same", name=name)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(entry, layers.Dense(classes)(layers.Flatten()(x))), full


def timed(function, repetitions):
    """Returns the median time of a function in seconds, and its last result."""
    seconds, result = [], None
    for _ in range(repetitions):
        del result
        started = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def error(model, other, size):
    """Largest difference of outputs relative to the largest output."""
    x = np.random.default_rng(0).uniform(size=(2, size, size, 3)).astype("float32")
    a, b = (np.asarray(m(x, training=False)) for m in (model, other))
    return float(np.max(np.abs(a - b)) / np.max(np.abs(a)))


def main(arguments=None):
    """Entry point."""
    import keras

    from keras_megan import net2net

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    narrow, full = vgg19(0.25)
    seconds, wide = timed(
        lambda: net2net.widen(narrow, full).apply(), options.repetitions
    )
    params = [net2net.count_params(m) / 1e6 for m in (narrow, wide)]
    macs = [net2net.count_macs(m) / 1e6 for m in (narrow, wide)]
    print(f"VGG19 x0.25 -> x1.0, plan and apply: {seconds:.2f} s")
    print(f"  {params[0]:.2f} -> {params[1]:.2f} M parameters")
    print(f"  {macs[0]:.1f} -> {macs[1]:.1f} MMAC")
    print(f"  error {error(narrow, wide, 64):.1e}")
    model = keras.applications.ResNet50(weights=None, classifier_activation=None)
    seconds, wide = timed(
        lambda: net2net.widen(model, factor=1.25).apply(), options.repetitions
    )
    print(f"ResNet50 x1.25, plan and apply: {seconds:.2f} s")
    print(f"  error {error(model, wide, 224):.1e}")
    seconds, _ = timed(
        lambda: net2net.prune(model, ratio=0.5, scope="local").apply(),
        options.repetitions,
    )
    print(f"ResNet50 pruned by half, plan and apply: {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
