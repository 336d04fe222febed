"""Shrink and perturb: makes a trained network able to learn anew.

    weights <- keep * weights + (1 - keep) * fresh ones

A network that was trained on less, or while it was smaller, generalises worse after the
same further training than one that begins fresh, although it fits the data as well. The
mixture learns nearly as fast as the trained network goes on and generalises like a
fresh one. It does not keep the function: what a network computes is gone, what is left
is where it begins. All randomly initialised weights are mixed (kernels, not biases and
statistics), each with its own layer's initializer.

Source: Ash and Adams, On Warm-Starting Neural Network Training, NeurIPS 2020
(arXiv:1910.08475).
"""

from dataclasses import dataclass

import keras

from training.errors import TrainingError


@dataclass(frozen=True)
class Refresh:
    """What `refresh` will do; made like a plan of `keras_megan.net2net`.

    Attributes:
        model: The network.
        keep: Share of its weights.
    """

    model: keras.Model
    keep: float

    def apply(self, noise: float = 0.0, seed: int = 0) -> keras.Model:
        """Mixes the weights in place.

        Args:
            noise: Ignored; plans of growth have one.
            seed: Of the fresh weights.

        Returns:
            The same network.
        """
        for number, (variable, initializer) in enumerate(_random_weights(self.model)):
            config = {**initializer.get_config(), "seed": seed + number}
            fresh = type(initializer).from_config(config)(variable.shape)
            variable.assign(self.keep * variable + (1.0 - self.keep) * fresh)
        return self.model


def refresh(model: keras.Model, keep: float) -> Refresh:
    """Plans to mix a network's weights with fresh ones.

    Args:
        model: The network.
        keep: Share of its weights, from 0 (all fresh) to 1 (as they are).

    Raises:
        ValueError: If the share is no share.
        TrainingError: If the network has no randomly initialised weights.
    """
    if not 0.0 <= keep <= 1.0:
        raise ValueError(f"keep must be from 0 to 1; received {keep}.")
    if not _random_weights(model):
        raise TrainingError(
            "The network has no randomly initialised weights to refresh."
        )
    return Refresh(model, keep)


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

    Most are called alike; recurrent and separable layers have a ``recurrent_kernel``
    and so on; a depthwise convolution has one ``kernel``.
    """
    names = [name, f"{name}_kernel"] + (["kernel"] if name == "depthwise" else [])
    weights = (getattr(layer, candidate, None) for candidate in names)
    return next((w for w in weights if isinstance(w, keras.Variable)), None)
