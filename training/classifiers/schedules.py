"""Schedules of cumulative training for VGG: network, share of data, epochs.

A schedule is a list of phases; E is the number of epochs of training from scratch.

    Phase("half", fraction=0.25, epochs=0.40, width=0.5)
        = 0.40 E epochs over a quarter of the data, with half of the filters

Its cost relative to from-scratch training follows from the arithmetic alone:

    sum over phases of epochs * fraction * MACs(network) / MACs(whole network)

with a third of a teacher's multiply-adds added to a network's: it has no backward pass.

The published result is about half the cost at equal accuracy; which phases gave it is
not published. `BROAD` grows the network only, `SLIM` also prunes it and lets the whole
network teach the pruned one; both learn from all data and refresh the weights when they
grow.

A negative result: `HALF_COST`, the family nearest to the published description, with a
cost of 0.498 for VGG19 at 64x64, ended 7 points below training from scratch on
CIFAR-10. `lean`, which also prunes on the way by the density of activations, deepens
where the early networks are shallow, and has 0.4 of the whole network's inference cost,
ended 9 points below. Both train long on small subsets, which the network learns by
heart. No recipe uses them but ``vgg.py:ci``, which tries the machinery.

Sources: Feng and Panda, arXiv:2003.01204 (smaller networks on subsets first, pruning
while expanding); Foldy-Porto and Panda, arXiv:2002.02949 (activation density); Ash and
Adams, arXiv:1910.08475 (warm starts generalise worse; refreshing).
"""

import dataclasses
import math

import keras

from keras_megan.classifiers.vgg import VGG_BLOCKS, vgg_bn, vgg_widths
from keras_megan.net2net import ActivationDensity, count_macs
from training.errors import TrainingError
from training.stages.changes import Change, deepen, prune, refresh, widen
from training.stages.compute import PASSES
from training.stages.recipe import Stage
from training.stages.teaching import Teaching


@dataclasses.dataclass(frozen=True)
class Phase:
    """One stretch of a schedule.

    Attributes:
        name: Name of the stage.
        fraction: Share of the data.
        epochs: Share of E, over that part of the data.
        width: Filters as a share of the whole network's; None where the phase prunes.
        depth: Depth of the VGG; None: the whole network's.
        prune: Multiply-adds as a share of the whole network's, to which the network is
            pruned before it grows again; the units that are active least often go.
        growth: Factor by which a pruned network is widened.
        round_to: Channels of pruned layers are multiples of this.
        keep: Share of the weights that is kept as the phase begins; the rest is fresh.
            See `training.stages.refresh`.
        taught_by: Names of earlier phases whose networks teach; see
            `training.stages.teaching`.
        learning_rate: Learning rate at the peak, as a share of the schedule's.
        final_learning_rate: Learning rate at the end, as a share of the peak.
    """

    name: str
    fraction: float
    epochs: float
    width: float | None = None
    depth: int | None = None
    prune: float | None = None
    growth: float = 1.0
    round_to: int = 1
    keep: float = 1.0
    taught_by: tuple[str, ...] = ()
    learning_rate: float = 1.0
    final_learning_rate: float = 0.2

    def __post_init__(self):
        if (self.width is None) == (self.prune is None):
            raise TrainingError(
                f"Phase '{self.name}' expects either width or prune; received "
                f"{self.width} and {self.prune}."
            )


#: The family whose cost is 0.498 by construction.
HALF_COST = (
    Phase("half", 0.25, 0.40, 0.5),
    Phase("wider", 0.5, 0.40, 0.75),
    Phase("whole", 1.0, 0.36, 1.0, final_learning_rate=0.005),
)

#: The same cost, all of it on all data, with weights refreshed when the network grows:
#: what has learned by heart in a smaller network generalises worse ever after.
BROAD = (
    Phase("half", 1.0, 0.10, 0.5, final_learning_rate=0.7),
    Phase("whole", 1.0, 0.47, 1.0, keep=0.4, final_learning_rate=0.005),
)

#: The same cost, and pruned to 0.57 at the end; the whole network teaches what is left.
SLIM = (
    Phase("half", 1.0, 0.10, 0.5, final_learning_rate=0.7),
    Phase("whole", 1.0, 0.28, 1.0, keep=0.4, final_learning_rate=0.005),
    Phase(
        "slim",
        1.0,
        0.20,
        prune=0.57,
        round_to=4,
        taught_by=("whole",),
        final_learning_rate=0.005,
    ),
)


def lean(shallow: int, deep: int) -> tuple[Phase, ...]:
    """Phases that prune while they grow; at most 0.4 of training and inference.

    Args:
        shallow: Depth of the first network.
        deep: Depth of the later ones.
    """
    return (
        Phase("half", 0.25, 0.40, 0.5, shallow),
        Phase("wider", 0.5, 0.34, 0.75, deep),
        Phase(
            "lean",
            1.0,
            0.66,
            depth=deep,
            # Four of five units stay: what more pruning breaks, the stage must mend.
            prune=0.36,
            growth=math.sqrt(0.4 / 0.36),
            final_learning_rate=0.005,
        ),
    )


@dataclasses.dataclass(frozen=True)
class VggSchedule:
    """Phases on one network and one data set.

    Attributes:
        phases: In order; the first one has a width.
        depth, width: Depth and width of the whole network.
        side: Side of the images in pixels.
        classes: Number of classes.
        samples: Training images.
        epochs: E.
        batch_size: Images of one step.
        learning_rate: Learning rate at the peak.
    """

    phases: tuple[Phase, ...]
    depth: int
    width: float
    side: int
    classes: int
    samples: int
    epochs: float
    batch_size: int
    learning_rate: float = 1e-3

    def with_phases(self, phases: tuple[Phase, ...]) -> "VggSchedule":
        """The same network and data on another schedule."""
        return dataclasses.replace(self, phases=phases)

    def network(self, share: float = 1.0, depth: int | None = None) -> keras.Model:
        """A fresh network with a share of the whole one's filters."""
        return vgg_bn(
            depth or self.depth,
            self.width * share,
            (self.side, self.side, 3),
            self.classes,
        )

    def whole(self) -> keras.Model:
        """The network that training from scratch begins with."""
        return self.network()

    def first(self) -> keras.Model:
        """The network that the first phase begins with."""
        return self.network(self.phases[0].width, self.phases[0].depth)

    def stages(self) -> tuple[Stage, ...]:
        """The phases as stages of a recipe."""
        return tuple(
            Stage(
                phase.name,
                self.steps(phase.epochs * phase.fraction),
                self.learning_rate * phase.learning_rate,
                fraction=phase.fraction,
                changes=self._changes(number),
                carry_optimizer=number > 0 and phase.keep == 1.0,
                final_learning_rate=phase.final_learning_rate,
                teaching=Teaching(phase.taught_by) if phase.taught_by else None,
            )
            for number, phase in enumerate(self.phases)
        )

    def scratch_stages(self, epochs: float = 1.0) -> tuple[Stage, ...]:
        """All data and the whole network from the first step on.

        Args:
            epochs: Share of E.
        """
        last = self.phases[-1]
        return (
            Stage(
                "scratch",
                self.steps(epochs),
                self.learning_rate * last.learning_rate,
                final_learning_rate=last.final_learning_rate,
            ),
        )

    def steps(self, share: float) -> int:
        """Steps of a share of E epochs over all data."""
        return max(1, round(share * self.epochs * self.samples / self.batch_size))

    def phase_macs(self) -> list[float]:
        """Forward multiply-adds of each phase's network, per image.

        For a pruned and widened network this is the budget times the square of the
        growth; what the network really has is lower, up to the rounding of widths.
        """
        whole = count_macs(self.whole())
        return [
            float(count_macs(self.network(phase.width, phase.depth)))
            if phase.width is not None
            else phase.prune * phase.growth**2 * whole
            for phase in self.phases
        ]

    def relative_cost(self) -> float:
        """Multiply-adds of all training, relative to training from scratch."""
        whole = count_macs(self.whole())
        names = [phase.name for phase in self.phases]
        shares = dict(zip(names, (m / whole for m in self.phase_macs()), strict=True))
        return relative_cost(
            [phase.epochs for phase in self.phases],
            [phase.fraction for phase in self.phases],
            [
                shares[phase.name] + sum(shares[t] for t in phase.taught_by) / PASSES
                for phase in self.phases
            ],
        )

    def _changes(self, number: int) -> tuple[Change, ...]:
        if number == 0:
            return ()
        phase, before = self.phases[number], self.phases[number - 1]
        depths = (before.depth or self.depth, phase.depth or self.depth)
        changes = []
        if phase.prune is not None:
            # The same ratio in every layer: in the last layers most units are seldom
            # active, and all of them together would give way first.
            budget = round(phase.prune * count_macs(self.whole()))
            changes.append(
                prune(
                    ActivationDensity,
                    macs=budget,
                    round_to=phase.round_to,
                    scope="local",
                )
            )
        changes += deepen_vgg(*depths)
        if phase.width is not None:
            changes.append(
                widen(widths=vgg_widths(depths[1], self.width * phase.width))
            )
        elif phase.growth > 1:
            changes.append(widen(factor=phase.growth))
        if phase.keep < 1.0:
            changes.append(refresh(phase.keep))
        return tuple(changes)


def relative_cost(epochs, fractions, macs) -> float:
    """Sum of epochs * fraction * macs, each relative to training from scratch.

    Args:
        epochs: Each phase's epochs over its part of the data, as shares of E.
        fractions: Each phase's share of the data.
        macs: Multiply-adds of each phase's network, a teacher's forward pass included,
            as shares of the whole network's.
    """
    return sum(e * f * m for e, f, m in zip(epochs, fractions, macs, strict=True))


def deepen_vgg(shallow: int, deep: int) -> list[Change]:
    """Returns the insertions that turn a VGG of one depth into one of another.

    Raises:
        TrainingError: If the second is shallower.
    """
    changes = []
    for block, (few, many) in enumerate(
        zip(VGG_BLOCKS[shallow], VGG_BLOCKS[deep], strict=True), start=1
    ):
        if many < few:
            raise TrainingError(
                f"A VGG of depth {shallow} cannot be deepened to {deep}."
            )
        after = f"block{block}_relu{few}"
        for number in range(few + 1, many + 1):
            name = f"block{block}_conv{number}"
            changes.append(deepen(after=after, name=name))
            after = name
    return changes
