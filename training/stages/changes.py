"""What a stage does to the network before it trains: grow it exactly, or prune it.

    widen(widths={"conv3": 96})          deepen(after="block4")
    prune(macs=8e9, input_shape=(4, 64, 112, 3), round_to=8)

    refresh(keep=0.4)

Each gives a `Change`: the name of a policy and its arguments, so a recipe stays data.
The policy decides a plan when the stage begins. Growth keeps what the network computes
to the last digits, so a stage begins where the one before ended; `refresh` gives that
up for better generalisation.

Source: Chen et al., Net2Net, ICLR 2016 (arXiv:1511.05641).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_megan import net2net
from training.errors import TrainingError
from training.stages.refresh import refresh as plan_refresh

#: Name -> function (network, options) -> plan.
POLICIES: dict[str, Callable] = {
    "widen": net2net.widen,
    "deepen": net2net.deepen,
    "prune": net2net.prune,
    "refresh": plan_refresh,
}


@dataclass(frozen=True)
class Change:
    """One step of growing, pruning or refreshing.

    Attributes:
        policy: One of `POLICIES`.
        options: The policy's arguments, as in `keras_megan.net2net`.
        noise: On what copies of units receive, relative to the weights'; see
            `keras_megan.net2net.Plan.apply`.
        importance: For pruning: the name of an importance of `keras_megan.net2net`; or,
            by what units do on data, function (inputs) -> an importance, with inputs a
            float32 batch of the network's input. None: the policy's default.
    """

    policy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    importance: Callable[[Any], Any] | str | None = None
    noise: float = 0.0

    def plan(self, model: keras.Model, inputs: Callable[[], Any]):
        """Decides the plan.

        Args:
            model: The network as it is.
            inputs: Called if the importance looks at data.

        Raises:
            TrainingError: If the network cannot be changed like this.
        """
        options = dict(self.options)
        if callable(self.importance):
            options["importance"] = self.importance(inputs())
        elif self.importance is not None:
            options["importance"] = self.importance
        try:
            return POLICIES[self.policy](model, **options)
        except (ValueError, TypeError, KeyError) as error:
            raise TrainingError(
                f"The network cannot be changed by '{self.describe()}': {error}"
            ) from error

    def describe(self) -> str:
        """In a few words, for logs and tables."""
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.policy} {options}"


def widen(noise: float = 1.0, **options) -> Change:
    """More channels; arguments as `keras_megan.net2net.widen`.

    Copies count nothing at first and are noisy, which keeps the function and makes them
    units of their own; equal copies would stay nearly equal under Adam.
    """
    return Change("widen", {"shares": "first", **options}, noise=noise)


def deepen(**options) -> Change:
    """One more layer; arguments as `keras_megan.net2net.deepen`."""
    return Change("deepen", options)


def prune(importance: Callable[[Any], Any] | str | None = None, **options) -> Change:
    """Fewer channels; other arguments as `keras_megan.net2net.prune`."""
    return Change("prune", options, importance)


def refresh(keep: float) -> Change:
    """Weights mixed with fresh ones; see `training.stages.refresh`."""
    return Change("refresh", {"keep": keep})
