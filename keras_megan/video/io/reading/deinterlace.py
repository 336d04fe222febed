"""Turn frames woven of two fields into whole pictures, by FFmpeg's filter bwdif.

In: decoded frames of a clip that is interlaced. Out: as many frames at the same times.
Enlarging an interlaced frame would enlarge its combs, and a network that looks for
motion between frames would find it within them.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av

Timed = tuple[Fraction, av.VideoFrame]


def deinterlaced(frames: Iterable[Timed], every: bool) -> Iterator[Timed]:
    """Yields each frame with its two fields merged into one picture.

    Args:
        frames: Pairs of time and frame.
        every: Whether to treat every frame as interlaced, or only those that say so.
    """
    graph: av.filter.Graph | None = None
    shape: tuple[str, int, int] | None = None
    times: deque[Fraction] = deque()
    for time, frame in frames:
        found = (frame.format.name, frame.width, frame.height)
        if graph is None or found != shape:
            yield from _flushed(graph, times)
            graph, shape = _graph(frame, every), found
        frame.pts, frame.time_base = len(times), Fraction(1, 1000)
        times.append(time)
        graph.push(frame)
        yield from _ready(graph, times)
    yield from _flushed(graph, times)


def _graph(frame: av.VideoFrame, every: bool) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=Fraction(1, 1000),
    )
    which = "all" if every else "interlaced"
    filtered = graph.add("bwdif", f"mode=send_frame:parity=auto:deint={which}")
    sink = graph.add("buffersink")
    graph.link_nodes(source, filtered, sink).configure()
    return graph


def _ready(graph: av.filter.Graph, times: deque[Fraction]) -> Iterator[Timed]:
    while times:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield times.popleft(), frame


def _flushed(graph: av.filter.Graph | None, times: deque[Fraction]) -> Iterator[Timed]:
    if graph is not None:
        graph.push(None)
        yield from _ready(graph, times)
