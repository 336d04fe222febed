"""Multiply-adds and parameters of any Keras model, of every operation by its own rule.

`count_macs(model, input_shape)` lays the model out as a flat graph of primitive calls
(see `keras_megan.net2net.tracing.graph`) with a batch of one, and adds up what each
call costs. What is counted, per sample, for one forward pass:

- convolutions (plain, grouped, transposed, depthwise, separable), dense layers, einsum
  and matmul: one multiply-add per product that the definition names. Padding is counted
  as computed; a transposed convolution counts each input position times its kernel;
- attention: the projections, and both products with the attention matrix;
- recurrent layers: kernel and recurrent kernel, once per step;
- everything else is 0: biases, normalisation, activations, poolings, element-wise
  arithmetic, resizing, data movement.

FLOPs in the literature are usually two per multiply-add. These are the conventions of
the usual counters (ptflops, fvcore, Torch-Pruning), so ResNet50 at 224x224 gives
3.86 GMAC for Keras's architecture.

A layer of one's own is counted with `register_macs`, which also makes it a primitive:

    @net2net.register_macs(MyAttention)
    def my_attention_macs(call):
        frames, channels = call.inputs[0][1:]
        return frames * frames * channels
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras

from keras_megan.net2net.channels.registry import OperationRegistry
from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.rules.base import RULES
from keras_megan.net2net.tracing import calls as calls_lib
from keras_megan.net2net.tracing.graph import trace
from keras_megan.net2net.tracing.inputs import known_shapes

_MACS = OperationRegistry("multiply-add count")


class UnknownCostError(Net2NetError):
    """A layer's multiply-adds cannot be counted because nobody said how."""


@dataclasses.dataclass(frozen=True)
class CallShapes:
    """What a counting function gets: one call, with all shapes known.

    Attributes:
        operation: The layer or raw operation.
        inputs: List of shapes, one per input tensor, batch axis included.
        outputs: List of shapes, likewise.
        resized: Dict from the id of a variable to its shape, for variables that a plan
            resizes.
        name: Path of the call in the model.
    """

    operation: object
    inputs: list
    outputs: list
    resized: dict = dataclasses.field(default_factory=dict)
    name: str = ""

    def weight(self, variable):
        """Returns the shape of one of the operation's variables."""
        return self.resized.get(id(variable), tuple(variable.shape))

    def part(self, operation, inputs, outputs):
        """Returns the same for a layer inside this one."""
        return CallShapes(operation, inputs, outputs, self.resized, self.name)


def register_macs(*operation_types) -> Callable[[Callable], Callable]:
    """Decorator: says how many multiply-adds an operation takes.

    The function gets a `CallShapes` and returns an integer.

    Args:
        *operation_types: `keras.Layer` classes, or ``"ops.<ClassName>"`` for raw
            `keras.ops` operations.
    """
    return _MACS.register(*operation_types)


def is_counted(layer):
    """Returns whether a layer is counted as a whole, without looking inside."""
    return layer in _MACS or layer in RULES


def macs_of_call(call):
    """Returns the multiply-adds of one call.

    Args:
        call: A `CallShapes`.

    Raises:
        UnknownCostError: If the layer has matrices but no registered count.
    """
    count = _MACS.find(call.operation)
    if count is not None:
        return int(count(call))
    if isinstance(call.operation, keras.Layer):
        matrices = [v.path for v in call.operation.weights if len(v.shape) > 1]
        if matrices:
            kind = type(call.operation).__name__
            raise UnknownCostError(
                f"Nobody said how many multiply-adds layer '{call.name}' ({kind}) "
                f"takes, and it has the weights {matrices}. Register it:\n"
                f"    @net2net.register_macs({kind})\n"
                f"    def {kind.lower()}_macs(call):\n"
                "        return ...  # from call.inputs, call.outputs, call.weight(v)"
            )
    return 0


def count_macs(model: Any, input_shape: Any = None) -> int:
    """Counts the multiply-adds of one forward pass of one sample.

    Args:
        model: A built Keras model or layer.
        input_shape: Shape of the input without the batch axis, or a list or dict of
            shapes for several inputs. It fills in sizes that the model leaves open
            (None), and may be left out if there are none.

    Returns:
        The number of multiply-adds, an integer. See the module docstring for what is
        counted.

    Raises:
        UnknownCostError: If a layer with matrices is not known.
        TraceError: If the model cannot be laid out, or `input_shape` does not fit it.
    """
    shapes = input_shape or known_shapes(model)
    graph = trace(model, is_counted, shapes, whole_sizes=True)
    return sum(macs_by_call(graph).values())


def macs_by_call(graph):
    """Returns a dict from the name of each call to its multiply-adds."""
    counts = {}
    for call in graph.calls:
        if isinstance(call.operation, calls_lib.Source):
            continue
        inputs = [tensor.shape for tensor in call.inputs]
        outputs = [tensor.shape for tensor in call.outputs]
        shapes = CallShapes(call.operation, inputs, outputs, name=call.name)
        try:
            counts[call.name] = macs_of_call(shapes)
        except TypeError as error:
            if all(None not in shape for shape in inputs + outputs):
                raise
            raise calls_lib.TraceError(
                f"The multiply-adds of '{call.name}' depend on a size that is not "
                f"known (inputs {inputs}, outputs {outputs}). Pass input_shape."
            ) from error
    return counts


def count_params(model: Any) -> int:
    """Counts the parameters of a model: all weights, the non-trainable ones included.

    Args:
        model: A built Keras model or layer.

    Returns:
        The number of parameters, an integer. A weight that is shared counts once.
    """
    if not getattr(model, "built", False):
        raise calls_lib.TraceError(f"Model '{model.name}' is not built.")
    unique = {id(weight): math.prod(weight.shape) for weight in model.weights}
    return sum(unique.values())
