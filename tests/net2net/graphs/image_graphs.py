"""Random image models of common motifs, from a function that makes choices."""

import keras
from keras import layers, ops

WIDTHS = (2, 3, 4, 6)


def convolution(choose, tensors):
    x = choose(tensors)
    act = choose([None, "relu", "tanh"])
    return layers.Conv2D(choose(WIDTHS), 3, padding="same", activation=act)(x)


def addition(choose, tensors):
    x = choose(tensors)
    y = layers.Conv2D(x.shape[-1], 1)(choose(tensors))
    return x + y


def concatenation(choose, tensors):
    chosen = [choose(tensors) for _ in range(choose([2, 3]))]
    return ops.concatenate(chosen, axis=-1)


def excitation(choose, tensors):
    x = choose(tensors)
    s = ops.mean(x, axis=(1, 2), keepdims=True)
    s = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(
        layers.Conv2D(choose(WIDTHS), 1, activation="relu")(s)
    )
    return x * s


def normalization(choose, tensors):
    x = choose(tensors)
    return layers.ReLU()(layers.BatchNormalization()(x))


def depthwise(choose, tensors):
    x = choose(tensors)
    multiplier = choose([1, 2])
    return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier)(x)


def halves(choose, tensors):
    x = choose(tensors)
    if x.shape[-1] % 2:
        return ops.relu(x)
    a, b = ops.split(x, 2, axis=-1)
    return a * ops.sigmoid(b)


def part(choose, tensors):
    x = choose(tensors)
    start = choose(range(x.shape[-1] - 1)) if x.shape[-1] > 2 else 0
    return ops.concatenate([x[..., start:], ops.tanh(x)], axis=-1)


def shuffled_pixels(choose, tensors):
    x = choose(tensors)
    x = layers.Conv2D(4 * choose(WIDTHS), 1)(x)
    return layers.AveragePooling2D(2)(ops.depth_to_space(x, 2))


def mask(choose, tensors):
    x = choose(tensors)
    return x * layers.Conv2D(1, 1, activation="sigmoid")(x)


BLOCKS = [
    convolution,
    addition,
    concatenation,
    excitation,
    normalization,
    depthwise,
    halves,
    part,
    shuffled_pixels,
    mask,
]


def build(choose):
    """A random graph of up to five blocks that end in one readout.

    Args:
        choose: Function from a sequence to one of its items.
    """
    entry = keras.Input((4, 4, 2))
    tensors = [layers.Conv2D(choose(WIDTHS), 3, padding="same")(entry)]
    for _ in range(choose([1, 2, 3, 4, 5])):
        tensors.append(choose(BLOCKS)(choose, tensors[-3:]))
    x = layers.Flatten()(layers.Conv2D(3, 2)(tensors[-1]))
    return keras.Model(entry, layers.Dense(3)(x))
