"""How variables and settings of one operation follow layouts: what rules write down.

An axis of a variable either *writes* the units of a layout (a copied unit is a plain
copy) or *reads* them (a copy is multiplied by its share).
"""

import dataclasses
from typing import Any

from keras_megan.net2net.channels.layout import Layout


@dataclasses.dataclass(frozen=True, eq=False)
class AxisRole:
    """How one axis of a variable follows a layout.

    Attributes:
        layout: The `Layout` it follows.
        reads: True if the axis reads (copies times shares), False if it writes
        (copies).
    """

    layout: Layout
    reads: bool

    @property
    def name(self):
        return "reads" if self.reads else "writes"


def writes(layout: Layout) -> AxisRole:
    """The variable's axis produces these units: copies are plain copies."""
    return AxisRole(layout, reads=False)


def reads(layout: Layout) -> AxisRole:
    """The variable's axis consumes these units: copies are weighed by their shares."""
    return AxisRole(layout, reads=True)


@dataclasses.dataclass(eq=False)
class Weight:
    """How one variable follows a plan.

    Attributes:
        variable: The `keras.Variable` of the original model.
        roles: Dict from a non-negative axis to its `AxisRole`.
        scale: None, or a function of ``index_map_of`` giving a factor.
        add: None, or a function of ``index_map_of`` giving a summand.
        owner: Name of the call that said so, for messages.
    """

    variable: Any
    roles: dict
    scale: object = None
    add: object = None
    owner: str = ""


@dataclasses.dataclass(eq=False)
class Follow:
    """Everything the rules said about one operation, over all its calls.

    Attributes:
        operation: The layer or raw operation.
        name: Path of its first call.
        weights: Dict from the id of a variable to its `Weight`.
        settings: Dict from a path in the configuration to its value.
        widths: Dict from a name to a `Layout`: what users call the operation's widths;
            the first is what they mean by the operation's name alone.
    """

    operation: object
    name: str
    weights: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    widths: dict = dataclasses.field(default_factory=dict)
