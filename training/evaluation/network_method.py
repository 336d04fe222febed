"""A trained network as a method: T small frames in, 2T-1 large frames out.

In: what `--model` names, loaded by `keras_megan.video.models.runner` exactly as the
upscaling tool loads it: a preset, a preset's folder, a `.keras` file. Out: a method
that runs it compiled, in one piece, or in overlapping tiles where a whole frame's
working memory would not fit (large clips; the seams are blended as the tool blends
them).
"""

import itertools
from fractions import Fraction

import numpy as np

from keras_megan.imaging.sharpness import evened, sharpness
from keras_megan.video.models.runner import Runner, load_runner
from keras_megan.video.tiles import TiledRunner, choose_tile
from training.errors import TrainingError
from training.evaluation.baselines import SCALE, Method

DEFAULT_NUM_INPUTS = 4


def with_even_sharpness(method: Method) -> Method:
    """The method with its new frames sharpened, as `--even-sharpness` of the tool."""

    def sharpened(frames: np.ndarray) -> np.ndarray:
        made = np.asarray(method(frames))
        result = made.copy()
        given = [sharpness(frame) for frame in made[::2]]
        for gap, beside in enumerate(itertools.pairwise(given)):
            result[2 * gap + 1] = evened(made[2 * gap + 1], *beside)
        return result

    return sharpened


def deblocked(method: Method) -> Method:
    """The method behind FFmpeg's deblocking filter, at its strongest setting."""

    def behind_filter(frames: np.ndarray) -> np.ndarray:
        return method(deblock(frames))

    return behind_filter


def deblock(frames: np.ndarray) -> np.ndarray:
    """Frames without the edges of a codec's 8x8 blocks, uint8 RGB (T, H, W, 3)."""
    import av

    graph = av.filter.Graph()
    height, width = frames.shape[1:3]
    source = graph.add_buffer(
        width=width, height=height, format="yuv444p", time_base=Fraction(1, 25)
    )
    strong = graph.add("deblock", "filter=strong:block=8")
    sink = graph.add("buffersink")
    source.link_to(strong)
    strong.link_to(sink)
    graph.configure()
    images = []
    for number, image in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv444p")
        frame.pts = number
        graph.push(frame)
        images.append(graph.pull().to_ndarray(format="rgb24"))
    return np.stack(images)


class ModelMethod:
    """A `Runner` as a method of the evaluation.

    Attributes:
        name: What tables call it.
        num_inputs: T.

    Raises:
        TrainingError: If the network enlarges by another factor than 4.
    """

    def __init__(self, runner: Runner):
        if runner.scale != SCALE:
            raise TrainingError(
                f"Model '{runner.name}' enlarges {runner.scale} times; this evaluation "
                f"measures {SCALE} times."
            )
        self.name = runner.name.rstrip("/").rsplit("/", 1)[-1]
        self.num_inputs = runner.frames_in
        self._runner = runner
        self._tiled: tuple[tuple[int, int], TiledRunner] | None = None

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (T, H, W, 3) -> uint8 (2T-1, 4H, 4W, 3)."""
        size = frames.shape[1:3]
        if self._tiled is None or self._tiled[0] != size:
            tile = choose_tile(self._runner, *size)
            self._tiled = (size, TiledRunner(self._runner, *size, tile))
        return self._tiled[1](frames)


def load_model(name: str) -> ModelMethod:
    """Loads a network by preset name, preset folder or ``.keras`` file.

    Raises:
        VideoError: If nothing usable is found under the name.
        TrainingError: If it enlarges by another factor than 4.
    """
    return ModelMethod(load_runner(name))
