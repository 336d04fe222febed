"""Rules of dense layers, einsum, matmul and embeddings.

A contraction sums over an index that both operands carry. Exactly one of them must then
bear the shares: the weight, where one operand is a weight; otherwise the first operand
is multiplied by them.
"""

import keras

from keras_megan.net2net.rules.base import reads, register_rule, writes
from keras_megan.net2net.rules.conv import settle_activation


@register_rule(keras.layers.Dense, linear=True)
def dense(site):
    """Dense on the last axis."""
    layer = site.operation
    *others, channels = site.inputs[0]
    units = site.new("units", layer.units)
    site.setting("units", units)
    site.weight(layer.kernel, {0: reads(channels), 1: writes(units)})
    site.weight(layer.bias, {0: writes(units)})
    settle_activation(site, units)
    return [*others, units]


@register_rule(keras.layers.Embedding, linear=True)
def embedding(site):
    """Embedding: rows are tokens, columns are channels."""
    layer = site.operation
    channels = site.new("output_dim", layer.output_dim)
    site.setting("output_dim", channels)
    site.weight(layer.embeddings, {1: writes(channels)})
    for layout in site.inputs[0]:
        site.freeze(layout, "it holds tokens")
    return [*site.inputs[0], channels]


def split_equation(equation, ranks):
    """Splits an einsum equation into letters per operand and of the output.

    Args:
        equation: Einsum equation with an explicit output.
        ranks: Number of axes per operand; an ellipsis stands for the axes that the
            letters do not cover, and becomes capital-free private letters.

    Returns:
        List of letter lists, one per operand, and the letter list of the output.
    """
    left, output = equation.replace(" ", "").split("->")
    terms = left.split(",")
    hidden = max(
        (
            rank - len(term.replace("...", ""))
            for term, rank in zip(terms, ranks, strict=True)
            if "..." in term
        ),
        default=0,
    )

    def letters(term, rank=None):
        before, dots, after = term.partition("...")
        if not dots:
            return list(term)
        count = hidden if rank is None else rank - len(before) - len(after)
        middle = [f"dot{k}" for k in range(hidden)][hidden - count :]
        return [*before, *middle, *after]

    operands = [letters(t, r) for t, r in zip(terms, ranks, strict=True)]
    return operands, letters(output)


@register_rule(keras.layers.EinsumDense, linear=True)
def einsum_dense(site):
    """EinsumDense: every letter of the equation is one index."""
    layer = site.operation
    kernel_rank = len(layer.kernel.shape)
    (inputs, kernel), output = split_equation(
        layer.equation, [len(site.inputs[0]), kernel_rank]
    )
    if len(set(inputs)) != len(inputs) or len(set(kernel)) != len(kernel):
        for layout in site.inputs[0]:
            site.freeze(layout, "it lies on a diagonal of an einsum")
    layouts = dict(zip(inputs, site.inputs[0], strict=True))
    roles = {}
    for axis, letter in enumerate(kernel):
        if letter in layouts:
            summed = letter not in output
            roles[axis] = reads(layouts[letter]) if summed else writes(layouts[letter])
            if not summed:
                site.nonlinear(layouts[letter])
        elif letter in output:
            key = f"output_shape.{letter}"
            layouts[letter] = site.new(key, layer.kernel.shape[axis])
            roles[axis] = writes(layouts[letter])
    for letter in inputs:
        if letter not in kernel and letter not in output:
            site.freeze(layouts[letter], "it is summed without a weight")
    result = [layouts[letter] for letter in output]
    sizes = layer.get_config()["output_shape"]
    given = [sizes] if isinstance(sizes, int) else list(sizes)
    axes = result[len(result) - len(given) :]
    values = [
        None if size is None else layout
        for size, layout in zip(given, axes, strict=True)
    ]
    for letter in output:
        if letter in kernel and letter not in inputs:
            site.name_width(letter, layouts[letter])
    site.setting("output_shape", values[0] if isinstance(sizes, int) else tuple(values))
    site.weight(layer.kernel, roles)
    if layer.bias is not None:
        # A bias has sizes along its own axes, and is broadcast along the others.
        written = output[len(output) - len(layer.bias.shape) :]
        site.weight(
            layer.bias,
            {
                axis: writes(layouts[letter])
                for axis, letter in enumerate(written)
                if letter in layer.bias_axes
            },
        )
    for layout in result:
        settle_activation(site, layout)
    return result


# === Products of tensors ==============================================================
def contract(site, first, second):
    """Couples an axis of operand 0 with an axis of operand 1 that is summed over.

    Args:
        site: The `Site` of a call with two operands.
        first, second: The axis in each operand.

    Returns:
        The layout, if the first operand has to be multiplied by the shares; else None.
    """
    layout = site.inputs[0][first]
    site.unify(layout, site.inputs[1][second])
    if layout.opaque or layout.is_fixed:
        return None
    if site.reads_source(1, second) or site.reads_source(0, first):
        return None
    return layout


def replay_with_shares(site, weighted):
    """Multiplies operand 0 by the shares along some axes before the call.

    Args:
        site: The `Site`.
        weighted: List of (axis of operand 0, layout).
    """
    weighted = [(axis, layout) for axis, layout in weighted if layout is not None]
    if not weighted:
        return

    def play(replay):
        first, *rest = replay.args
        for axis, layout in weighted:
            if replay.is_changed(layout):
                share = replay.index_map(layout).share
                if not (share == 1).all():
                    first = replay.multiply(first, axis % len(first.shape), share)
        return replay.run(first, *rest, **replay.kwargs)

    site.replay(play)


def _both_are_tensors(site):
    if len(site.inputs) == 2 and len(site.call.args) == 2:
        return True
    for layouts in site.inputs:
        for layout in layouts:
            site.freeze(layout, "an operand is given in an unusual way")
    return False


@register_rule("ops.Einsum")
def einsum(site):
    """`keras.ops.einsum` of one or two tensors."""
    ranks = [len(layouts) for layouts in site.inputs]
    operands, output = split_equation(site.operation.subscripts, ranks)
    layouts, weighted = {}, []
    for index, letters in enumerate(operands):
        repeated = len(set(letters)) != len(letters)
        for axis, letter in enumerate(letters):
            layout = site.inputs[index][axis]
            if repeated or len(operands) > 2:
                site.freeze(layout, "an einsum that takes diagonals or 3 operands")
            if letter not in layouts or layouts[letter].size == 1:
                layouts[letter] = layout
            elif letter in output:
                site.unify(layouts[letter], layout)
            elif len(operands) == 2:
                weighted.append(
                    (
                        operands[0].index(letter),
                        contract(site, operands[0].index(letter), axis),
                    )
                )
    for letters in operands:
        for letter in letters:
            if letter not in output and sum(letter in o for o in operands) == 1:
                site.freeze(layouts[letter], "it is summed alone in an einsum")
    replay_with_shares(site, weighted)
    return [layouts[letter] for letter in output]


@register_rule("ops.Matmul")
def matmul(site):
    """`keras.ops.matmul`: batch axes beside, one axis summed."""
    if not _both_are_tensors(site) or min(len(x) for x in site.inputs) < 2:
        for layouts in site.inputs:
            for layout in layouts:
                site.freeze(layout, "a matmul with a vector")
        return [site.fixed(size) for size in site.output_shapes[0]]
    first, second = site.inputs
    weighted = contract(site, len(first) - 1, len(second) - 2)
    replay_with_shares(site, [(len(first) - 1, weighted)])
    batch = []
    for offset in range(len(site.output_shapes[0]) - 2, 0, -1):
        sides = [x[-2 - offset] for x in site.inputs if len(x) >= 2 + offset]
        wide = [layout for layout in sides if layout.size != 1] or sides
        for layout in wide[1:]:
            site.unify(wide[0], layout)
        batch.append(wide[0])
    return [*batch, first[-2], second[-1]]


@register_rule("ops.Tensordot")
def tensordot(site):
    """`keras.ops.tensordot` over one axis of each operand."""
    axes = site.operation.axes
    ranks = [len(layouts) for layouts in site.inputs]
    if isinstance(axes, int):
        pairs = [(ranks[0] - axes + k, k) for k in range(axes)]
    else:
        left, right = ([a] if isinstance(a, int) else list(a) for a in axes)
        pairs = list(zip(left, right, strict=True))
    pairs = [(a % ranks[0], b % ranks[1]) for a, b in pairs]
    weighted = [(a, contract(site, a, b)) for a, b in pairs]
    if not _both_are_tensors(site):
        return [site.fixed(size) for size in site.output_shapes[0]]
    replay_with_shares(site, weighted)
    return [
        layout
        for index, layouts in enumerate(site.inputs)
        for axis, layout in enumerate(layouts)
        if axis not in {pair[index] for pair in pairs}
    ]


@register_rule("ops.Dot")
def raw_dot(site):
    """`keras.ops.dot`: a matmul where the second operand has at most two axes."""
    if len(site.inputs) == 2 and len(site.inputs[0]) >= 2 == len(site.inputs[1]):
        weighted = contract(site, len(site.inputs[0]) - 1, 0)
        replay_with_shares(site, [(len(site.inputs[0]) - 1, weighted)])
        return [*site.inputs[0][:-1], site.inputs[1][1]]
    for layouts in site.inputs:
        for layout in layouts:
            site.freeze(layout, "a dot product of other ranks than 2")
    return [site.fixed(size) for size in site.output_shapes[0]]


@register_rule(keras.layers.Dot)
def dot(site):
    """`keras.layers.Dot`: batch axis beside, one axis of each operand summed."""
    axes = site.operation.axes
    first, second = (axes, axes) if isinstance(axes, int) else axes
    first, second = first % len(site.inputs[0]), second % len(site.inputs[1])
    layout = site.inputs[0][first]
    site.unify(layout, site.inputs[1][second])
    if site.operation.normalize:
        site.freeze(layout, "it is normalised inside the Dot layer")

    def play(replay):
        tensors = list(replay.inputs)
        if replay.is_changed(layout):
            share = replay.index_map(layout).share
            tensors[0] = replay.multiply(tensors[0], first, share)
        return replay.run(tensors)

    site.replay(play)
    left = [x for axis, x in enumerate(site.inputs[0]) if axis != first]
    right = [x for axis, x in enumerate(site.inputs[1]) if axis != second]
    result = [*left, *right[1:]]
    return result if len(result) > 1 else [*result, site.fixed(1)]
