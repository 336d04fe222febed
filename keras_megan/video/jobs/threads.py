"""Let reading, computing and writing run at the same time, in bounded memory.

    items = prefetched(reader, depth=2)     a thread runs ahead of the consumer
    writer = BackgroundWriter(write, 8)     a thread trails behind the producer

Both queues are bounded, so the fastest stage waits for the slowest and the number of
frames alive does not depend on the clip's length. An exception on either side reaches
the calling thread with its traceback, and no stage is ever left waiting for one that
has died: every wait also watches whether the other side is still there.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
_POLL_SECONDS = 0.05
_END = object()


class _Failure:
    def __init__(self, error: BaseException):
        self.error = error


@contextmanager
def prefetched(items: Iterable[Item], depth: int) -> Iterator[Iterator[Item]]:
    """Runs an iterable in a thread, at most `depth` items ahead.

    Args:
        items: Any iterable; a generator is closed in its own thread when the block
            is left early.
        depth: How many items may wait.

    Yields:
        An iterator over the same items in the same order. An exception raised by
        `items` is raised from it, after the items before it.
    """
    waiting: queue.Queue = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def offer(value: Any) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(value, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not offer(item):
                    break
            offer(_END)
        except BaseException as error:  # handed over, whatever it is
            offer(_Failure(error))
        finally:
            getattr(iterator, "close", lambda: None)()

    def take() -> Iterator[Item]:
        while True:
            value = waiting.get()
            if value is _END:
                return
            if isinstance(value, _Failure):
                raise value.error
            yield value

    thread = threading.Thread(target=work, name="megan-reader", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        thread.join()


class BackgroundWriter(Generic[Item]):
    """Calls `write(item)` in a thread, in order, for each item that is `put`.

    Use it as a context manager: leaving the block normally waits for everything to be
    written and raises the first error of `write`; leaving it by an exception discards
    what is still waiting.

    Args:
        write: What to do with an item. After it has raised once it is not called again.
        depth: How many items may wait before `put` blocks.
    """

    def __init__(self, write: Callable[[Item], None], depth: int):
        self._write = write
        self._waiting: queue.Queue = queue.Queue(maxsize=depth)
        self._error: BaseException | None = None
        self._discard = threading.Event()
        self._thread = threading.Thread(
            target=self._work, name="megan-writer", daemon=True
        )

    def __enter__(self) -> "BackgroundWriter[Item]":
        self._thread.start()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if kind is not None:
            self._discard.set()
        self._offer(_END)
        self._thread.join()
        if kind is None:
            self._raise_failure()

    def put(self, item: Item) -> None:
        """Queues an item; raises the error of `write` on an earlier one, if any."""
        self._raise_failure()
        self._offer(item)

    def _offer(self, value: Any) -> None:
        while self._thread.is_alive():
            try:
                self._waiting.put(value, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._error is not None and not self._discard.is_set():
            raise self._error

    def _work(self) -> None:
        while (item := self._waiting.get()) is not _END:
            if self._discard.is_set():
                continue
            try:
                self._write(item)
            except BaseException as error:  # handed over, whatever it is
                self._error = error
                return
