"""Shrink and perturb: makes a trained network able to learn again.

    weights <- keep * weights + (1 - keep) * fresh ones

A network that was trained on less data, or while it was smaller, fits the data as well
as a fresh one after the same further training, but generalises worse. The mixture
learns nearly as fast as the trained network and generalises like a fresh one. It does
not keep the function: it only gives training a better place to begin. All randomly
initialised weights are mixed (kernels, not biases and statistics), each with fresh ones
from its own layer's initializer.

Source: Ash and Adams, On Warm-Starting Neural Network Training, NeurIPS 2020
(arXiv:1910.08475).
"""

import keras

from training.errors import TrainingError


def refresh(model: keras.Model, keep: float, seed: int = 0) -> None:
    """Mixes a network's weights with fresh ones, in place.

    Args:
        model: The network.
        keep: Share of the weights that is kept, from 0 (all fresh) to 1 (no change).
        seed: Seed of the fresh weights.

    Raises:
        TrainingError: If the share is out of range, or the network has no randomly
            initialised weights.
    """
    if not 0.0 <= keep <= 1.0:
        raise TrainingError(f"keep must be from 0 to 1; received {keep}.")
    found = _random_weights(model)
    if not found:
        raise TrainingError(
            "The network has no randomly initialised weights to refresh."
        )
    for number, (variable, initializer) in enumerate(found):
        config = {**initializer.get_config(), "seed": seed + number}
        fresh = type(initializer).from_config(config)(variable.shape)
        variable.assign(keep * variable + (1.0 - keep) * fresh)


def _random_weights(model: keras.Model) -> list[tuple]:
    """All weights with the initializers that drew them: pairs, in the model's order."""
    found = []
    for layer in model._flatten_layers():
        for attribute, initializer in list(vars(layer).items()):
            name, suffix, _ = attribute.partition("_initializer")
            if suffix and "seed" in initializer.get_config():
                weight = _weight(layer, name)
                if weight is not None:
                    found.append((weight, initializer))
    return found


def _weight(layer: keras.Layer, name: str) -> keras.Variable | None:
    """The weight that an initializer of this name is for; Keras names them three ways.

    Most have the same name; recurrent and separable layers have a ``recurrent_kernel``
    and so on; a depthwise convolution has one ``kernel``.
    """
    names = [name, f"{name}_kernel"] + (["kernel"] if name == "depthwise" else [])
    weights = (getattr(layer, candidate, None) for candidate in names)
    return next((w for w in weights if isinstance(w, keras.Variable)), None)
