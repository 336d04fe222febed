"""What browsers' WebGPU computes wrongly, and only the console says so.

WebGPU promises 16 textures that one shader may read. LiteRT.js makes one shader of a
chain of elementwise operations, each of which brings a tensor of its own. With more
textures the shader is not valid, the step is left out, and what follows computes with
what happened to be in memory. Concatenations of many tensors are right.
"""

from export.build.flatbuffer import Operation, Tensor
from export.lint.rules import Trouble, named, rule
from export.lint.traps import ELEMENTWISE

#: Tensors that one step may read: what WebGPU promises.
MOST_READ = 16


@rule("wide chain", targets=("web",))
def _wide_chain(graph):
    readers: dict[Tensor, list[Operation]] = {}
    for op in graph.operations:
        for tensor in dict.fromkeys(op.inputs):
            readers.setdefault(tensor, []).append(op)
    width: dict[Operation, int] = {}
    for op in named(graph, *ELEMENTWISE):
        joined = [
            width[graph.producer(tensor)]
            for tensor in op.inputs
            if len(readers[tensor]) == 1 and graph.producer(tensor) in width
        ]
        # One operand's chain runs in the same step; the others are read as tensors.
        width[op] = max(joined, default=1) + len(op.inputs) - 1
    for op, read in width.items():
        after = readers.get(op.outputs[0], [])
        goes_on = len(after) == 1 and after[0] in width
        if read > MOST_READ and not goes_on:
            yield Trouble(
                op,
                None,
                f"a chain of elementwise operations ends here that reads {read} "
                f"tensors in one step, of which a browser reads {MOST_READ}: combine "
                "a few at a time.",
            )
