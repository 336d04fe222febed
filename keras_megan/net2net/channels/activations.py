"""Which activation functions treat every channel by itself.

Keras layers take any function as their activation. The functions of `keras.activations`
are known; a layer with any other function is not treated as one operation but laid out
as the operations it is made of, function included.
"""

import keras

_MIXING = {
    keras.activations.softmax,
    keras.activations.log_softmax,
    keras.activations.sparsemax,
    keras.activations.glu,
}
_TOOLS = {"get", "serialize", "deserialize"}
_PER_CHANNEL = {
    function
    for name, function in vars(keras.activations).items()
    if callable(function) and not name.startswith("_") and name not in _TOOLS
} - _MIXING
_FIXING_ZERO_AND_IDEMPOTENT = {
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.relu6,
}


def activation_of(layer):
    """Returns a layer's activation function, or None if it has no such attribute."""
    return getattr(layer, "activation", None)


def is_linear_activation(function):
    """Returns whether a function (or None) changes nothing."""
    return function is None or function is keras.activations.linear


def is_per_channel(function):
    """Returns whether a function treats every channel by itself."""
    return function is None or function in _PER_CHANNEL


def is_mixing(function):
    """Returns whether a function is known to mix the positions of an axis."""
    return function in _MIXING


def is_idempotent(function):
    """Returns whether f(f(x)) = f(x): an identity may follow such an activation."""
    return function is None or function in _FIXING_ZERO_AND_IDEMPOTENT


def has_known_activation(layer):
    """Returns whether a layer's activation, if it has one, is a known function."""
    function = activation_of(layer)
    return is_per_channel(function) or is_mixing(function)
