"""Which of two equal ways of computing is traced: a computer's or a mobile GPU's.

Some operations do not exist on mobile GPUs (gathers) or are computed wrongly there
(depth to space of several frames). The layers that need them know a second way to the
same numbers, made of slices, reshapes and matrix products. It costs more arithmetic, so
it is taken only where asked for:

    with mobile_operations():
        converter.convert(...)      # whatever is traced in here runs on mobile GPUs

It is a property of the traced graph, not of the model: weights, configs and results are
the same.
"""

import contextlib
import contextvars
from collections.abc import Iterator

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
