"""A crew of workers makes the segments of a job; whoever is lost is replaced.

The driver reads the source once, to learn how many frames there will be and when each
appears. Then it hands out segments and journals each as it comes back:

    segments   0  1  2  3 | 4  5  6  7       two workers: each begins where a free
    worker A   ->                            piece is longest, and goes on with what
    worker B                ->               follows; whoever is done first takes the
                                             second half of what the other has left

So a worker reads forwards, and computes the window across two segments once. When a
worker is lost, its segment is handed out again and another worker started. A segment
that has cost several workers ends the job: it would cost all of them.

A `Cluster` carries the calls and knows how workers are started (`ray_cluster`).
"""

import concurrent.futures
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from keras_megan.errors import one_line
from keras_megan.interrupts import check_interrupts
from keras_megan.version import __version__
from keras_megan.video.cluster.worker import Card, Made, Order, SourceMissing
from keras_megan.video.errors import VideoError
from keras_megan.video.models.engines import NOTHING_SPECIAL, Model, ModelChoice, Needs

_MOST_LOSSES = 3  # of workers, by one segment or while starting
_POLL_SECONDS = 0.5


class Remote(Protocol):
    """A handle on one worker, wherever it runs."""

    def call(self, method: str, *arguments) -> Future:
        """Calls a method of `Worker`; calls are done in the order they are made."""

    def end(self) -> None:
        """Ends the worker."""


class Cluster(Protocol):
    """Where workers run.

    Attributes:
        lost: The exceptions that a call raises if its worker is gone.
        size: Number of workers to start.
    """

    lost: tuple[type[BaseException], ...]
    size: int

    def start(self, choice: ModelChoice) -> Remote:
        """Starts a worker."""

    def share(self, data: bytes) -> object:
        """Returns a reference to these bytes that can be an argument of a call."""

    def close(self) -> None:
        """Ends everything that was started."""


class Segments:
    """The segments that wait, handed out so that workers go forwards.

    Args:
        numbers: The segments to hand out.
        workers: Number of workers.
    """

    def __init__(self, numbers: Iterable[int], workers: int):
        self._waiting = set(numbers)
        ordered = sorted(self._waiting)
        count = min(workers, len(ordered))
        self._starts = [ordered[k * len(ordered) // count] for k in range(count)]

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, after: int | None) -> int | None:
        """The next segment for a worker that made `after` last; `None` if none is left.

        This is the one after its last; or else one of the places to begin at; or else
        the middle of the longest run of segments that are waiting.
        """
        if not self._waiting:
            return None
        number: int | None
        if after is not None and after + 1 in self._waiting:
            number = after + 1
        else:
            number = next((s for s in self._starts if s in self._waiting), None)
        if number is None:
            number = self._middle()
        self._waiting.discard(number)
        return number

    def give_back(self, number: int) -> None:
        """Puts back a segment that was not made after all."""
        self._waiting.add(number)

    def _middle(self) -> int:
        longest: list[int] = []
        piece: list[int] = []
        for number in sorted(self._waiting):
            piece = [*piece, number] if piece and number == piece[-1] + 1 else [number]
            longest = max(longest, piece, key=len)
        return longest[len(longest) // 2]


@dataclass
class _Member:
    remote: Remote
    last: int | None = None


class Crew:
    """Workers on a cluster; used in place of `Models`, they load the network.

    Args:
        open_cluster: Opens the place where they run, when it is first needed.
        choice: Which network.
    """

    def __init__(self, open_cluster: Callable[[], Cluster], choice: ModelChoice):
        self._open_cluster, self._choice = open_cluster, choice
        self._members: list[_Member] = []
        self._opened: Cluster | None = None

    @property
    def _cluster(self) -> Cluster:
        if self._opened is None:
            self._opened = self._open_cluster()
        return self._opened

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_) -> None:
        for member in self._members:
            member.remote.end()
        if self._opened is not None:
            self._opened.close()

    def find(self, needs: Needs = NOTHING_SPECIAL) -> Model:
        """Finds the model without loading it; see `Models.find`."""
        return self._choice.find(needs)

    def runner(self, height: int, width: int, needs: Needs) -> "CrewRunner":
        """Waits until a worker has loaded the network; returns its stand-in here.

        Raises:
            VideoError: If it cannot be loaded.
        """
        while len(self._members) < self._cluster.size:
            self._members.append(_Member(self._cluster.start(self._choice)))
        size = (height, width, needs)
        card: Card = self.first("card", *size)
        if card.version != __version__:
            raise VideoError(
                f"The workers have keras_megan {card.version}, and here is "
                f"{__version__}. Install the same version everywhere."
            )
        return CrewRunner(self, card, size)

    def first(self, method: str, *arguments):
        """Calls a method of all workers and returns the first answer."""
        calls = {m.remote.call(method, *arguments): m for m in self._members}
        losses = 0
        while True:
            for future in _finished(calls):
                member = calls.pop(future)
                try:
                    return _result(future)
                except self._cluster.lost as error:
                    losses += 1
                    if losses == _MOST_LOSSES:
                        raise VideoError(
                            f"The workers end while they load the model: "
                            f"{one_line(error, 200)}"
                        ) from error
                    self._replace(member)
                    calls[member.remote.call(method, *arguments)] = member

    def _replace(self, member: _Member) -> None:
        member.remote.end()
        member.remote = self._cluster.start(self._choice)
        member.last = None

    def make(
        self,
        order: Order,
        numbers: Iterable[int],
        made: Callable[[Made], None],
        note: Callable[[str], None],
    ) -> None:
        """Makes segments, in any order.

        Args:
            order: The job.
            numbers: Which segments.
            made: Called with each as soon as it is there.
            note: Called with lines the user should see.

        Raises:
            VideoError: If one cannot be made.
        """
        waiting = Segments(numbers, len(self._members))
        running: dict[Future, tuple[_Member, int]] = {}
        losses: Counter[int] = Counter()
        shared: list[object] = []  # the source, once a worker has asked for it

        def begin(member: _Member, number: int, *source: object) -> None:
            call = member.remote.call("make", order, number, *source)
            running[call] = (member, number)

        def begin_next(member: _Member) -> None:
            number = waiting.take(member.last)
            if number is not None:
                begin(member, number)

        for member in self._members:
            member.last = None
            begin_next(member)
        try:
            while running:
                for future in _finished(running):
                    member, number = running.pop(future)
                    try:
                        piece: Made = _result(future)
                    except SourceMissing as error:
                        if not shared:
                            shared.append(self._cluster.share(_bytes(order, error)))
                            note("A worker does not see the input: it is sent there.")
                        begin(member, number, *shared)
                    except self._cluster.lost as error:
                        losses[number] += 1
                        if losses[number] == _MOST_LOSSES:
                            raise VideoError(
                                f"{_MOST_LOSSES} workers were lost over the same part "
                                f"of the clip: {one_line(error, 200)}. Run the command "
                                "again to continue."
                            ) from error
                        note(
                            "A worker was lost; its part is made again by another "
                            f"({one_line(error, 200)})."
                        )
                        waiting.give_back(number)
                        self._replace(member)
                        begin_next(member)
                    else:
                        made(piece)
                        member.last = number
                        begin_next(member)
        except VideoError:
            # What still runs would hold up the next clip.
            for member, _ in running.values():
                self._replace(member)
            raise


@dataclass
class CrewRunner:
    """Stands for the network in the driver: what it is, and who makes segments.

    Attributes:
        crew: The workers.
        card: The facts of their network, which are attributes of this object, too.
        size: Height and width of the frames, and whether times are needed.
    """

    crew: Crew
    card: Card
    size: tuple[int, int, Needs]

    def __getattr__(self, name: str):
        return getattr(self.card, name)

    def choose_tile(self, asked: int | str) -> int:
        """The tile for a job; see `Worker.choose_tile`."""
        return self.crew.first("choose_tile", *self.size, asked)

    def make(self, order: Order, numbers, made, note) -> None:
        """See `Crew.make`."""
        self.crew.make(order, numbers, made, note)


def _bytes(order: Order, error: SourceMissing) -> bytes:
    if not order.source.is_file():
        raise VideoError(
            f"{error} A folder of images has to lie where all workers see it under "
            "the same path."
        ) from error
    return order.source.read_bytes()


def _finished(calls: Iterable[Future]) -> list[Future]:
    """Waits until a call is done; returns all that are."""
    while True:
        check_interrupts()
        done, _ = concurrent.futures.wait(
            calls,
            timeout=_POLL_SECONDS,
            return_when=concurrent.futures.FIRST_COMPLETED,
        )
        if done:
            return list(done)


def _result(future: Future):
    """The result of a call; an error of the worker is raised here, unchanged."""
    try:
        return future.result()
    except Exception as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, VideoError | ValueError):
            raise cause from error
        raise
