"""What a stage does to the network before it trains: grow it exactly, or prune it.

    widen(widths={"conv3": 96})          deepen(after="block4")
    prune(macs=8e9, input_shape=(4, 64, 112, 3), round_to=8)

    refresh(keep=0.4)

Each gives a `Change`: the name of a policy and its arguments, so that a recipe stays
data. It is carried out as the stage begins. Growth keeps what the network computes to
the last digits, so a stage begins where the one before ended; `refresh` gives that up
for better generalisation.

Source: Chen et al., Net2Net, ICLR 2016 (arXiv:1511.05641).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras

from keras_megan import net2net
from training.errors import TrainingError
from training.stages.refresh import refresh as mix_with_fresh_weights


class Changed(NamedTuple):
    """What a change leaves behind.

    Attributes:
        model: The network.
        plan: The plan of `keras_megan.net2net` by which an optimizer's state can
            follow; None if there is none.
    """

    model: keras.Model
    plan: net2net.Plan | None


def _by_plan(policy: Callable[..., net2net.Plan]) -> Callable[..., Changed]:
    def change(model, noise, seed, **options) -> Changed:
        plan = policy(model, **options)
        return Changed(plan.apply(noise=noise, seed=seed), plan)

    return change


def _refreshed(model, noise, seed, keep) -> Changed:
    mix_with_fresh_weights(model, keep, seed)
    return Changed(model, None)


#: Name -> function (network, noise, seed, **options) -> `Changed`.
POLICIES: dict[str, Callable[..., Changed]] = {
    "widen": _by_plan(net2net.widen),
    "deepen": _by_plan(net2net.deepen),
    "prune": _by_plan(net2net.prune),
    "refresh": _refreshed,
}


@dataclass(frozen=True)
class Change:
    """One step of growing, pruning or refreshing.

    Attributes:
        policy: One of `POLICIES`.
        options: The policy's arguments, as in `keras_megan.net2net`.
        noise: Noise on what copies of units receive, relative to the weights'; see
            `keras_megan.net2net.Plan.apply`.
        importance: For pruning: the name of an importance of `keras_megan.net2net`; or,
            by what units do on data, function (inputs) -> an importance, with inputs a
            float32 batch of the network's input. None: the policy's default.
    """

    policy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    importance: Callable[[Any], Any] | str | None = None
    noise: float = 0.0

    def apply(
        self, model: keras.Model, inputs: Callable[[], Any], seed: int = 0
    ) -> Changed:
        """Carries the change out.

        Args:
            model: The network as it is. Growing and pruning leave it alone; refreshing
                changes it in place.
            inputs: Returns a batch of network inputs; called only if the importance
                looks at data.
            seed: Seed of noise and fresh weights.

        Raises:
            TrainingError: If the network cannot be changed like this.
        """
        options = dict(self.options)
        if callable(self.importance):
            options["importance"] = self.importance(inputs())
        elif self.importance is not None:
            options["importance"] = self.importance
        try:
            return POLICIES[self.policy](model, self.noise, seed, **options)
        except (TrainingError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(
                f"The network cannot be changed by '{self.describe()}': {error}"
            ) from error

    def describe(self) -> str:
        """Returns the change in a few words, for logs and tables."""
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.policy} {options}"


def widen(noise: float = 1.0, **options) -> Change:
    """More channels; arguments as for `keras_megan.net2net.widen`.

    Copies do not count at first and are noisy, which keeps the function and lets them
    become units of their own; equal copies would stay nearly equal under Adam.
    """
    return Change("widen", {"shares": "first", **options}, noise=noise)


def deepen(**options) -> Change:
    """One more layer; arguments as for `keras_megan.net2net.deepen`."""
    return Change("deepen", options)


def prune(importance: Callable[[Any], Any] | str | None = None, **options) -> Change:
    """Fewer channels; other arguments as `keras_megan.net2net.prune`."""
    return Change("prune", options, importance)


def refresh(keep: float) -> Change:
    """Weights mixed with fresh ones; see `training.stages.refresh`."""
    return Change("refresh", {"keep": keep})
