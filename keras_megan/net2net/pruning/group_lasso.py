"""Group lasso: training that empties whole units, so that pruning them costs nothing.

The penalty is the sum over all units of the Euclidean norm of everything that writes
them (filters, biases, the scales and offsets of normalisations), times the root of the
number of these weights (Yuan & Lin, 2006; for the filters of a network Wen et al.,
arXiv:1608.03665; for coupled layers Fang et al., arXiv:2301.12900). A gradient would
make such norms small but never zero. So the penalty is left out of the loss, and after
every step its *proximal operator* is applied, which shortens each unit's weights by a
length, and sets to zero what is shorter. A unit that is zero gives zero, and leaving it
out is exact.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_megan.net2net.channels.channel_graph import ChannelGraph
from keras_megan.net2net.errors import Net2NetError
from keras_megan.net2net.pruning.selecting import groups_of


class GroupLasso(keras.callbacks.Callback):
    """Shrinks units towards zero while a model trains, on every backend.

        model.fit(x, y, callbacks=[net2net.GroupLasso(1e-3)])
        small = net2net.prune(model, ratio=0.5).apply()

    Args:
        strength: Weight of the penalty. Per step a unit's weights get shorter by
            learning rate * strength * root of their number.
        keep: Layers that are left alone; as in `keras_megan.net2net.prune`.

    Attributes:
        silent: Number of units that were zero after the last epoch.
    """

    def __init__(self, strength: float = 1e-3, keep: Any = ()):
        super().__init__()
        if not strength > 0:
            raise Net2NetError(f"strength must be above zero, received {strength!r}.")
        self.strength = strength
        self.keep = keep
        self.silent = 0
        self._units: list = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        graph = ChannelGraph(self.model)
        spared = set(groups_of(graph, self.keep))
        self._units = [
            _Units(graph, group) for group in graph.groups if group not in spared
        ]

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        rate = ops.convert_to_numpy(self.model.optimizer.learning_rate)
        self.shrink(float(rate) * self.strength)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.silent = sum(int(np.sum(units.norms() == 0)) for units in self._units)

    def shrink(self, length: float) -> None:
        """Shortens the weights of every unit; see the class."""
        for units in self._units:
            units.shrink(length)


class _Units:
    """The weights that write the units of one group."""

    def __init__(self, graph, group):
        self.size = group.size
        self.parts = []
        for weight, axis, role in graph.members(group):
            if not role.reads and weight.variable.trainable:
                ids = _unit_of_position(role.layout, group)
                self.parts.append((weight.variable, axis, ids))
        self.root = np.sqrt(max(sum(self._weights_per_unit()), 1.0))

    def _weights_per_unit(self):
        for variable, axis, ids in self.parts:
            positions = float(np.sum(ids < self.size)) / self.size
            yield np.prod(variable.shape) / variable.shape[axis] * positions

    def _norms(self):
        total = ops.zeros((self.size + 1,), "float32")
        for variable, axis, ids in self.parts:
            value = ops.cast(ops.convert_to_tensor(variable), "float32")
            value = ops.moveaxis(value, axis, 0)
            squares = ops.sum(ops.square(ops.reshape(value, (len(ids), -1))), axis=1)
            total = total + ops.segment_sum(squares, ids, self.size + 1)
        return ops.sqrt(total)

    def norms(self):
        """Array (units,)."""
        return ops.convert_to_numpy(self._norms())[: self.size]

    def shrink(self, length):
        """The proximal operator of length * root * norm."""
        if not self.parts:
            return
        norms = self._norms()
        short = ops.maximum(norms - length * self.root, 0.0)
        factor = short / ops.maximum(norms, 1e-30)
        # The last place stands for the positions of other groups, which stay.
        factor = ops.concatenate([factor[: self.size], ops.ones((1,), "float32")])
        for variable, axis, ids in self.parts:
            shape = [1] * len(variable.shape)
            shape[axis] = len(ids)
            scale = ops.reshape(ops.take(factor, ids), shape)
            variable.assign(variable * ops.cast(scale, variable.dtype))


def _unit_of_position(layout, group):
    """The unit that each position of an axis belongs to; the group's size if none."""
    parts = [
        np.repeat(np.arange(part.size), inner)
        if part is group
        else np.full(part.size * inner, group.size)
        for part, inner in layout.segments
    ]
    return np.concatenate(parts).astype("int32")
