"""Divides convolutions by the output channels a processor computes at a time.

XNNPACK, which runs TFLite files on CPUs, computes 32 output channels of a float32
convolution at a time where vectors are 512 bits wide (AVX-512), and fills up with
nothing: 48 channels cost what 64 cost. For up to 16 channels it has a narrower kernel.
So here

    CONV_2D, 48 channels   ->   CONV_2D, 32 channels   ->   CONCATENATION
                                CONV_2D, 16 channels

which computes the same numbers from the same weights. Joining the parts moves memory,
so only convolutions are divided whose outputs take enough arithmetic to pay for it.
Weights in 8 bits and sparse ones are left alone: other kernels compute them.
"""

import numpy as np

from export.graph_edit import FLOATS, Code, GraphEdit, editable, packed
from export.settings import AVX512_LANES

#: Products per output number below which joining costs more than dividing saves.
LEAST_PRODUCTS = 256


def divide(flatbuffer: bytes, lanes: int = AVX512_LANES) -> bytes:
    """The same network with convolutions whose channels fill the lanes.

    Args:
        flatbuffer: A TFLite model.
        lanes: Output channels computed at a time. A convolution of more channels is
            divided where at most half of the lanes are left over. 0: none is.

    Returns:
        The flatbuffer; the very same if there is nothing to divide.
    """
    if not lanes:
        return flatbuffer
    model = editable(flatbuffer)
    divided = sum(_Divider(model, graph, lanes).run() for graph in model.subgraphs)
    if not divided:
        return flatbuffer
    _drop_unused_weights(model)
    return packed(model)


class _Divider(GraphEdit):
    """Works on one graph of a model, in place.

    Args:
        model, graph: As the schema's objects.
        lanes: As for `divide`.
    """

    def __init__(self, model, graph, lanes: int):
        super().__init__(model, graph)
        self.lanes = lanes
        self.operators = []
        # Tensor and cut -> its parts: layers may share weights.
        self.parts: dict[tuple[int, int], tuple[int, int]] = {}

    def run(self) -> int:
        """Divides what is worth it; how many convolutions that was."""
        divided = 0
        for operation in self.graph.operators:
            cut = self._cut(operation)
            if cut:
                self._divide(operation, cut)
                divided += 1
            else:
                self.operators.append(operation)
        self.graph.operators = self.operators
        return divided

    def _cut(self, operation) -> int:
        """Where to divide an operation's channels; 0: not at all."""
        if self.code(operation) != Code.CONV_2D or len(operation.inputs) != 3:
            return 0
        image, filters, bias = (int(index) for index in operation.inputs)
        weights = (self.constant(filters), self.constant(bias))
        if not all(w and w.type in FLOATS and w.sparsity is None for w in weights):
            return 0
        channels, *taps, inputs = self.sizes(filters)
        products = inputs * np.prod(taps)
        if inputs != self.sizes(image)[-1] or products < LEAST_PRODUCTS:
            return 0
        left = channels % self.lanes
        return channels - left if 0 < left <= self.lanes // 2 < channels - left else 0

    def _divide(self, operation, cut: int) -> None:
        image, filters, bias = (int(index) for index in operation.inputs)
        (result,) = (int(index) for index in operation.outputs)
        weights = zip(
            self._cut_weights(filters, cut), self._cut_weights(bias, cut), strict=True
        )
        *outer, channels = self.sizes(result)
        parts = []
        for pair, size in zip(weights, (cut, channels - cut), strict=True):
            parts.append(self.new_tensor(result, (*outer, size)))
            self.operators.append(self.copy_of(operation, [image, *pair], parts[-1]))
        self.operators.append(
            self.new_operation(
                Code.CONCATENATION,
                "ConcatenationOptions",
                parts,
                result,
                axis=len(outer),
            )
        )

    def _cut_weights(self, index: int, cut: int) -> tuple[int, int]:
        """A weight's parts, along its first axis, as tensors of their own."""
        if (index, cut) in self.parts:
            return self.parts[index, cut]
        size, *inner = self.sizes(index)
        producer = self.producers.get(index)
        if producer is None:
            halves = self._cut_constant(index, cut)
        else:
            halves = []
            packed_halves = self._cut_weights(int(producer.inputs[0]), cut)
            for source, length in zip(packed_halves, (cut, size - cut), strict=True):
                halves.append(self.new_tensor(index, (length, *inner)))
                self.operators.append(self.copy_of(producer, [source], halves[-1]))
        self.parts[index, cut] = tuple(halves)
        return self.parts[index, cut]

    def _cut_constant(self, index: int, cut: int) -> list[int]:
        tensor = self.graph.tensors[index]
        values = np.frombuffer(self.contents(index), FLOATS[tensor.type])
        values = values.reshape(tensor.shape)
        halves = []
        for part in (values[:cut], values[cut:]):
            halves.append(self.new_tensor(index, part.shape))
            self.graph.tensors[halves[-1]].buffer = self.new_buffer(part)
        return halves


def _drop_unused_weights(model) -> None:
    """Forgets weights that nothing reads any more, and what they held.

    Whole ones whose parts are used now; unpackings of float16 ones go with them.
    """
    for graph in model.subgraphs:
        edit = GraphEdit(model, graph)
        needed = edit.readers.keys() | {int(index) for index in graph.outputs}
        graph.operators = [
            operation
            for operation in graph.operators
            if edit.code(operation) != Code.DEQUANTIZE
            or int(operation.outputs[0]) in needed
        ]
        read = {int(i) for op in graph.operators for i in op.inputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in read:
                tensor.buffer = 0  # the schema's empty one
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or ()}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
