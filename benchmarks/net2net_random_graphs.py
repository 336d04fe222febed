"""Growing and pruning many random models: none may be wrong, whatever they are made of.

    python -m benchmarks.net2net_random_graphs --count 2000 --first 0

Half of the models are image models of common motifs, half are sequence models of what
is hard to follow (`tests.net2net.odd_graphs`): masks, subclasses that override a
helper, activations that mix units, reshapes by the size of the input, operations
without a rule. Each is widened by 1.5 with the default shares and noise and pruned by
0.4; the widened one is compared with the original on padded inputs that `apply` does
not use for its own check.
"""

import argparse
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_LIMIT = 1e-5


def try_one(number):
    """Returns (result, difference, what went wrong) for the model of a number."""
    import keras
    import numpy as np

    from keras_megan import net2net
    from tests.net2net import odd_graphs
    from tests.net2net.helpers import largest_difference, random_inputs, randomize, run
    from tests.net2net.test_random_graphs import Choices, build

    random = np.random.default_rng(number)
    recipe = [int(x) for x in random.integers(0, 1000, size=30)]
    if number % 2:
        choose = Choices(recipe)
        model = randomize(odd_graphs.build(choose), number)
        inputs = random_inputs(model, batch=3, seed=number)
        inputs[:, 0], inputs[:, 3:] = 5, 0
    else:
        model = build(recipe)
        inputs = random_inputs(model, seed=number)
    expected = run(model, inputs)
    try:
        graph = net2net.ChannelGraph(model)
        wide = net2net.widen(graph, factor=1.5).apply()
        net2net.prune(graph, ratio=0.4, scope="local").apply()
    except net2net.Net2NetError as error:
        return "refused", 0.0, str(error).splitlines()[0]
    except Exception as error:  # A crash is a result as well.
        return "crash", 0.0, f"{type(error).__name__}: {error}"[:200]
    finally:
        keras.backend.clear_session()
    difference = largest_difference(expected, run(wide, inputs))
    return ("exact" if difference <= _LIMIT else "WRONG"), difference, ""


def main(arguments=None):
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="number of models")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    options = parser.parse_args(arguments)
    started, counts, worst = time.monotonic(), {}, 0.0
    for number in range(options.first, options.first + options.count):
        result, difference, why = try_one(number)
        counts[result] = counts.get(result, 0) + 1
        worst = max(worst, difference)
        if result != "exact":
            print(number, result, f"{difference:.1e}", why, flush=True)
        if options.minutes and time.monotonic() - started > 60 * options.minutes:
            break
    total = sum(counts.values())
    print(f"{total} models: {counts}; largest difference {worst:.1e}")
    return 1 if {"WRONG", "crash"} & set(counts) else 0


if __name__ == "__main__":
    sys.exit(main())
