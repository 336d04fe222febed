"""Two traces of one model laid over each other: what depends on sizes, what on chance.

A size that differs between the traces is one that the model leaves open, and becomes
None. A constant that differs is random, or was made for a size; a setting of an
operation that differs (``ops.reshape(x, (batch, -1))``) was computed from a size.
"""

import keras
import numpy as np

from keras_megan.net2net.tracing.calls import Source, Tensor

_BOOKKEEPING = {"name", "_inbound_nodes", "_outbound_nodes", "_lock", "_auto_config"}


class DisagreementError(Exception):
    """The traces differ in more than sizes, from the call of an index on."""

    def __init__(self, index):
        super().__init__(index)
        self.index = index


def merge(first, second):
    """Marks in one trace what the other has differently.

    Args:
        first, second: `Graph` of the same model. The first is changed in place.

    Raises:
        DisagreementError: If they are made of different operations.
    """
    partner = _Partners()
    for a, b in zip(_flat(first.inputs), _flat(second.inputs), strict=True):
        partner.meet(a, b)
    for index, (a, b) in enumerate(zip(first.calls, second.calls, strict=False)):
        if not _merge_call(a, b, partner):
            raise DisagreementError(index)
    if len(first.calls) != len(second.calls):
        raise DisagreementError(min(len(first.calls), len(second.calls)) - 1)
    for a, b in zip(first.regions, second.regions, strict=False):
        for one, other in zip(a.shadow, b.shadow, strict=False):
            _merge_call(one, other, partner)
    for index, call in enumerate(first.calls):
        around = [r for r in first.regions if r.start <= index < r.stop]
        if _varies(call) and around and around[-1].whole is None:
            around[-1].whole = f"'{call.name}' in it depends on a size or on chance"


def _varies(call):
    if isinstance(call.operation, Source):
        return call.operation.varies
    return bool(call.varying)


def _settle_reshape(call):
    """Lets a reshape say -1 for the one size that is open."""
    shape = call.outputs[0].shape
    if call.varying == ("newshape",) and shape.count(None) == 1:
        target = tuple(-1 if size is None else size for size in shape)
        call.operation = type(call.operation)(target, name=call.operation.name)
        call.varying = ()


class _Partners:
    """Which tensors of the two traces stand for the same."""

    def __init__(self):
        self._of = {}

    def meet(self, a, b):
        self._of[id(a)] = b
        a.shape = _merged(a.shape, b.shape)
        if a.mask is not None and b.mask is not None:
            a.mask = _merged(a.mask, b.mask)

    def __call__(self, a):
        return self._of.get(id(a))


def _merged(first, second):
    if len(first) != len(second):
        return first
    pairs = zip(first, second, strict=True)
    return tuple(a if a == b else None for a, b in pairs)


def _flat(structure):
    return keras.tree.flatten(structure)


def _merge_call(a, b, partner):
    """Merges two calls; False if they are different ones."""
    if type(a.operation) is not type(b.operation) or len(a.outputs) != len(b.outputs):
        return False
    is_layer = isinstance(a.operation, keras.Layer)
    if is_layer and a.operation is not b.operation:
        return False
    if isinstance(a.operation, Source):
        if a.operation.variable is not b.operation.variable:
            return False
        a.operation.varies = not _same(a.operation.value, b.operation.value)
    varying = []
    ours, theirs = _flat((a.args, a.kwargs)), _flat((b.args, b.kwargs))
    if len(ours) != len(theirs):
        return False
    for one, other in zip(ours, theirs, strict=True):
        if isinstance(one, Tensor):
            if partner(one) is not other:
                return False
        elif not _same(one, other):
            varying.append("argument")
    if not is_layer and isinstance(a.operation, keras.Operation):
        settings, others = vars(a.operation), vars(b.operation)
        varying += [
            key
            for key, value in settings.items()
            if key not in _BOOKKEEPING and not _same(value, others.get(key))
        ]
    a.varying = tuple(varying)
    if any(
        len(x.shape) != len(y.shape) for x, y in zip(a.outputs, b.outputs, strict=True)
    ):
        return False
    for x, y in zip(a.outputs, b.outputs, strict=True):
        partner.meet(x, y)
    _settle_reshape(a)
    return True


def _same(a, b):
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if a is b:
        return True
    try:
        return bool(a == b) or repr(a) == repr(b)
    except Exception:
        return False
