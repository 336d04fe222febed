"""What net2net promises of any model, and random models by number to try it on.

Model number n is the same everywhere: Python's generator with that seed makes every
choice. Even numbers are image models of common motifs, odd ones sequence models of what
is hard to follow (masks, subclasses that override a helper, activations that mix units,
reshapes by the size of the input, operations without a rule). Each promise is a
function of a model's channel graph that raises `AssertionError` where it is broken.
"""

import json
import random
import tempfile
import warnings

import keras
import numpy as np

from keras_megan import net2net
from tests.net2net.graphs import image_graphs, odd_graphs
from tests.net2net.helpers import (
    largest_difference,
    masked_copy,
    random_inputs,
    randomize,
    run,
)

#: The largest difference of outputs, relative to the largest output.
BOUND = 1e-5


def graph_of(number):
    """Returns the channel graph of the model of a number, with random weights."""
    family = odd_graphs if number % 2 else image_graphs
    model = randomize(family.build(random.Random(number).choice), number)
    return net2net.ChannelGraph(model)


def inputs_of(model, number):
    """Returns inputs that `apply` does not use for its own check; tokens are padded."""
    inputs = random_inputs(model, batch=3, seed=number)
    if inputs.dtype.kind == "i":
        inputs[:, 0], inputs[:, 3:] = 5, 0
    return inputs


def widening_keeps_the_function(graph, number):
    """A wider model gives the same, also where its plan was read from a file."""
    inputs = inputs_of(graph.model, number)
    plan = net2net.widen(
        graph, factor=(1.3, 1.5, 2.0)[number // 2 % 3], seed=number, choice="random"
    )
    text = json.loads(json.dumps(plan.to_dict()))
    wide = net2net.Plan.from_dict(text, graph.model).apply()
    difference = largest_difference(run(graph.model, inputs), run(wide, inputs))
    assert difference <= BOUND, f"wider: {difference:.1e}"


def the_way_back_gives_the_weights_back(graph, number):
    """What was widened and narrowed again is what it was, or the way back is refused.

    Returns:
        Whether there was a way back.
    """
    plan = net2net.widen(graph, factor=1.5, seed=number, choice="random")
    wide = plan.apply()
    back = plan.inverse(wide)
    try:
        narrow = back.apply()
    except net2net.Net2NetError:
        return False
    inputs = inputs_of(graph.model, number)
    difference = largest_difference(run(graph.model, inputs), run(narrow, inputs))
    assert difference <= BOUND, f"there and back: {difference:.1e}"
    narrow_of = {id(old): new for old, new in back.pairs(narrow)}
    for old, new in plan.pairs(wide):
        old, new = old.numpy(), narrow_of[id(new)].numpy()
        assert old.shape == new.shape
        assert abs(old - new).max(initial=0) <= BOUND * abs(old).max(initial=0)
    return True


def pruning_equals_masking(graph, number):
    """A pruned model gives what the original gives with those units at zero."""
    inputs = inputs_of(graph.model, number)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*stays as it is", UserWarning)
        plan = net2net.prune(
            graph, ratio=(0.3, 0.5, 0.8)[number // 2 % 3], scope="local"
        )
    small = plan.apply()
    if plan.warnings:
        # Masking is not defined where units are mixed; the model must run, though.
        assert all(np.isfinite(x).all() for x in run(small, inputs))
        return
    masked = masked_copy(plan)
    difference = largest_difference(run(masked, inputs), run(small, inputs))
    assert difference <= BOUND, f"pruned: {difference:.1e}"


def saving_keeps_the_function(graph, number):
    """A wider model that is saved and loaded gives the same to the bit."""
    inputs = inputs_of(graph.model, number)
    wide = net2net.widen(graph, factor=1.5).apply()
    with tempfile.TemporaryDirectory() as folder:
        wide.save(f"{folder}/model.keras")
        again = keras.models.load_model(f"{folder}/model.keras", safe_mode=True)
    assert largest_difference(run(wide, inputs), run(again, inputs)) == 0


PROMISES = (
    widening_keeps_the_function,
    the_way_back_gives_the_weights_back,
    pruning_equals_masking,
    saving_keeps_the_function,
)
