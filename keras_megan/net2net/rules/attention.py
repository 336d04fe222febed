"""Rules of attention layers.

Heads: the kernels of query, key and value write a copied head, the output kernel reads
it. Value size: the value kernel writes, the output kernel reads. Key size K: the scores
are a product of query and key over it, so the key kernel writes and the query kernel
reads; Keras divides the scores by sqrt(K), so the query is multiplied by sqrt(K' / K).
"""

import keras
import numpy as np

from keras_megan.net2net.rules.base import reads, register_rule, writes


def root_of_growth(layout):
    """Returns the scale function sqrt(new size / old size) of a layout.

    Keras multiplies by 1 / sqrt(size) rounded to float32, whatever the data type, so
    the rounded numbers are what has to be made up for.
    """

    def scale(index_map_of):
        index_map = index_map_of(layout)
        old, new = (
            np.float64(np.float32(1.0 / np.sqrt(size)))
            for size in (index_map.old_size, index_map.new_size)
        )
        return old / new

    return scale


def _query_value_key(site):
    """The layouts of query, value and key among the inputs; masks are frozen."""
    names = ("query", "value", "key")
    given = dict(zip(names, site.call.args, strict=False))
    given.update({k: v for k, v in site.call.kwargs.items() if k in names})
    index = {id(tensor): i for i, tensor in enumerate(site.tensors)}
    found = {
        name: site.inputs[index[id(tensor)]]
        for name, tensor in given.items()
        if tensor is not None
    }
    found.setdefault("key", found["value"])
    used = {index[id(tensor)] for tensor in given.values() if tensor is not None}
    for position, layouts in enumerate(site.inputs):
        if position not in used:
            for layout in layouts:
                site.freeze(layout, "it belongs to an attention mask")
    for layouts in found.values():
        for layout in layouts[1:-1]:
            site.freeze(layout, "it holds the positions that attend")
    return found["query"], found["value"], found["key"]


def _heads_of_masks(site, heads):
    """Freezes the heads if a mask tells them apart."""
    given = {id(t) for t in site.call.inputs}
    for name, mask in site.call.kwargs.items():
        shape = getattr(mask, "shape", ())
        if "mask" in name and id(mask) in given and len(shape) == 4 and shape[1] != 1:
            site.freeze(heads, "an attention mask has an axis of heads")


def _projection(site, dense, source, heads, size, scale=None, reading=False):
    """An input projection (inputs, heads, size) and its bias (heads, size)."""
    role = reads if reading else writes
    site.weight(
        dense.kernel,
        {0: reads(source), 1: writes(heads), 2: role(size)},
        scale=scale,
    )
    site.weight(dense.bias, {0: writes(heads), 1: role(size)}, scale=scale)


@register_rule(keras.layers.MultiHeadAttention, linear=True)
def multi_head_attention(site):
    """Multi-head attention over any axes: heads, key and value sizes can change."""
    layer = site.operation
    query, value, key = _query_value_key(site)
    heads = site.new("num_heads", layer.num_heads)
    _heads_of_masks(site, heads)
    key_size = site.new("key_dim", layer.key_dim)
    value_size = site.new("value_dim", layer.value_dim)
    for name, layout in (
        ("num_heads", heads),
        ("key_dim", key_size),
        ("value_dim", value_size),
    ):
        site.setting(name, layout)
        site.nonlinear(layout)
    scale = root_of_growth(key_size)
    _projection(site, layer.query_dense, query[-1], heads, key_size, scale, True)
    _projection(site, layer.key_dense, key[-1], heads, key_size)
    _projection(site, layer.value_dense, value[-1], heads, value_size)
    if getattr(layer, "_use_gate", False):
        _projection(site, layer._gate_dense, query[-1], heads, value_size)
    output = layer.output_dense
    config_shape = layer.get_config()["output_shape"]
    targets = []
    for axis, size in enumerate(output.kernel.shape[2:]):
        if config_shape is None:
            # Without an output shape, Keras gives the output the query's width.
            targets.append(query[-1].attach())
        else:
            targets.append(site.new(f"output_shape{axis}", size))
    if config_shape is not None:
        site.setting("output_shape", tuple(targets))
        for axis, layout in enumerate(targets):
            site.name_width(f"output_shape{axis}", layout)
    roles = {2 + axis: writes(layout) for axis, layout in enumerate(targets)}
    site.weight(output.kernel, {0: reads(heads), 1: reads(value_size), **roles})
    bias_roles = {axis: writes(layout) for axis, layout in enumerate(targets)}
    site.weight(output.bias, bias_roles)
    result = [[*query[:-1], *targets]]
    if len(site.output_shapes) > 1:
        scores = [site.fixed(size) for size in site.output_shapes[1]]
        scores[0], scores[1] = query[0], heads
        result.append(scores)
    return result


@register_rule(keras.layers.GroupQueryAttention, linear=True)
def group_query_attention(site):
    """Grouped-query attention: whole groups (a key/value head and its queries)."""
    layer = site.operation
    query, value, key = _query_value_key(site)
    queries = layer.num_query_heads // layer.num_key_value_heads
    groups = site.new("num_key_value_heads", layer.num_key_value_heads)
    heads = groups.blocks(queries)
    _heads_of_masks(site, heads)
    size = site.new("head_dim", layer.head_dim)
    # The key is repeated for every query of its group; values share the same size, and
    # the query kernel takes the shares of the product over it.
    site.freeze(size, "query, key and value share one size in grouped-query attention")
    site.setting("num_key_value_heads", groups)
    site.setting("num_query_heads", heads)
    site.nonlinear(groups)
    dense = {
        name: getattr(layer, f"_{name}_dense") for name in ("query", "key", "value")
    }
    _projection(site, dense["query"], query[-1], heads, size)
    _projection(site, dense["key"], key[-1], groups, size)
    _projection(site, dense["value"], value[-1], groups, size)
    if getattr(layer, "use_gate", False):
        _projection(site, layer._gate_dense, query[-1], heads, size)
    output = layer._output_dense
    site.weight(output.kernel, {0: reads(heads), 1: reads(size), 2: writes(query[-1])})
    site.weight(output.bias, {0: writes(query[-1])})
    result = [[*query[:-1], query[-1].attach()]]
    if len(site.output_shapes) > 1:
        scores = [site.fixed(size) for size in site.output_shapes[1]]
        scores[0], scores[1] = query[0], heads
        result.append(scores)
    return result


@register_rule(keras.layers.Attention)
def dot_product_attention(site):
    """Dot-product attention without kernels: the summed size takes shares."""
    values = site.inputs
    query, value = values[0], values[1]
    key = values[2] if len(values) > 2 and len(values[2]) == 3 else value
    for layout in (query[-1], key[-1]):
        site.freeze(layout, "attention without kernels sums over it")
    site.unify(query[-1], key[-1])
    for layouts in (query, value, key):
        site.freeze(layouts[1], "it holds the positions that attend")
    site.weight(getattr(site.operation, "scale", None), {})
    result = [[query[0], query[1], value[-1]]]
    if len(site.output_shapes) > 1:
        result.append([site.fixed(size) for size in site.output_shapes[1]])
    return result


@register_rule(keras.layers.AdditiveAttention)
def additive_attention(site):
    """Additive attention: a sum over tanh(query + key), weighed by a scale."""
    values = site.inputs
    query, value = values[0], values[1]
    key = values[2] if len(values) > 2 and len(values[2]) == 3 else value
    site.unify(query[-1], key[-1])
    scale = getattr(site.operation, "scale", None)
    if scale is None:
        site.freeze(query[-1], "attention without a scale sums over it")
    else:
        site.weight(scale, {0: reads(query[-1])})
    for layouts in (query, value, key):
        site.freeze(layouts[1], "it holds the positions that attend")
    result = [[query[0], query[1], value[-1]]]
    if len(site.output_shapes) > 1:
        result.append([site.fixed(size) for size in site.output_shapes[1]])
    return result


@register_rule("ops.DotProductAttention", linear=True)
def raw_dot_product_attention(site):
    """`keras.ops.dot_product_attention` of (batch, positions, heads, size) tensors."""
    query, key, value = site.inputs[:3]
    for layouts in site.inputs[3:]:
        for layout in layouts:
            site.freeze(layout, "it belongs to an attention mask or bias")
    for layouts in (query, key, value):
        site.freeze(layouts[1], "it holds the positions that attend")
    for layouts in (query, key):
        site.freeze(layouts[3], "the scores are scaled by its size")
    if len(site.inputs) > 3 or query[2].size != key[2].size:
        for layouts in (query, key, value):
            site.freeze(layouts[2], "heads meet a mask, or share keys")
    else:
        site.unify(query[2], key[2])
    site.unify(key[2], value[2])
    return [query[0], query[1], query[2], value[3]]
