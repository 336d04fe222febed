"""A preset without its weights: a network as JSON, and back.

Two kinds of network fit into a preset:

    a class with `Presets`     its constructor arguments, such as MEGAN's filters
    a functional keras.Model   Keras's own description of its graph, the one that is in
                               every .keras file; what net2net gives for a network that
                               no configuration of its class describes any more

Both are data. A functional network may consist of Keras's layers and operations and of
registered layers, which are found by their names in the running program; layers that
would carry code along (Lambda) are refused when saving and when loading.
"""

import inspect

import keras

#: What a functional network is called in a preset's config.
FUNCTIONAL = "Functional"
CARRIES_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper")

_NEVER = ("self", "kwargs")
_CLASSES: dict[str, type] = {}


def register_class(model_class):
    """Lets presets hold a model class; its config must be its arguments."""
    _CLASSES[model_class.__name__] = model_class


def describe(model):
    """A network as data.

    Returns:
        Class name, config. The config holds no dtype policy of a registered class:
        a preset computes in whatever precision it is loaded for.

    Raises:
        ValueError: if it is neither of a registered class nor functional, or a layer
            carries code.
    """
    name = type(model).__name__
    if _CLASSES.get(name) is type(model):
        config = model.get_config()
        return name, {key: value for key, value in config.items() if key != "dtype"}
    if name != FUNCTIONAL or not isinstance(model, keras.Model):
        raise ValueError(
            f"A preset holds a {' or a '.join(sorted(_CLASSES))} or a functional "
            f"keras.Model; received a {name}. Build it as keras.Model(inputs, outputs)."
        )
    config = keras.saving.serialize_keras_object(model)["config"]
    _refuse_code(config)
    return FUNCTIONAL, config


def build(class_name, config, overrides):
    """The network that `describe` put into data, with fresh weights.

    Args:
        class_name: as described.
        config: as described.
        overrides: constructor arguments that replace the config's.

    Raises:
        ValueError: for an unknown class, arguments it does not take, a functional
            network with overrides, or a config that describes no network.
    """
    if class_name in _CLASSES:
        return _from_arguments(_CLASSES[class_name], {**config, **overrides})
    if class_name != FUNCTIONAL:
        raise ValueError(
            f"it holds a {class_name}, expected one of "
            f"{', '.join(sorted([*_CLASSES, FUNCTIONAL]))}."
        )
    if overrides:
        raise ValueError(
            "it holds the graph of one fixed network, which takes no arguments; "
            f"received {', '.join(overrides)}. Leave them out, or change the loaded "
            "network with keras_megan.net2net."
        )
    _refuse_code(config)
    described = {"module": "keras", "class_name": "Model", "config": config}
    try:
        model = keras.saving.deserialize_keras_object(described, safe_mode=True)
        # Where the graph is missing, Keras makes an empty model of another kind.
        return _checked(model)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"its config describes no network: {' '.join(str(error).split())[:200]}"
        ) from error


def _from_arguments(model_class, arguments):
    # Asked here because Keras models ignore arguments they do not know.
    known = inspect.signature(model_class.__init__).parameters
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise ValueError(
            f"a {model_class.__name__} has no argument {', '.join(unknown)}; expected "
            f"some of {', '.join(name for name in known if name not in _NEVER)}."
        )
    return model_class(**arguments)


def _checked(model):
    if type(model).__name__ != FUNCTIONAL:
        raise ValueError("the graph is missing")
    return model


def _refuse_code(config):
    """Raises a ValueError that names a layer which would carry code along."""
    if isinstance(config, dict):
        if config.get("class_name") in CARRIES_CODE:
            raise ValueError(
                f"layer '{config.get('name')}' is a {config['class_name']}, which "
                "carries code; presets hold data only. Expected a layer class that is "
                "registered with keras.saving.register_keras_serializable."
            )
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            _refuse_code(value)
