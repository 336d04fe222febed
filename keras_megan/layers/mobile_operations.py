"""Which of two equal ways of computing is traced: a computer's or a mobile GPU's.

Some operations do not exist on mobile GPUs (gathers) or are computed wrongly there
(depth to space of several frames). The layers that need them know a second way to the
same numbers, made of slices, reshapes and matrix products. It costs more arithmetic, so
it is taken only where asked for:

    with mobile_operations():
        converter.convert(...)      # whatever is traced in here runs on mobile GPUs

It is a property of the traced graph, not of the model: weights, configs and results are
the same.

A browser's GPU reads at most 16 tensors in one step, and additions that follow each
other are one step: a sum of 25 tensors comes out wrong there. `sum_in_groups` adds a
few at a time.
"""

import contextlib
import contextvars
import functools
import operator
from collections.abc import Iterator, Sequence

#: Tensors that are added in one step. A step goes on with one of the sums before it.
LARGEST_SUM = 8

_WANTED = contextvars.ContextVar("mobile_operations", default=False)


@contextlib.contextmanager
def mobile_operations(wanted: bool = True) -> Iterator[None]:
    """Layers called inside use only operations that mobile GPUs compute rightly."""
    token = _WANTED.set(wanted)
    try:
        yield
    finally:
        _WANTED.reset(token)


def uses_mobile_operations() -> bool:
    """What layers ask when they are called."""
    return _WANTED.get()


def sum_in_groups(tensors: Sequence):
    """The sum of at least one tensor, up to `LARGEST_SUM` at a time, then of the sums.

    Returns:
        A tensor; the same numbers as a plain sum but for the order of rounding.
    """
    tensors = list(tensors)
    while len(tensors) > 1:
        starts = range(0, len(tensors), LARGEST_SUM)
        tensors = [
            functools.reduce(operator.add, tensors[n : n + LARGEST_SUM]) for n in starts
        ]
    return tensors[0]
