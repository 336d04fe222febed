"""Symbolic inputs to trace a model with, of the shapes that it has or is given.

A model that knows its inputs may leave sizes open (None); `input_shape` fills them in,
without the batch axis, as a tuple, or a list or dict of tuples for several inputs.
"""

import keras
import numpy as np

from keras_megan.net2net.tracing.calls import TraceError


def known_shapes(model):
    """Returns the model's input shapes without the batch axis; None if it has none.

    Raises:
        TraceError: If a size is unknown.
    """
    own = own_inputs(model)
    if own is None:
        return None
    own = keras.tree.flatten(own)
    for tensor in own:
        if None in tensor.shape[1:]:
            raise TraceError(
                f"Input '{tensor.name}' of model '{model.name}' has shape "
                f"{tuple(tensor.shape)}: pass input_shape with every size."
            )
    return [tuple(tensor.shape[1:]) for tensor in own]


def is_functional(model):
    return isinstance(model, keras.Function) and not isinstance(model, keras.Sequential)


def own_inputs(model):
    """The model's own symbolic inputs as a structure, or None if it has none."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0] if model.inputs else None
    try:
        return model.input
    except (AttributeError, ValueError):
        return None


def fresh_inputs(model, input_shape, batch=None):
    """Symbolic inputs to trace with, and their names.

    Args:
        model: The model.
        input_shape: None, or shapes without the batch axis.
        batch: Size of the batch axis where `input_shape` is given; None leaves it open.
    """
    own = own_inputs(model)
    if input_shape is None:
        if own is None:
            raise TraceError(
                f"Model '{model.name}' does not know the shape of its inputs; pass "
                "input_shape (without the batch axis)."
            )
        flat = keras.tree.flatten(own)
        if is_functional(model):
            return own, [tensor.name for tensor in flat]
        fresh = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype), own
        )
        return fresh, [tensor.name for tensor in flat]
    if own is None:
        return _inputs_from_shapes(input_shape, batch)
    flat = keras.tree.flatten(own)
    shapes = _match_shapes(model, own, flat, input_shape)
    fresh = [
        keras.Input(batch_shape=(batch or tensor.shape[0], *shape), dtype=tensor.dtype)
        for tensor, shape in zip(flat, shapes, strict=True)
    ]
    return keras.tree.pack_sequence_as(own, fresh), [tensor.name for tensor in flat]


def _is_shape(value):
    return isinstance(value, list | tuple) and all(
        size is None or isinstance(size, int | np.integer) for size in value
    )


def with_sizes(inputs, sizes):
    """Returns fresh symbolic inputs with open sizes filled in.

    Args:
        inputs: Structure of symbolic inputs.
        sizes: Size of the batch, then of the other axes; the last one goes on.
    """

    def fresh(tensor):
        shape = [
            sizes[min(axis, len(sizes) - 1)] if size is None else size
            for axis, size in enumerate(tensor.shape)
        ]
        return keras.Input(batch_shape=shape, dtype=tensor.dtype)

    return keras.tree.map_structure(fresh, inputs)


def _inputs_from_shapes(input_shape, batch):
    def make(shape):
        return keras.Input(batch_shape=(batch, *shape))

    if _is_shape(input_shape):
        fresh = make(input_shape)
    elif isinstance(input_shape, dict):
        fresh = {key: make(shape) for key, shape in input_shape.items()}
    else:
        fresh = [make(shape) for shape in input_shape]
    return fresh, [tensor.name for tensor in keras.tree.flatten(fresh)]


def _match_shapes(model, own, flat, input_shape):
    """One full shape per model input, with the model's unknown sizes filled in."""
    if _is_shape(input_shape):
        given = [tuple(input_shape)]
    elif isinstance(input_shape, dict):
        keys = list(own) if isinstance(own, dict) else [x.name for x in flat]
        unknown = sorted(set(input_shape) - set(keys))
        if unknown or len(input_shape) != len(keys):
            raise TraceError(
                f"Model '{model.name}' has the inputs {keys}, received shapes for "
                f"{list(input_shape)}."
            )
        by_key = keras.tree.flatten(own) if not isinstance(own, dict) else None
        if by_key is None:
            order = {id(tensor): key for key, tensor in own.items()}
            given = [tuple(input_shape[order[id(tensor)]]) for tensor in flat]
        else:
            given = [tuple(input_shape[tensor.name]) for tensor in flat]
    else:
        given = [tuple(shape) for shape in input_shape]
    if len(given) != len(flat):
        raise TraceError(
            f"Model '{model.name}' has {len(flat)} inputs, received {len(given)} "
            "shapes."
        )
    for tensor, shape in zip(flat, given, strict=True):
        expected = tuple(tensor.shape[1:])
        fits = len(expected) == len(shape) and all(
            a is None or a == b for a, b in zip(expected, shape, strict=True)
        )
        if not fits:
            raise TraceError(
                f"Input '{tensor.name}' of model '{model.name}' has shape {expected} "
                f"without the batch axis, received input_shape {shape}."
            )
    return given
