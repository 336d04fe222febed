"""Leaves out of a TFLite file what the runtime does not need.

The converter gives every tensor the path of the layer it came from, and an empty buffer
of its own if it holds no weights. In megan_edge that is an eighth of the int8 file.
Lint reports by those names, so files are slimmed after it; inputs and outputs keep
theirs. The quantizer's files keep weights behind the flatbuffer; here they come back
inside, where every reader finds them.
"""

from ai_edge_litert.tools import flatbuffer_utils


def slim(flatbuffer: bytes) -> bytes:
    """The same network, smaller: no names of inner tensors, no empty buffers."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    new_index = _keep_filled(model, {tensor.buffer for tensor in tensors})
    for tensor in tensors:
        tensor.buffer = new_index.get(tensor.buffer, 0)
    for entry in model.metadata or []:
        entry.buffer = new_index[entry.buffer]
    for graph in model.subgraphs:
        ends = {int(index) for index in (*graph.inputs, *graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            if index not in ends:
                tensor.name = b""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


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
