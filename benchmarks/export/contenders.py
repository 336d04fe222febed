"""What a benchmark times: each contender in a process of its own.

    parent: {"kind": "litert", "name": "edge.tflite", "threads": 2, ...}   one line
    child:  {"ready": ...}
    parent: "run" or "predict" or "profile"      any number of times, in any order
    child:  {"seconds": 0.41, "frames": 7, "memory": 150000000}

A process of its own makes the peak of memory that contender's alone, and lets rounds
alternate between contenders that are all loaded. `KINDS` is the registry:

    litert   a `.tflite` file on LiteRT's CPU runtime
    keras    a Keras model, compiled as the video tool runs it
    ffmpeg   `minterpolate` and bicubic `scale`, FFmpeg's motion-compensated filter,
             before or after enlarging

One run of a network is one window, T frames in and 2T-1 out, colours converted on both
ends. FFmpeg's filters know no windows: one run is the whole clip, and what counts is
the time for each frame that comes out.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

KINDS: dict[str, Callable] = {}
SCALE = 4


def register(kind: str) -> Callable:
    """Decorator: makes a contender known by name."""

    def store(contender):
        KINDS[kind] = contender
        return contender

    return store


class Network:
    """A `Runner` of the video tool.

    Args:
        job: The parent's first line.
        small: uint8 (N, h, w, 3), the reduced clip.
    """

    def __init__(self, job: dict, small: np.ndarray):
        self._runner = self.load(job)
        size = (job["height"], job["width"])
        picked = np.minimum(np.arange(self._runner.frames_in), len(small) - 1)
        self._window = fit(small[picked], *size)
        self._size, self._small = size, small

    def run(self) -> int:
        """Computes one window; returns how many frames came out."""
        return len(self._runner(self._window))

    def predict(self) -> np.ndarray:
        """All 2N-1 frames of the clip, by windows and tiles of the size."""
        from keras_megan.video.tiles import TiledRunner
        from keras_megan.video.windows import stream_windows

        self._runner.fixed_size = self._size
        tiled = TiledRunner(self._runner, *self._small.shape[1:3], tile=0)
        parts = [
            tiled(np.stack(window.items))[window.keep]
            for window in stream_windows(self._small, self._runner.frames_in)
        ]
        return np.concatenate(parts)


@register("litert")
class LiteRT(Network):
    """A `.tflite` file."""

    @staticmethod
    def prepare() -> None:
        """Loads the runtime, which is not counted as the contender's memory."""
        import ai_edge_litert.interpreter  # noqa: F401

    def load(self, job: dict):
        from keras_megan.video.models.litert_runner import LiteRTRunner

        self._job = job
        return LiteRTRunner(job["name"], job["threads"])

    def profile(self) -> list[dict]:
        """The file's time by type of operation."""
        from benchmarks.export.operation_times import operation_times

        return operation_times(self._job["name"], self._job["threads"]).document()


@register("keras")
class Keras(Network):
    """A Keras model: preset, preset folder or `.keras` file."""

    @staticmethod
    def prepare() -> None:
        from keras_megan.quiet import start_keras_quietly

        start_keras_quietly()

    def load(self, job: dict):
        from keras_megan.video.models.runner import load_runner

        return load_runner(job["name"])


_MINTERPOLATE = (
    "minterpolate",
    # Its best settings; the clip has no cuts. One frame a second goes in, two come out.
    "fps=2:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=none",
)
_ENLARGE = ("scale", "w={width}:h={height}:flags=bicubic+accurate_rnd+full_chroma_int")
#: Order of FFmpeg's filters -> the filters. The first is the better, the second faster.
CHAINS = {
    "scale, minterpolate": (_ENLARGE, _MINTERPOLATE),
    "minterpolate, scale": (_MINTERPOLATE, _ENLARGE),
}
#: Smallest side, in pixels, of frames that `minterpolate` accepts.
SMALLEST_SIDE = 32
# `minterpolate` needs frames around those it works on, and drops the clip's ends.
_PADDING = 2


@register("ffmpeg")
class FFmpeg:
    """FFmpeg's filters; `job["name"]` is one of `CHAINS`."""

    def __init__(self, job: dict, small: np.ndarray):
        self._chain, self._threads = CHAINS[job["name"]], job["threads"]
        self._small = small
        self._timed = fit(small, job["height"], job["width"])

    @staticmethod
    def prepare() -> None:
        import av.filter  # noqa: F401

    def run(self) -> int:
        return len(self._filter(self._timed))

    def predict(self) -> np.ndarray:
        made = self._filter(self._small)
        moments = [
            Fraction(index, 2) + _PADDING for index in range(2 * len(self._small) - 1)
        ]
        return np.stack([made[moment] for moment in moments])

    def _filter(self, frames: np.ndarray) -> dict[Fraction, np.ndarray]:
        """Moment in seconds -> frame; one given frame a second."""
        import av
        import av.filter

        height, width = frames.shape[1:3]
        graph = av.filter.Graph()
        graph.threads = self._threads
        last = graph.add_buffer(
            width=width, height=height, format="rgb24", time_base=Fraction(1, 2)
        )
        large = {"width": width * SCALE, "height": height * SCALE}
        # Full chroma: the filter works on YUV, and 4:2:0 would cost it colour.
        whole = (("format", "pix_fmts=yuv444p"), *self._chain, ("buffersink", ""))
        for name, options in whole:
            following = graph.add(name, options.format(**large))
            last.link_to(following)
            last = following
        graph.configure()
        padded = np.pad(
            frames, ((_PADDING, _PADDING), (0, 0), (0, 0), (0, 0)), mode="edge"
        )
        made: dict[Fraction, np.ndarray] = {}
        for index, image in enumerate([*padded, None]):
            picture = None
            if image is not None:
                picture = av.VideoFrame.from_ndarray(image, format="rgb24")
                picture.pts, picture.time_base = 2 * index, Fraction(1, 2)
            graph.push(picture)
            while True:
                try:
                    ready = graph.pull()
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
                made[ready.pts * ready.time_base] = ready.to_ndarray(format="rgb24")
        return made


def fit(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """The upper left corner of frames, filled up by their edges if they are smaller."""
    frames = frames[:, :height, :width]
    missing = (height - frames.shape[1], width - frames.shape[2])
    padding = ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0))
    return np.pad(frames, padding, mode="edge")


def peak_memory() -> int:
    """Bytes this process has held at most.

    A new process inherits its parent's peak in `ru_maxrss` on Linux, so the peak of
    its own address space is taken there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(requests, replies) -> None:
    """Answers the parent's lines until they end."""

    def answer(**facts):
        replies.write(json.dumps(facts) + "\n")
        replies.flush()

    try:
        job = json.loads(requests.readline())
        kind = KINDS[job["kind"]]
        kind.prepare()
        small = np.load(job["small"])
        before = peak_memory()
        contender = kind(job, small)
        contender.run()  # compiles, and touches all memory
        answer(ready=True)
        for line in requests:
            request = line.strip()
            if request == "run":
                began = time.perf_counter()
                frames = contender.run()
                seconds = time.perf_counter() - began
                memory = peak_memory() - before
                answer(seconds=seconds, frames=frames, memory=memory)
            elif request == "predict":
                np.save(job["made"], contender.predict())
                answer(made=job["made"])
            else:
                answer(operations=contender.profile())
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        answer(error=text, kind=type(error).__name__)


if __name__ == "__main__":
    # Only lines of the protocol may reach the parent, whatever libraries print.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, channel)
