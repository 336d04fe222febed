"""The vocabulary of a model laid out flat: tensors, calls, sources.

A `Graph` is a list of `Call` in order of execution. Each is one call of one *primitive*
operation, a layer or a raw ``keras.ops`` operation, with its arguments; the symbolic
tensors among them are `Tensor`. Variables and arrays used directly by raw operations
(``x * self.gamma``) are calls of a `Source`, so that whatever holds for tensors holds
for them as well. `keras_megan.net2net.tracing.graph` makes one of a model.
"""

import dataclasses

import keras


class TraceError(ValueError):
    """A model, or a layer inside it, cannot be laid out as a graph."""


@dataclasses.dataclass(eq=False)
class Tensor:
    """A symbolic tensor: an edge of the graph.

    Attributes:
        shape: Tuple of sizes, None where unknown.
        dtype: Name of its data type.
    """

    shape: tuple
    dtype: str


@dataclasses.dataclass(eq=False)
class Source:
    """A variable or a constant array that a raw operation uses directly.

    Attributes:
        variable: The `keras.Variable`, or None for a constant.
        value: The constant as a numpy array, or None for a variable.
        owner: The layer that owns the variable, or None.
    """

    variable: object = None
    value: object = None
    owner: object = None
    name: str = "constant"


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
    """

    name: str
    operation: object
    args: tuple
    kwargs: dict
    outputs: list

    @property
    def inputs(self):
        """The tensors among the arguments, in flat order."""
        leaves = keras.tree.flatten((self.args, self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


@dataclasses.dataclass(eq=False)
class Graph:
    """A model laid out flat.

    Attributes:
        model: The model it was traced from.
        calls: List of `Call` in order of execution.
        inputs: Structure (as the model takes it) of `Tensor`.
        outputs: Structure (as the model returns it) of `Tensor`.
        input_names: One name per input, in flat order.
    """

    model: object
    calls: list
    inputs: object
    outputs: object
    input_names: list


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
