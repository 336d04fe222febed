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

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from export.flatbuffer import builtin_number
from export.settings import AVX512_LANES

#: Products per output number below which joining costs more than dividing saves.
LEAST_PRODUCTS = 256
_FLOATS = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
}
_Code = schema.BuiltinOperator


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
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    divided = sum(_Divider(model, graph, lanes).run() for graph in model.subgraphs)
    if not divided:
        return flatbuffer
    _drop_unused_weights(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


class _Divider:
    """Works on one graph of a model, in place.

    Args:
        model, graph: As the schema's objects.
        lanes: As for `divide`.
    """

    def __init__(self, model, graph, lanes: int):
        self.model, self.graph, self.lanes = model, graph, lanes
        self.producers = {
            int(index): operation
            for operation in graph.operators
            for index in operation.outputs
        }
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
        if self._code_of(operation) != _Code.CONV_2D or len(operation.inputs) != 3:
            return 0
        image, filters, bias = (self.graph.tensors[i] for i in operation.inputs)
        weights = [self._constant(int(i)) for i in operation.inputs[1:]]
        if not all(w is not None and w.type in _FLOATS for w in weights):
            return 0
        channels, *taps, inputs = (int(size) for size in filters.shape)
        if inputs != image.shape[-1] or inputs * np.prod(taps) < LEAST_PRODUCTS:
            return 0
        left = channels % self.lanes
        return channels - left if 0 < left <= self.lanes // 2 < channels - left else 0

    def _divide(self, operation, cut: int) -> None:
        image, filters, bias = (int(index) for index in operation.inputs)
        (result,) = (int(index) for index in operation.outputs)
        weights = zip(
            self._cut_weights(filters, cut), self._cut_weights(bias, cut), strict=True
        )
        channels = self.graph.tensors[result].shape[-1]
        joined = []
        for pair, size in zip(weights, (cut, int(channels) - cut), strict=True):
            part = copy.copy(operation)
            part.inputs = np.asarray([image, *pair], np.int32)
            joined.append(self._new_tensor(result, -1, size))
            part.outputs = np.asarray([joined[-1]], np.int32)
            self.operators.append(part)
        self.operators.append(self._joining(joined, result))

    def _constant(self, index: int):
        """The tensor that holds a weight's numbers, or None if they are computed."""
        producer = self.producers.get(index)
        if producer is not None and self._code_of(producer) == _Code.DEQUANTIZE:
            index = int(producer.inputs[0])  # float16, unpacked by the runtime
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        known = index not in self.producers and data is not None and len(data)
        return tensor if known and tensor.sparsity is None else None

    def _cut_weights(self, index: int, cut: int) -> tuple[int, int]:
        """A weight's parts, along its first axis, as tensors of their own."""
        if (index, cut) in self.parts:
            return self.parts[index, cut]
        size = int(self.graph.tensors[index].shape[0])
        producer = self.producers.get(index)
        if producer is None:
            halves = self._cut_constant(index, cut, size)
        else:
            halves = []
            packed = self._cut_weights(int(producer.inputs[0]), cut)
            for source, length in zip(packed, (cut, size - cut), strict=True):
                unpack = copy.copy(producer)
                unpack.inputs = np.asarray([source], np.int32)
                halves.append(self._new_tensor(index, 0, length))
                unpack.outputs = np.asarray([halves[-1]], np.int32)
                self.operators.append(unpack)
        self.parts[index, cut] = tuple(halves)
        return self.parts[index, cut]

    def _cut_constant(self, index: int, cut: int, size: int) -> list[int]:
        tensor = self.graph.tensors[index]
        data = bytes(self.model.buffers[tensor.buffer].data)
        values = np.frombuffer(data, _FLOATS[tensor.type]).reshape(tensor.shape)
        halves = []
        for part in (values[:cut], values[cut:]):
            halves.append(self._new_tensor(index, 0, len(part)))
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(part.tobytes(), np.uint8)
            self.graph.tensors[halves[-1]].buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        return halves

    def _new_tensor(self, like: int, axis: int, size: int) -> int:
        """A tensor of another size along one axis; its number."""
        tensor = copy.copy(self.graph.tensors[like])
        tensor.shape = np.array(tensor.shape, np.int32)
        tensor.shape[axis] = size
        if tensor.shapeSignature is not None:
            tensor.shapeSignature = np.array(tensor.shapeSignature, np.int32)
            tensor.shapeSignature[axis] = size
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _joining(self, parts: list[int], result: int):
        operation = schema.OperatorT()
        operation.opcodeIndex = self._code_index(_Code.CONCATENATION)
        operation.inputs = np.asarray(parts, np.int32)
        operation.outputs = np.asarray([result], np.int32)
        operation.builtinOptionsType = schema.BuiltinOptions.ConcatenationOptions
        operation.builtinOptions = schema.ConcatenationOptionsT()
        operation.builtinOptions.axis = len(self.graph.tensors[result].shape) - 1
        return operation

    def _code_of(self, operation) -> int:
        code = self.model.operatorCodes[operation.opcodeIndex]
        return builtin_number(code)

    def _code_index(self, wanted: int) -> int:
        codes = self.model.operatorCodes
        for index, code in enumerate(codes):
            if builtin_number(code) == wanted:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = wanted
        code.version = 1
        codes.append(code)
        return len(codes) - 1


def _drop_unused_weights(model) -> None:
    """Forgets tensors that nothing reads any more, and what they held.

    Whole weights whose parts are used now; unpackings of float16 ones go with them.
    """
    for graph in model.subgraphs:
        read = {int(i) for op in graph.operators for i in op.inputs}
        read |= {int(i) for i in graph.outputs}
        graph.operators = [
            operation
            for operation in graph.operators
            if read & {int(i) for i in operation.outputs}
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
