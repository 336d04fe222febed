"""Networks on disk, and in the precision they compute in.

Kept networks are ``.keras`` files in float32, written aside and renamed. Mixed
precision is a matter of training alone: the same weights in a network whose layers
compute in float16.
"""

from pathlib import Path

import keras

# Registers the classes that saved networks consist of.
import keras_megan.megan  # noqa: F401
from keras_megan.files import appearing
from training.errors import TrainingError, saving


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a network aside, then renames it: readers never find half a file.

    Raises:
        TrainingError: If it cannot be written.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as aside:
            model.save(aside)


def load_model(path: Path) -> keras.Model:
    """Loads a kept network; runs no code that came with it.

    Raises:
        TrainingError: If it is missing or damaged.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TrainingError(
            f"Cannot load the network '{path}': {' '.join(str(error).split())[:200]}"
        ) from error


def in_precision(model: keras.Model, policy: str) -> keras.Model:
    """A network of its own with the same weights, computing under a dtype policy.

    Args:
        model: Its class must take ``dtype`` among the arguments that its config holds.
        policy: "float32" or "mixed_float16".

    Raises:
        TrainingError: If the class does not say in what dtype it computes.
    """
    config = model.get_config()
    if "dtype" not in config or "layers" in config:
        raise TrainingError(
            f"mixed_precision needs a network class that takes dtype, such as MEGAN; "
            f"received a {type(model).__name__}. Train it in float32."
        )
    twin = type(model).from_config({**config, "dtype": policy})
    for target, source in zip(twin.variables, model.variables, strict=True):
        target.assign(source.numpy())
    return twin
