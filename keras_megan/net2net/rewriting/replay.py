"""One call in the new model, as rules see it that make it themselves; and no change."""

import keras
import numpy as np

from keras_megan.net2net.channels.maps import Maps


class Replay:
    """One call, about to be made again in the new model.

    Attributes:
        operation: The new operation, with its settings at their new values.
        args, kwargs: The arguments, with the new symbolic tensors in place.
        call: The original `keras_megan.net2net.tracing.graph.Call`.
    """

    def __init__(self, rewriter, call, args, kwargs):
        self._rewriter = rewriter
        self.call = call
        self.args = args
        self.kwargs = kwargs

    @property
    def operation(self):
        return self._rewriter.operation_for(self.call)

    @property
    def inputs(self):
        """The new symbolic tensors among the arguments, in flat order."""
        leaves = keras.tree.flatten((self.args, self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, keras.KerasTensor)]

    def index_map(self, layout):
        """Returns the `IndexMap` of an axis of the original call."""
        return self._rewriter.plan.index_map(layout)

    def size(self, layout):
        """Returns the new size of an axis."""
        return self._rewriter.plan.size(layout)

    def is_changed(self, layout):
        """Returns whether an axis changes."""
        return self._rewriter.plan.is_changed(layout)

    def run(self, *args, **kwargs):
        """Makes the call with other arguments."""
        return self.operation(*args, **kwargs)

    def run_unchanged(self):
        """Makes the call with the arguments as they are."""
        return self.operation(*self.args, **self.kwargs)

    def with_config(self, **changes):
        """Returns a raw operation with other constructor arguments."""
        return self._rewriter.raw_operation(self.call, changes)

    def substitute(self, layer, pairs, extras=()):
        """Puts a new layer in this call's place.

        Args:
            layer: The new layer, not built yet.
            pairs: Function from the built layer to (old, new) variables.
            extras: Function from the built layer to (new variable, value) pairs.

        Returns:
            The outputs.
        """
        return self._rewriter.substitute(self, layer, pairs, extras)

    def multiply(self, tensor, axis, values):
        """Returns a tensor whose `axis` is multiplied by constant values."""
        return keras.ops.multiply(tensor, self.constant(tensor, axis, values))

    def add(self, tensor, axis, values):
        """Returns a tensor whose `axis` has constant values added."""
        return keras.ops.add(tensor, self.constant(tensor, axis, values))

    def constant(self, tensor, axis, values):
        """Returns constant values along `axis`, broadcastable to `tensor`."""
        shape = [1] * len(tensor.shape)
        shape[axis] = len(values)
        return self._rewriter.constant(
            np.reshape(values, shape), tensor, f"{self.call.name}_balance"
        )


class NoChange(Maps):
    """A plan under which everything stays."""

    insertions = ()

    def __init__(self, graph):
        super().__init__()
        self.graph = graph

    @property
    def model(self):
        return self.graph.model

    def width(self, layer):
        """Returns the width of a layer, by its name."""
        return self.size(self.graph.width(layer))

    def new_value(self, variable):
        """Returns the value of a variable, which stays."""
        return keras.ops.convert_to_numpy(variable.value)
