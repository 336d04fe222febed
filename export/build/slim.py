"""Leaves out of a TFLite file what the runtime does not need.

The converter gives every tensor the path of the layer it came from, an empty table of
quantization and, if it holds no weights, an empty buffer of its own; shapes, scales and
lists of operands are written out each time they occur. In megan_mobile that was a quarter
of the int8 file. Here

    names of inner tensors, empty buffers and empty tables    are left out
    equal vectors, and equal tables of quantization           are written once

which the format allows: a file is a graph of offsets, and readers follow them. Lint
reports by names, so files are slimmed after it; inputs and outputs keep theirs. The
quantizer's files keep weights behind the flatbuffer; here they come back inside, where
every reader finds them, aligned to 16 bytes as the schema asks.
"""

import flatbuffers
import numpy as np
from ai_edge_litert.tools import flatbuffer_utils

_IDENTIFIER = b"TFL3"
#: Bytes: what the schema aligns the weights to.
_ALIGNMENT = 16


def slim(flatbuffer: bytes) -> bytes:
    """The same network in a smaller file."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    new_index = _keep_filled(model, {tensor.buffer for tensor in tensors})
    for tensor in tensors:
        tensor.buffer = new_index.get(tensor.buffer, 0)
    for entry in model.metadata or []:
        entry.buffer = new_index[entry.buffer]
    tables: dict[tuple, _WrittenOnce] = {}
    for graph in model.subgraphs:
        ends = {int(index) for index in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            if index not in ends:
                tensor.name = None
            tensor.shape = np.asarray(tensor.shape, np.int32)
            tensor.quantization = _shared(tensor.quantization, tables)
        for operation in graph.operators:
            operation.inputs = np.asarray(operation.inputs, np.int32)
            operation.outputs = np.asarray(operation.outputs, np.int32)
    builder = _SharingBuilder(len(flatbuffer))
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _keep_filled(model, of_tensors: set[int]) -> dict[int, int]:
    """Drops tensors' empty buffers; old index -> new. Buffer 0 is the empty one."""
    kept = [
        index
        for index, buffer in enumerate(model.buffers)
        if index == 0
        or index not in of_tensors
        or (buffer.data is not None and len(buffer.data))
    ]
    model.buffers = [model.buffers[index] for index in kept]
    return {old: new for new, old in enumerate(kept)}


def _shared(table, tables: dict):
    """A tensor's quantization: None if it says nothing, else one for all equal ones."""
    if table is None or table.scale is None or not len(table.scale):
        return None
    # The calibration's ranges; the runtime reads scale and zero point alone.
    table.min = table.max = None
    table.scale = np.asarray(table.scale, np.float32)
    table.zeroPoint = np.asarray(table.zeroPoint, np.int64)
    key = table.scale.tobytes(), table.zeroPoint.tobytes(), table.quantizedDimension
    return tables.setdefault(key, _WrittenOnce(table))


class _WrittenOnce:
    """A table that several others point to."""

    def __init__(self, table):
        self.table, self.offset = table, None

    def Pack(self, builder):  # noqa: N802  the name flatbuffers calls
        if self.offset is None:
            self.offset = self.table.Pack(builder)
        return self.offset


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal vectors of numbers once, and bytes aligned."""

    def __init__(self, size: int):
        super().__init__(size)
        self.written: dict[tuple, int] = {}

    def CreateNumpyVector(self, x):  # noqa: N802  flatbuffers' name
        key = x.dtype.str, x.tobytes()
        if key not in self.written:
            self.written[key] = super().CreateNumpyVector(x)
        return self.written[key]

    def StartVector(self, elemSize, numElems, alignment):  # noqa: N802, N803
        bytes_of_weights = elemSize == 1 and numElems >= _ALIGNMENT
        least = _ALIGNMENT if bytes_of_weights else alignment
        return super().StartVector(elemSize, numElems, least)
