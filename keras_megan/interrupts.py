"""Ctrl-C and SIGTERM end a program at once, wherever they meet it.

Python turns a signal into an exception at whatever line it happens to be in. While
large libraries load, that line may stand in a callback from C++ or under a bare
`except:`, and the exception is lost. So the signal is also remembered, and long work
asks:

    with heeding_signals():
        ...
        check_interrupts()      # between two steps
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked = threading.Event()


@contextlib.contextmanager
def heeding_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise `KeyboardInterrupt` in the block, and are remembered.

    A shell lets what it starts in the background ignore Ctrl-C; that is respected. In
    another than the main thread, where signals do not arrive, nothing is changed.
    """
    _asked.clear()
    before = {}
    main = threading.current_thread() is threading.main_thread()
    for number in _SIGNALS if main else ():
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_interrupts() -> None:
    """Raises `KeyboardInterrupt` if a signal has come whose exception was lost."""
    if _asked.is_set():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: object) -> None:
    _asked.set()
    raise KeyboardInterrupt
