"""The vocabulary of a model laid out flat: tensors, calls, sources.

A `Graph` is a list of `Call` in order of execution. Each is one call of one *primitive*
operation, a layer or a raw ``keras.ops`` operation, with its arguments; the symbolic
tensors among them are `Tensor`. Variables and arrays used directly by raw operations
(``x * self.gamma``) are calls of a `Source`, so that whatever holds for tensors holds
for them as well. `keras_megan.net2net.tracing.graph` makes one of a model.
"""

import dataclasses

import keras

from keras_megan.net2net.errors import Net2NetError


class TraceError(Net2NetError):
    """A model, or a layer inside it, cannot be laid out as a graph."""


@dataclasses.dataclass(eq=False)
class Tensor:
    """A symbolic tensor: an edge of the graph.

    Attributes:
        shape: Tuple of sizes, None where unknown.
        dtype: Name of its data type.
        mask: None, or the shape of the Keras mask that it carries.
    """

    shape: tuple
    dtype: str
    mask: tuple | None = None


@dataclasses.dataclass(eq=False)
class Source:
    """A variable or a constant array that a raw operation uses directly.

    Attributes:
        variable: The `keras.Variable`, or None for a constant.
        value: The constant as a numpy array, or None for a variable.
        owner: The layer that owns the variable, or None.
        varies: Whether the constant is another one every time the model is traced: it
            is random, or depends on a size that the model leaves open.
    """

    variable: object = None
    value: object = None
    owner: object = None
    name: str = "constant"
    varies: bool = False


@dataclasses.dataclass(eq=False)
class Call:
    """One call of one primitive operation: a node of the graph.

    Attributes:
        name: Path of the operation in the model, such as ``"block1/conv"``; unique in
            the graph (a later call of a shared layer has ``":1"`` behind it).
        operation: The `keras.Operation`, or a `Source`.
        args: Positional arguments; `Tensor` where the model passes a tensor.
        kwargs: Keyword arguments, likewise.
        outputs: List of `Tensor`, the outputs in flat order.
        kept: None, or the reason why the layer is kept whole, as it is.
        structure: What the call returns, of `Tensor` and None; only for layers.
        varying: Names of the settings and arguments that depend on open sizes.
    """

    name: str
    operation: object
    args: tuple
    kwargs: dict
    outputs: list
    kept: str | None = None
    structure: object = None
    varying: tuple = ()

    @property
    def inputs(self):
        """The tensors among the arguments, in flat order."""
        return tensors_in((self.args, self.kwargs))


@dataclasses.dataclass(eq=False)
class Region:
    """One call of a composite layer: the calls that it was laid out as.

    Attributes:
        layer: The composite layer.
        path: Path of the layer in the model.
        args, kwargs: Its arguments, with `Tensor` in place of tensors.
        structure: What it returns, of `Tensor` and None.
        start, stop: Its calls are ``graph.calls[start:stop]``.
        whole: None, or the reason why it can only be rebuilt as the layer it is,
            never as the operations it consists of.
        shadow: Calls that it makes in training mode, where these differ.
        shadow_outputs: The tensors it returns in training mode, in flat order.
    """

    layer: object
    path: str
    args: tuple
    kwargs: dict
    structure: object = None
    start: int = 0
    stop: int = 0
    whole: str | None = None
    shadow: list = dataclasses.field(default_factory=list)
    shadow_outputs: list = dataclasses.field(default_factory=list)

    @property
    def inputs(self):
        """The tensors among the arguments, in flat order."""
        return tensors_in((self.args, self.kwargs))

    @property
    def outputs(self):
        """The tensors among what is returned, in flat order."""
        return tensors_in(self.structure)


@dataclasses.dataclass(eq=False)
class Graph:
    """A model laid out flat.

    Attributes:
        model: The model it was traced from.
        calls: List of `Call` in order of execution.
        inputs: Structure (as the model takes it) of `Tensor`.
        outputs: Structure (as the model returns it) of `Tensor`.
        input_names: One name per input, in flat order.
        regions: List of `Region`, outer ones before those inside them.
        shapes: One shape per input, in flat order, with which the model can be run.
    """

    model: object
    calls: list
    inputs: object
    outputs: object
    input_names: list
    regions: list = dataclasses.field(default_factory=list)
    shapes: list = dataclasses.field(default_factory=list)


def tensors_in(structure):
    """Returns the `Tensor` leaves of a structure, in flat order."""
    return [x for x in keras.tree.flatten(structure) if isinstance(x, Tensor)]


def registration_hint(operation):
    """The three lines that make an unknown operation known, for error messages."""
    if isinstance(operation, keras.Layer):
        key = type(operation).__name__
    else:
        key = f'"ops.{type(operation).__name__}"'
    return (
        "If it treats every channel alike and by itself, say so:\n"
        f"    @net2net.register_rule({key})\n"
        "    def per_channel(site):\n"
        "        return site.inputs[0]\n"
        "For anything else see 'How to register a rule' in "
        "keras_megan.net2net.rules.base."
    )
