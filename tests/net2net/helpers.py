"""What the net2net tests share: random weights, inputs, and comparisons."""

import keras
import numpy as np

from keras_megan import net2net


def randomize(model, seed=0):
    """Gives every weight a random value, variances and gammas positive ones."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        if "seed" in variable.path or "int" in variable.dtype:
            continue
        value = random.normal(0.0, 0.5, variable.shape)
        if "variance" in variable.path:
            value = 0.5 + np.abs(value)
        variable.assign(value)
    return model


def random_inputs(model, batch=2, seed=1):
    """Random data in the structure that the model takes."""
    random = np.random.default_rng(seed)

    def make(tensor):
        shape = (batch, *(size or 5 for size in tensor.shape[1:]))
        if "int" in tensor.dtype:
            return random.integers(0, 7, shape)
        return random.normal(size=shape).astype(tensor.dtype)

    sequential = isinstance(model, keras.Sequential)
    inputs = model.inputs[0] if sequential else model.input
    return keras.tree.map_structure(make, inputs)


def run(model, inputs, training=False):
    """The outputs as a flat list of arrays."""
    outputs = model(inputs, training=training)
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)]


def largest_difference(expected, received):
    """The largest elementwise difference, relative to the largest output."""
    worst = 0.0
    for a, b in zip(expected, received, strict=True):
        np.testing.assert_equal(a.shape, b.shape)
        scale = np.max(np.abs(a))
        # A model whose output is constant zero would make every comparison pass.
        np.testing.assert_(scale > 0)
        worst = max(worst, float(np.max(np.abs(a - b)) / scale))
    return worst


def masked_copy(plan):
    """The original with the units that a plan leaves out set to zero everywhere."""
    copy = net2net.Plan(plan.graph)
    masked = copy.apply()
    new_of = {id(old): new for old, new in copy.pairs(masked)}
    for weight in plan.graph.weights:
        value = np.array(keras.ops.convert_to_numpy(weight.variable.value))
        for axis, role in weight.roles.items():
            if plan.is_changed(role.layout):
                dropped = plan.index_map(role.layout).counts == 0
                index = [slice(None)] * value.ndim
                index[axis] = dropped
                value[tuple(index)] = 0
        new_of[id(weight.variable)].assign(value)
    return masked


def difference(model, inputs, factor=1.5, training=False):
    """Largest difference that widening makes, and the wide model."""
    wide = net2net.widen(model, factor=factor).apply()
    expected = run(model, inputs, training=training)
    return largest_difference(expected, run(wide, inputs, training=training)), wide


def readout(x):
    """A small classifier over the last axis."""
    while len(x.shape) > 2:
        x = keras.ops.mean(x, axis=1)
    free = keras.layers.Dense(6, activation="tanh", name="free")
    return keras.layers.Dense(2)(free(x))
