"""What the GPU runtime accepts, fully accelerates and computes wrongly.

Nothing reports these: not the converter, not the compiler, and the model runs. Each was
found by comparing the GPU's output with the CPU's on a graph of a few operations; the
errors were as large as the signal. The forms beside them that are right are in the
tests, so that a rule forbids no more than it must.
"""

from export.build.flatbuffer import Graph, Operation, Tensor
from export.lint.rules import Trouble, named, rule, shape_text


@rule("blocks of a batch")
def _blocks_of_a_batch(graph):
    for op in named(graph, "DEPTH_TO_SPACE", "SPACE_TO_DEPTH"):
        if op.inputs[0].shape[0] not in (1, None):
            yield Trouble(
                op,
                op.inputs[0],
                f"{op.name} of a batch of {op.inputs[0].shape[0]} is computed wrongly: "
                "write it with slices and reshapes, or run one image at a time.",
            )


@rule("grouped convolution")
def _grouped_convolution(graph):
    for op in named(graph, "CONV_2D"):
        inputs, filters = op.inputs[0].shape[-1], op.inputs[1].shape
        if None in (inputs, *filters) or inputs == filters[3]:
            continue
        groups = inputs // filters[3]
        each = (filters[3], filters[0] // groups)
        # One channel in and out is a depthwise convolution, which is right.
        if each != (1, 1) and any(channels % 4 for channels in each):
            yield Trouble(
                op,
                None,
                f"a convolution in {groups} groups of {each[0]} to {each[1]} channels "
                "is computed wrongly or aborts the process: groups need a multiple of "
                "4 channels on both sides.",
            )


@rule("batched product broadcasts")
def _batched_product_broadcasts(graph):
    for op in named(graph, "BATCH_MATMUL"):
        left, right = op.inputs[:2]
        rank = max(left.rank, right.rank)
        batches = {(1,) * (rank - t.rank) + t.shape[:-2] for t in (left, right)}
        if len(batches) > 1:
            yield Trouble(
                op,
                right,
                f"a product of {shape_text(left)} and {shape_text(right)} broadcasts "
                "the batch and is computed wrongly: tile the smaller operand.",
            )


ELEMENTWISE = set("ADD DIV MAXIMUM MINIMUM MUL POW SQUARED_DIFFERENCE SUB".split())


@rule("constant widens the batch")
def _constant_widens_the_batch(graph):
    for op in named(graph, *ELEMENTWISE):
        constants = [tensor for tensor in op.inputs if tensor.constant]
        computed = [tensor for tensor in op.inputs if not tensor.constant]
        for constant in constants:
            for tensor in computed:
                if (
                    1 < tensor.rank == constant.rank
                    and tensor.shape[0] == 1 < constant.shape[0]
                ):
                    yield Trouble(
                        op,
                        constant,
                        f"a constant {shape_text(constant)} turns {shape_text(tensor)} "
                        "into a batch, which is computed wrongly: tile the tensor.",
                    )


@rule("joined correlations")
def _joined_correlations(graph):
    for op in named(graph, "CONCATENATION"):
        last = op.outputs[0].rank - 1
        if len(op.inputs) < 2 or op.option("axis") not in (-1, last):
            continue
        if all(_is_correlation(graph, tensor) for tensor in op.inputs):
            yield Trouble(
                op,
                None,
                f"{len(op.inputs)} sums over channels of products of two slices are "
                "joined as channels, which is taken for a correlation layer and "
                "computed wrongly: sum with a 1x1 convolution of constant weights.",
            )


def _is_correlation(graph: Graph, tensor: Tensor) -> bool:
    """Whether it is the sum or mean over channels of a product of two slices."""
    total = graph.producer(tensor)
    if total is None or total.name not in ("SUM", "MEAN"):
        return False
    axes = total.inputs[1].values
    if axes is None or [int(axis) % total.inputs[0].rank for axis in axes.flat] != [
        total.inputs[0].rank - 1
    ]:
        return False
    product = graph.producer(total.inputs[0])
    return (
        product is not None
        and product.name == "MUL"
        and all(_is_slice(graph.producer(t)) for t in product.inputs)
    )


def _is_slice(op: Operation | None) -> bool:
    return op is not None and op.name in ("SLICE", "STRIDED_SLICE")


@rule("one hot of a table")
def _one_hot_of_a_table(graph):
    for op in named(graph, "ONE_HOT"):
        if op.inputs[0].rank > 2:
            yield Trouble(
                op,
                op.inputs[0],
                f"ONE_HOT of {shape_text(op.inputs[0])} is computed wrongly: reshape "
                "the indices to at most two axes.",
            )


@rule("shared output")
def _shared_output(graph):
    for number, output in enumerate(graph.outputs):
        if output in graph.inputs:
            kind = "is an input of the model too"
        elif output in graph.outputs[:number]:
            kind = "is given twice"
        else:
            continue
        yield Trouble(
            None,
            output,
            f"an output {kind}, and comes back unwritten: leave it out.",
        )
