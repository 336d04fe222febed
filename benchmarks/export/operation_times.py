"""Where the time of a `.tflite` file goes, by type of operation.

LiteRT's Python package offers no profiler, and the delegate that computes on CPUs takes
whole graphs at once. So every operation is cut out of the file, becomes a file of one
operation with the same shapes, options and weights, and is timed alone:

    x -> [CONV_2D] -> [LEAKY_RELU] -> [ADD] -> y        the file
    x -> [CONV_2D] -> .   x -> [LEAKY_RELU] -> .  ...   what is timed

Operations that differ in their values only are timed once. The sum is close to, but not
the time of the whole file: alone, an operation finds its input in the cache. Compare
the shares, and look at `Profile.sum_seconds` beside the file's own time.

Weights in float16 are unpacked once when a file is loaded, so unpacking counts nothing
and its result counts as weights.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from export.build.flatbuffer import builtin_number
from export.errors import ExportError, reading
from keras_megan.quiet import standard_error_held_back

_OPERATIONS = {
    v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)
}
_REPETITIONS = 5


@dataclass
class Share:
    """One type of operation.

    Attributes:
        name: The schema's name ("CONV_2D").
        count: How many of them the file has.
        seconds: Time of all of them together.
        unmeasured: How many do not run alone (branches, loops).
    """

    name: str
    count: int = 0
    seconds: float = 0.0
    unmeasured: int = 0


@dataclass
class Profile:
    """A file's operations by type.

    Attributes:
        shares: The dearest first.
        sum_seconds: Sum over all operations, each timed alone.
    """

    shares: list[Share] = field(default_factory=list)

    @property
    def sum_seconds(self) -> float:
        return sum(share.seconds for share in self.shares)

    def document(self) -> list[dict]:
        """Returns JSON data, with each type's share of the sum."""
        total = self.sum_seconds or 1.0
        return [{**vars(s), "share": s.seconds / total} for s in self.shares]


def operation_times(path: str | Path, num_threads: int) -> Profile:
    """Times every operation of a file's main graph alone, on LiteRT's CPU runtime.

    Args:
        path: A `.tflite` file of fixed shapes.
        num_threads: Threads of the runtime.

    Raises:
        ExportError: If the file cannot be read or has no graph of fixed shapes.
    """
    with reading(Path(path)):
        data = Path(path).read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    if any(
        -1 in tensor.shapeSignature
        for tensor in graph.tensors
        if tensor.shapeSignature is not None
    ):
        raise ExportError(
            f"Cannot profile '{path}': it has tensors of no fixed size. Export it for "
            "one height and width."
        )
    groups: dict[tuple, list] = defaultdict(list)
    for operation in graph.operators:
        if not _unpack_weights(model, operation):
            groups[_signature(model, operation)].append(operation)
    shares: dict[str, Share] = {}
    for alike in groups.values():
        name = _name(model, alike[0])
        share = shares.setdefault(name, Share(name))
        share.count += len(alike)
        seconds = _seconds(_cut_out(model, alike[0]), num_threads)
        if seconds is None:
            share.unmeasured += len(alike)
        else:
            share.seconds += seconds * len(alike)
    return Profile(sorted(shares.values(), key=lambda share: -share.seconds))


def _code(model, operation):
    return model.operatorCodes[operation.opcodeIndex]


def _name(model, operation) -> str:
    number = builtin_number(_code(model, operation))
    return _OPERATIONS.get(number, f"operation {number}")


def _sizes(tensor) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(map(int, tensor.shape))


def _is_constant(model, tensor) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and np.size(data) > 0


def _tensors(model, indices) -> list:
    every = model.subgraphs[0].tensors
    return [every[i] if i >= 0 else None for i in ([] if indices is None else indices)]


def _unpack_weights(model, operation) -> bool:
    """Whether an operation reads constants alone; then it runs once, at loading.

    The usual one is the unpacking of float16 weights: its result becomes a constant.
    """
    inputs = [t for t in _tensors(model, operation.inputs) if t is not None]
    if not inputs or not all(_is_constant(model, tensor) for tensor in inputs):
        return False
    halves = inputs[0].type == schema.TensorType.FLOAT16
    if _name(model, operation) == "DEQUANTIZE" and halves:
        stored = np.asarray(model.buffers[inputs[0].buffer].data, np.uint8)
        made = schema.BufferT()
        made.data = stored.view(np.float16).astype(np.float32).view(np.uint8)
        (result,) = _tensors(model, operation.outputs)
        result.buffer = len(model.buffers)
        model.buffers.append(made)
    return True


def _signature(model, operation) -> tuple:
    """Equal for operations that take equally long: same type, options and shapes."""

    def plain(thing):
        if hasattr(thing, "__dict__"):
            return tuple((k, plain(v)) for k, v in sorted(vars(thing).items()))
        return tuple(thing) if isinstance(thing, list | np.ndarray) else thing

    def describe(tensor):
        if tensor is None:
            return None
        constant = _is_constant(model, tensor)
        small = constant and np.prod(_sizes(tensor)) <= 16  # paddings, axes, sizes
        values = bytes(model.buffers[tensor.buffer].data) if small else None
        return (_sizes(tensor), tensor.type, constant, values)

    return (
        operation.opcodeIndex,
        plain(operation.builtinOptions),
        plain(operation.builtinOptions2),
        *map(describe, _tensors(model, operation.inputs)),
        *map(describe, _tensors(model, operation.outputs)),
    )


def _cut_out(model, operation) -> bytes:
    """A file of one operation, with its weights."""
    used = [i for i in (*operation.inputs, *operation.outputs) if i >= 0]
    places = {int(index): place for place, index in enumerate(dict.fromkeys(used))}
    buffers, tensors = [schema.BufferT()], []
    for index in places:
        old = model.subgraphs[0].tensors[index]
        tensor = schema.TensorT()
        tensor.__dict__.update(vars(old))
        tensor.buffer = 0
        if _is_constant(model, old):
            tensor.buffer = len(buffers)
            buffers.append(model.buffers[old.buffer])
        tensors.append(tensor)
    alone = schema.OperatorT()
    alone.__dict__.update(vars(operation))
    alone.opcodeIndex = 0
    alone.inputs = [places.get(int(i), -1) for i in operation.inputs]
    alone.outputs = [places[int(i)] for i in operation.outputs]
    alone.intermediates = None
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = tensors, [alone]
    graph.inputs = [
        i for i in dict.fromkeys(alone.inputs) if i >= 0 and not tensors[i].buffer
    ]
    graph.outputs = alone.outputs
    made = schema.ModelT()
    made.version, made.buffers = model.version, buffers
    made.operatorCodes, made.subgraphs = [_code(model, operation)], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _seconds(flatbuffer: bytes, num_threads: int) -> float | None:
    """The least time of some runs, as noise only adds; None if it does not run."""
    generator = np.random.default_rng(0)
    try:
        with standard_error_held_back(forget=(ValueError, RuntimeError)):
            interpreter = Interpreter(model_content=flatbuffer, num_threads=num_threads)
            interpreter.allocate_tensors()
            for details in interpreter.get_input_details():
                shape, dtype = tuple(details["shape"]), np.dtype(details["dtype"])
                values = np.zeros(shape, dtype)  # indices stay within bounds
                if dtype.kind == "f":
                    values = generator.random(shape).astype(dtype)
                interpreter.set_tensor(details["index"], values)
            interpreter.invoke()
    except (ValueError, RuntimeError):
        return None
    times = []
    for _ in range(_REPETITIONS):
        began = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - began)
    return min(times)
