"""Rebuilding a layer from its configuration: what has to be adjusted around it."""

import copy
import inspect

import keras

from keras_megan.net2net.channels.layout import Layout

_KERAS_OWN = ("name", "trainable", "dtype")


def resolve(value, size_of):
    """Replaces every `Layout` in a structure by its size."""
    if isinstance(value, Layout):
        return size_of(value)
    if isinstance(value, list | tuple):
        return type(value)(resolve(item, size_of) for item in value)
    return value


def without_build(config):
    """A configuration in which no layer inside is built for the old shapes."""
    if isinstance(config, dict):
        return {k: without_build(v) for k, v in config.items() if k != "build_config"}
    if isinstance(config, list | tuple):
        return type(config)(without_build(item) for item in config)
    return config


def config_of(layer):
    """Returns a copy of a layer's configuration, to be built for other shapes.

    Raises:
        NotImplementedError: If its class has none.
        TypeError: If its ``get_config`` does not return a dict.
    """
    try:
        config = layer.get_config()
    except NotImplementedError:
        # Keras gives up where a class without `get_config` was given any object, be
        # it only a data type policy.
        if not _has_no_settings(type(layer)):
            raise
        config = {
            "name": layer.name,
            "trainable": layer.trainable,
            "dtype": keras.dtype_policies.serialize(layer.dtype_policy),
        }
    if not isinstance(config, dict):
        kind = type(layer).__name__
        raise TypeError(f"{kind}.get_config returns {type(config).__name__}, no dict.")
    return without_build(copy.deepcopy(config))


def _has_no_settings(kind):
    """Whether the constructor of a class takes Keras's own arguments alone."""
    own = kind.mro()[: kind.mro().index(keras.Layer)]
    return all(
        parameter.kind is inspect.Parameter.VAR_KEYWORD or name in ("self", *_KERAS_OWN)
        for part in own
        if "__init__" in vars(part)
        for name, parameter in inspect.signature(part.__init__).parameters.items()
    )


def functions_of(layer):
    """The plain functions in a layer, so that its configuration can name them."""
    return {
        value.__name__: value
        for part in layer._flatten_layers(include_self=True, recursive=True)
        for value in vars(part).values()
        if callable(value) and hasattr(value, "__name__") and "<" not in value.__name__
    }


def replace_initializers(layer):
    kept = []
    for part in layer._flatten_layers(include_self=True, recursive=True):
        for attribute, value in list(vars(part).items()):
            if isinstance(value, keras.initializers.Initializer):
                kept.append((part, attribute, value))
                setattr(part, attribute, keras.initializers.Zeros())
    return kept


def made_of(layer_class, config):
    """Returns a new layer of a class from a configuration.

    Classes whose constructor does not take all that their configuration holds, Keras's
    own arguments or numbers that follow from others, get what they take.
    """
    try:
        return layer_class.from_config(config)
    except TypeError:
        taken = inspect.signature(layer_class.__init__).parameters
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
            taken = {*taken, *_KERAS_OWN}
        own = {key: value for key, value in config.items() if key in taken}
        if own == config:
            raise
        layer = layer_class.from_config(own)
    if "name" in config:
        layer.name = config["name"]
    if "dtype" in config and "dtype" not in own:
        policy = keras.dtype_policies.get(config["dtype"])
        if policy != layer.dtype_policy:
            layer.dtype_policy = policy
    layer.trainable = config.get("trainable", True)
    return layer
