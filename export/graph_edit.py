"""Edits a TFLite file: what every rewriting of its operations needs.

    flatbuffer -> editable(flatbuffer) -> one GraphEdit for each graph, edited in place
               -> packed(model) -> flatbuffer

`export.flatbuffer` reads files for people to look at; this one changes them, on the
schema's own objects. Tensors are named by their number in the graph.
"""

import copy
from collections.abc import Iterable

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from export.flatbuffer import builtin_number

Code = schema.BuiltinOperator
#: Types of weights in floating point, as numpy names them.
FLOATS = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
}


def editable(flatbuffer: bytes):
    """The schema's objects of a file."""
    return flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))


def packed(model) -> bytes:
    """The file of the schema's objects."""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


class GraphEdit:
    """One graph of a model, with what is known of it before it changes.

    Args:
        model, graph: As the schema's objects.

    Attributes:
        producers: Number of a tensor -> the operation that computes it.
        readers: Number of a tensor -> the operations that read it.
    """

    def __init__(self, model, graph):
        self.model, self.graph = model, graph
        self.producers: dict[int, schema.OperatorT] = {}
        self.readers: dict[int, list[schema.OperatorT]] = {}
        for operation in graph.operators:
            for index in operation.outputs:
                self.producers[int(index)] = operation
            for index in operation.inputs:
                self.readers.setdefault(int(index), []).append(operation)
        self._integers: dict[tuple[int, ...], int] = {}

    def code(self, operation) -> int:
        """An operation's number, as `Code` names them."""
        return builtin_number(self.model.operatorCodes[operation.opcodeIndex])

    def has_fixed_sizes(self) -> bool:
        """Whether all sizes are known."""
        signatures = (tensor.shapeSignature for tensor in self.graph.tensors)
        return not any(-1 in sizes for sizes in signatures if sizes is not None)

    def sizes(self, index: int) -> tuple[int, ...]:
        """A tensor's shape."""
        shape = self.graph.tensors[index].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def contents(self, index: int) -> bytes | None:
        """What a constant holds; None of what is computed."""
        return bytes(self._data(index)) if self._is_known(index) else None

    def integers(self, index: int) -> tuple[int, ...] | None:
        """The values of a constant of int32; None of what is computed."""
        data = self.contents(index)
        return None if data is None else tuple(np.frombuffer(data, np.int32).tolist())

    def constant(self, index: int):
        """The tensor that holds a weight's numbers, or None if they are computed.

        Weights in float16 are unpacked by an operation of their own.
        """
        producer = self.producers.get(index)
        if producer is not None and self.code(producer) == Code.DEQUANTIZE:
            index = int(producer.inputs[0])
        known = index not in self.producers and self._is_known(index)
        return self.graph.tensors[index] if known else None

    def _data(self, index: int):
        return self.model.buffers[self.graph.tensors[index].buffer].data

    def _is_known(self, index: int) -> bool:
        data = self._data(index)
        return data is not None and len(data) > 0

    def new_tensor(self, like: int, sizes: Iterable[int]) -> int:
        """A tensor of another shape, to be computed; its number."""
        tensor = copy.copy(self.graph.tensors[like])
        tensor.shape = np.array(tuple(sizes), np.int32)
        if tensor.shapeSignature is not None:
            tensor.shapeSignature = np.array(tensor.shape, np.int32)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def new_integers(self, values: Iterable[int]) -> int:
        """A constant of int32, one for all equal ones; its number."""
        values = tuple(values)
        if values not in self._integers:
            tensor = schema.TensorT()
            tensor.shape = np.array([len(values)], np.int32)
            tensor.type = schema.TensorType.INT32
            tensor.buffer = self.new_buffer(np.array(values, np.int32))
            self.graph.tensors.append(tensor)
            self._integers[values] = len(self.graph.tensors) - 1
        return self._integers[values]

    def new_buffer(self, values: np.ndarray) -> int:
        """A place for a constant's numbers; its number in the model."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def new_operation(self, code: int, options: str, inputs, output: int, **values):
        """An operation with one output.

        Args:
            code: Of `Code`.
            options: The schema's name of its options.
            inputs, output: Numbers of tensors.
            **values: Of the options.
        """
        operation = schema.OperatorT()
        operation.opcodeIndex = self._code_index(code)
        operation.inputs = np.asarray(inputs, np.int32)
        operation.outputs = np.asarray([output], np.int32)
        operation.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        operation.builtinOptions = getattr(schema, f"{options}T")()
        vars(operation.builtinOptions).update(values)
        return operation

    def copy_of(self, operation, inputs, *outputs: int):
        """The same operation on other tensors."""
        twin = copy.copy(operation)
        twin.inputs = np.asarray(inputs, np.int32)
        twin.outputs = np.asarray(outputs, np.int32)
        return twin

    def reshaping(self, source: int, result: int):
        """An operation that gives a tensor the shape of another."""
        sizes = self.sizes(result)
        return self.new_operation(
            Code.RESHAPE,
            "ReshapeOptions",
            [source, self.new_integers(sizes)],
            result,
            newShape=np.array(sizes, np.int32),
        )

    def _code_index(self, wanted: int) -> int:
        codes = self.model.operatorCodes
        for index, code in enumerate(codes):
            if builtin_number(code) == wanted:
                return index
        code = schema.OperatorCodeT()
        # Numbers above 127 do not fit into the older of the two fields.
        code.builtinCode, code.deprecatedBuiltinCode = wanted, min(wanted, 127)
        code.version = 1
        codes.append(code)
        return len(codes) - 1
