"""What training costs: multiply-adds of everything done so far.

A training step passes every sample forward once and backward once; the backward pass
computes two products for each forward one (for the input's gradient and the weights'),
so training costs three times the forward pass. Cumulative training and training from
scratch are compared by that count: it does not depend on the machine.

Source: the factor of three: Kaplan et al., Scaling Laws for Neural Language Models,
2020 (arXiv:2001.08361), section 2.1, in multiply-adds.
"""

import keras

from keras_megan.net2net import count_macs

#: Forward pass, gradient of the inputs, gradient of the weights.
PASSES = 3


def training_macs(
    model: keras.Model, sample_shape: tuple[int, ...] | list[tuple[int, ...]]
) -> float:
    """Multiply-adds of training on one sample once.

    Args:
        model: The network.
        sample_shape: Shape of one input without the batch axis, or a list of them for
            several inputs.
    """
    return PASSES * float(count_macs(model, sample_shape))
