"""Reads a TFLite file: its operations, tensors and sizes.

    bytes or path -> Graph: the operations in order, each with the tensors it reads and
                     writes and its options as the schema names them

The schema is the one that ships with the runtime. Names in converted files keep the
Keras layers' paths; `layer_of` finds them, so that whatever is said of an operation can
name the layer to change.
"""

import re
import struct
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.errors import ExportError, reading


def _names(constants: type) -> dict[int, str]:
    """The names of a schema's numbers."""
    return {v: k for k, v in vars(constants).items() if isinstance(v, int)}


_OPERATIONS = _names(schema.BuiltinOperator)
_TYPES = _names(schema.TensorType)


def builtin_number(code: schema.OperatorCodeT) -> int:
    """The schema's number of an operation, which stands in one of two fields."""
    # Numbers above 127 do not fit into the older of the two fields.
    return max(code.builtinCode, code.deprecatedBuiltinCode)


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a graph.

    Attributes:
        name: Name, as the converter wrote it.
        shape: Sizes; None where a size is known only at run time.
        dtype: numpy's name of it, or the schema's in lower case.
        data: A constant's bytes; None of what is computed.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    data: np.ndarray | None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def constant(self) -> bool:
        return self.data is not None

    @property
    def values(self) -> np.ndarray | None:
        """A constant's values; None of what is computed."""
        return None if self.data is None else self.data.view(self.dtype)


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation.

    Attributes:
        name: The schema's name ("CONV_2D"), or a custom operation's own.
        custom: Whether it is a custom operation, not a built-in one.
        inputs, outputs: Its tensors; optional inputs that are absent are left out.
        options: The schema's options object, or None.
    """

    name: str
    custom: bool
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: object

    def option(self, name: str):
        """An option's value; 0 where the operation has no such option."""
        return getattr(self.options, name, 0)


@dataclass(frozen=True, eq=False)
class Graph:
    """All operations of a file, those of branches and loops included.

    Attributes:
        operations: The operations, in the order they run.
        inputs, outputs: The ends of the main graph.
        tensors: Number of tensors.
        weight_bytes: Size of all constants, shared ones once.
        file_bytes: Size of the file.
    """

    operations: tuple[Operation, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tensors: int
    weight_bytes: int
    file_bytes: int

    @cached_property
    def _producers(self) -> dict[Tensor, Operation]:
        return {t: op for op in self.operations for t in op.outputs}

    def producer(self, tensor: Tensor) -> Operation | None:
        """The operation that computes a tensor; None for inputs and constants."""
        return self._producers.get(tensor)


@dataclass(frozen=True)
class Summary:
    """A file in numbers.

    Attributes:
        operations: Name -> how many.
        tensors: Number of tensors.
        largest_rank: Most axes that a tensor has.
        weight_bytes, file_bytes: Sizes.
        inputs, outputs: (name, shape, dtype) of each.
    """

    operations: dict[str, int]
    tensors: int
    largest_rank: int
    weight_bytes: int
    file_bytes: int
    inputs: tuple[tuple[str, tuple, str], ...]
    outputs: tuple[tuple[str, tuple, str], ...]


def read_graph(model: bytes | str | Path | Graph) -> Graph:
    """Reads a flatbuffer.

    Raises:
        ExportError: If the file cannot be read or is not a TFLite model.
    """
    if isinstance(model, Graph):
        return model
    name = "the model given as bytes"
    if isinstance(model, str | Path):
        name = f"'{model}'"
        with reading(Path(model)):
            model = Path(model).read_bytes()
    if model[4:8] != b"TFL3":
        raise ExportError(
            f"Cannot read {name}: expected a TFLite model, which has TFL3 as its bytes "
            f"5 to 8. Received: {bytes(model[4:8])!r}."
        )
    try:
        return _graph(schema.ModelT.InitFromPackedBuf(model, 0), model)
    except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
        raise ExportError(
            f"Cannot read {name}: it starts as a TFLite model, but is damaged or cut "
            f"short ({type(error).__name__}). Convert it again."
        ) from error


def summary(model: bytes | str | Path | Graph) -> Summary:
    """Counts what is in a file; see `Summary` and, for errors, `read_graph`."""
    graph = read_graph(model)
    used = [t for op in graph.operations for t in (*op.inputs, *op.outputs)]
    used += [*graph.inputs, *graph.outputs]
    return Summary(
        operations=dict(Counter(op.name for op in graph.operations).most_common()),
        tensors=graph.tensors,
        largest_rank=max((tensor.rank for tensor in used), default=0),
        weight_bytes=graph.weight_bytes,
        file_bytes=graph.file_bytes,
        inputs=tuple((t.name, t.shape, t.dtype) for t in graph.inputs),
        outputs=tuple((t.name, t.shape, t.dtype) for t in graph.outputs),
    )


# Scopes that Keras and TensorFlow open inside a layer; what is above them is the layer.
_INSIDE_LAYERS = set(
    "batchnorm Cast clip_by_value convolution moments Reshape Tensordot".split()
)


def layer_of(tensor_name: str) -> str:
    """The Keras layer that a tensor's name tells of; "" if it tells of none.

    Names look like 'functional_1/window_1/Reshape;functional_1/window_1/add': one part
    for each operation that was fused, each ending in the operation's own name. The
    deepest path says most; among equals the first, which is what was computed last.
    """
    found = ""
    for part in tensor_name.split(";"):
        steps = re.sub(r":\d+$", "", part).split("/")[:-1]
        while steps and re.sub(r"_?\d+$", "", steps[-1]) in _INSIDE_LAYERS:
            steps.pop()
        path = "/".join(steps)
        if path.count("/") > found.count("/") or not found:
            found = path
    return found


def _graph(model: schema.ModelT, file: bytes) -> Graph:
    contents = [_bytes(buffer, file) for buffer in model.buffers]
    operations, tables, buffers = [], [], set()
    for subgraph in model.subgraphs:
        tables.append([_tensor(t, contents) for t in subgraph.tensors])
        buffers |= {tensor.buffer for tensor in subgraph.tensors}
        operations += [
            _operation(op, model.operatorCodes, tables[-1])
            for op in ([] if subgraph.operators is None else subgraph.operators)
        ]
    main = model.subgraphs[0]
    return Graph(
        operations=tuple(operations),
        inputs=_pick(tables[0], main.inputs),
        outputs=_pick(tables[0], main.outputs),
        tensors=sum(map(len, tables)),
        weight_bytes=sum(contents[number].size for number in buffers),
        file_bytes=len(file),
    )


def _bytes(buffer: schema.BufferT, file: bytes) -> np.ndarray:
    """A buffer's bytes; large files and quantizers put them behind the flatbuffer."""
    if buffer.offset > 1:
        return np.frombuffer(file, np.uint8, buffer.size, buffer.offset)
    return np.asarray(() if buffer.data is None else buffer.data, np.uint8)


def _tensor(tensor: schema.TensorT, contents: list[np.ndarray]) -> Tensor:
    signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    shape = () if signature is None else signature
    data = contents[tensor.buffer]
    return Tensor(
        name=(tensor.name or b"").decode("utf-8", "replace"),
        shape=tuple(None if size < 0 else int(size) for size in shape),
        dtype=_TYPES[tensor.type].lower(),
        data=data if data.size else None,
    )


def _operation(op: schema.OperatorT, codes: list, tensors: list[Tensor]) -> Operation:
    code = codes[op.opcodeIndex]
    name = _OPERATIONS[builtin_number(code)]
    custom = name == "CUSTOM"
    if custom:
        name = (code.customCode or b"CUSTOM").decode("utf-8", "replace")
    return Operation(
        name=name,
        custom=custom,
        inputs=_pick(tensors, op.inputs),
        outputs=_pick(tensors, op.outputs),
        options=op.builtinOptions or op.builtinOptions2,
    )


def _pick(tensors: list[Tensor], numbers) -> tuple[Tensor, ...]:
    return tuple(tensors[n] for n in ([] if numbers is None else numbers) if n >= 0)
