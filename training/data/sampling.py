"""Training samples as a pure function of (seed, number).

Sample n is always the same pixels, on every machine, however often training stopped in
between: nothing has to be saved to continue exactly, and the number of workers does not
change the samples. All chance comes from a counter-based generator (Philox) with the
key (seed, n).

    n -> clip            every clip once per round, in an order of the round's own
      -> 7 frames        random start and temporal stride, forwards or backwards
      -> 128x128 crop    the most rewarding of k random ones, by the clip's detail map;
                         in some samples it moves evenly, and blurs along its
                         way, as if the camera panned
      -> flips, transposition
      -> low resolution  antialiased bicubic as matrix products, rounded to 8 bits:
                         exactly what `training.evaluate` feeds to a network; other
                         kernels where the settings ask for them
      -> degradations    optional, only on the frames that are given

What a sample is for the network: given frames ``low[0::2]``, targets all of ``high``;
``low[1::2]`` are the truth for motion estimation at low resolution.
"""

import collections
import functools
from dataclasses import dataclass, field

import numpy as np

from keras_megan.imaging.resize import KERNELS, imresize
from training.data.cache import DETAIL_CELL, ClipCache
from training.data.degradations import DEGRADATIONS, Degradation
from training.data.subsets import nested_order
from training.errors import TrainingError

SCALE = 4
#: Most positions that are averaged for one blurred frame.
MOST_TAPS = 8


@dataclass(frozen=True)
class SamplingSettings:
    """How samples are drawn.

    Attributes:
        crop: Side of the high-resolution crop in pixels, a multiple of 4.
        num_inputs: T, the frames given to the network; a sample spans 2T-1.
        strides: (temporal stride, weight) pairs; strides for which a clip is too short
            are left out.
        candidates: k, the number of random crops among which the one with the most
            detail is taken; 1: plain uniform crops.
        candidate_share: Share of samples that get k candidates, the rest get one.
        most_per_group: Most clips used of one source, so that a long film does not fill
            what is learned; None: all.
        pan: Most pixels per frame that a crop moves along each axis, as far as the
            frame allows. Footage from a tripod knows no large motion of everything;
            this adds it exactly, with real pixels. 0: crops stand still.
        pan_share: Share of samples whose crop moves.
        shutter: Longest exposure of a panning crop, as a share of the time between
            frames; what moves is blurred along its way, as in a camera.
        reverse, flip, transpose: Whether each augmentation takes place, by half.
        reductions: (resize method, weight) pairs, of `keras_megan.imaging.resize`; how
            small frames are made.
        degradations: What is done to the given small frames, in this order.
    """

    crop: int = 128
    num_inputs: int = 4
    strides: tuple[tuple[int, float], ...] = ((1, 0.7), (2, 0.2), (3, 0.1))
    candidates: int = 4
    candidate_share: float = 0.5
    most_per_group: int | None = 25
    pan: int = 0
    pan_share: float = 0.5
    shutter: float = 0.0
    reverse: bool = True
    flip: bool = True
    transpose: bool = True
    reductions: tuple[tuple[str, float], ...] = (("bicubic", 1.0),)
    degradations: tuple[Degradation, ...] = field(default=())

    @property
    def span(self) -> int:
        """Frames of a sample, 2T-1."""
        return 2 * self.num_inputs - 1


class Sampler:
    """Sample n of a set of clips, for any n.

    Args:
        cache: The clips.
        settings: How samples are drawn.
        seed: Seed of everything random.
        fraction: Share of the clips that is used; smaller shares are subsets of larger
            ones and take evenly from all groups.

    Raises:
        TrainingError: If no clip is long and large enough.
    """

    def __init__(
        self,
        cache: ClipCache,
        settings: SamplingSettings,
        seed: int = 0,
        fraction: float = 1.0,
    ):
        shares = settings.pan_share, settings.shutter
        if settings.pan < 0 or not all(0 <= share <= 1 for share in shares):
            raise TrainingError(
                "pan must be at least 0, pan_share and shutter between 0 and 1; "
                f"received {settings.pan}, {shares[0]} and {shares[1]}."
            )
        if settings.crop % SCALE or settings.crop < SCALE:
            raise TrainingError(
                f"The crop must be a positive multiple of {SCALE}; received "
                f"{settings.crop}."
            )
        methods = {method for method, _ in settings.reductions}
        if not methods or methods - set(KERNELS):
            raise TrainingError(
                f"reductions must name resize methods among {', '.join(KERNELS)}; "
                f"received {settings.reductions}."
            )
        unknown = {d.name for d in settings.degradations} - set(DEGRADATIONS)
        if unknown:
            raise TrainingError(
                f"Unknown degradation {sorted(unknown)[0]!r}; choose from "
                f"{', '.join(DEGRADATIONS)}."
            )
        self.cache, self.settings, self.seed = cache, settings, int(seed)
        usable = self._usable()
        order = nested_order([cache.groups[i] for i in usable], seed)
        order = self._capped([usable[i] for i in order])
        self.clips = np.array(order[: max(1, round(fraction * len(order)))])
        self.left_out = len(cache) - len(usable)

    def _usable(self) -> list[int]:
        shapes = [self.cache.shape(i) for i in range(len(self.cache))]
        span, crop = self.settings.span, self.settings.crop
        long = [i for i, (length, _, _) in enumerate(shapes) if length >= span]
        if not long:
            raise TrainingError(
                f"All clips are shorter than the window of {span} frames; the longest "
                f"has {max(shape[0] for shape in shapes)}. Prepare longer clips "
                "(training.prepare --length) or train with fewer input frames."
            )
        large = [i for i in long if min(shapes[i][1:]) >= crop]
        if not large:
            height, width = max((shapes[i][1:] for i in long), key=min)
            raise TrainingError(
                f"The crop of {crop}x{crop} is larger than every clip's frames; the "
                f"largest are {width}x{height}. Use a smaller crop or less --downscale."
            )
        return large

    def _capped(self, clips: list[int]) -> list[int]:
        seen = collections.Counter()
        most = self.settings.most_per_group or len(clips)
        kept = []
        for clip in clips:
            group = self.cache.groups[clip]
            seen[group] += 1
            if seen[group] <= most:
                kept.append(clip)
        return kept

    def sample(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample ``number``.

        Returns:
            low: uint8 (2T-1, crop/4, crop/4, 3), the reduced frames.
            high: uint8 (2T-1, crop, crop, 3), the truth.
        """
        rounds, place = divmod(int(number), len(self.clips))
        clip = self.cache[int(self.clips[self._order(rounds)[place]])]
        random = generator(self.seed, number)
        high = np.array(self.cut(clip, random))
        settings = self.settings
        if settings.reverse and random.random() < 0.5:
            high = high[::-1]
        high = flipped_and_turned(high, random, settings.flip, settings.transpose)
        low = imresize(high, 1.0 / SCALE, method=self._reduction(random))
        for degradation in settings.degradations:
            damage = DEGRADATIONS[degradation.name]
            low[0::2] = damage(low[0::2], degradation, random)
        return low, high

    def cut(self, clip, random: np.random.Generator) -> np.ndarray:
        """2T-1 frames of a clip, cropped: (2T-1, crop, crop, 3) uint8.

        Args:
            clip: A `training.data.cache.CachedClip`.
            random: The sample's generator.
        """
        length, height, width = clip.frames.shape[:3]
        steps = self.settings.span - 1
        strides = [(s, w) for s, w in self.settings.strides if s * steps < length]
        # Any clip is long enough for stride 1, whether or not it is on the list.
        strides = strides or [(1, 1.0)]
        stride = _weighted(strides, random)
        first = int(random.integers(length - stride * steps))
        pan = self._pan(height, width, random)
        top, left = self._place(clip.detail, height, width, pan, random)
        crop = self.settings.crop
        frames = clip.frames[first : first + stride * steps + 1 : stride]
        if pan == (0, 0):
            return frames[:, top : top + crop, left : left + crop]
        exposure = random.uniform(0.0, self.settings.shutter)
        return self._panned(frames, (top, left), pan, exposure)

    def _panned(self, frames, corner, pan, exposure) -> np.ndarray:
        """Crops that move by ``pan`` per frame and are blurred while exposed."""
        crop, pan = self.settings.crop, np.array(pan)
        taps = max(1, min(MOST_TAPS, int(exposure * np.abs(pan).max())))
        # Backwards along an axis means to begin at the far end.
        corner = np.array(corner) + np.maximum(0, -pan) * len(frames)
        high = np.empty((len(frames), crop, crop, 3), np.uint8)
        for k, frame in enumerate(frames):
            seen = np.zeros((crop, crop, 3), np.uint16)
            for tap in range(taps):
                moved = np.rint(pan * (k + exposure * tap / taps)).astype(int)
                y, x = corner + moved
                seen += frame[y : y + crop, x : x + crop]
            high[k] = (seen + taps // 2) // taps
        return high

    def _pan(self, height, width, random) -> tuple[int, int]:
        """(down, right), whole pixels per frame: the new frames lie exactly between."""
        settings = self.settings
        if not settings.pan or random.random() >= settings.pan_share:
            return 0, 0
        most = [
            min(settings.pan, (size - settings.crop) // settings.span)
            for size in (height, width)
        ]
        down, right = (int(random.integers(-limit, limit + 1)) for limit in most)
        return down, right

    def _place(self, detail, height, width, pan, random) -> tuple[int, int]:
        """Upper left corner of all that a crop passes over."""
        crop, count = self.settings.crop, self.settings.candidates
        spans = [abs(speed) * self.settings.span for speed in pan]
        tops = random.integers(height - crop - spans[0] + 1, size=count)
        lefts = random.integers(width - crop - spans[1] + 1, size=count)
        if count == 1 or random.random() >= self.settings.candidate_share:
            return int(tops[0]), int(lefts[0])
        cells = max(1, crop // DETAIL_CELL)
        rows = (tops + spans[0] // 2) // DETAIL_CELL
        columns = (lefts + spans[1] // 2) // DETAIL_CELL
        scores = [
            detail[row : row + cells, column : column + cells].mean()
            for row, column in zip(rows, columns, strict=True)
        ]
        best = int(np.argmax(scores))
        return int(tops[best]), int(lefts[best])

    def _reduction(self, random) -> str:
        reductions = self.settings.reductions
        if len(reductions) == 1:  # no number is drawn: what follows stays as it was
            return reductions[0][0]
        return _weighted(reductions, random)

    def _order(self, rounds: int) -> np.ndarray:
        return round_order(self.seed, rounds, len(self.clips))


def _weighted(pairs, random: np.random.Generator):
    """One of the things in (thing, weight) pairs, by their weights."""
    things, weights = zip(*pairs, strict=True)
    shares = np.cumsum(weights) / np.sum(weights)
    choice = int(np.searchsorted(shares, random.random()))
    return things[min(choice, len(things) - 1)]


def flipped_and_turned(
    images: np.ndarray,
    random: np.random.Generator,
    flip: bool = True,
    transpose: bool = True,
) -> np.ndarray:
    """Images (..., H, W, C) upside down, mirrored and transposed, each by half.

    Args:
        images: All are treated alike.
        random: The sample's generator.
        flip: Whether they may be turned upside down, and mirrored.
        transpose: Whether rows may become columns.
    """
    if flip and random.random() < 0.5:
        images = images[..., ::-1, :, :]
    if flip and random.random() < 0.5:
        images = images[..., ::-1, :]
    if transpose and random.random() < 0.5:
        images = images.swapaxes(-3, -2)
    return np.ascontiguousarray(images)


def generator(seed: int, number: int) -> np.random.Generator:
    """The generator that belongs to sample ``number``."""
    key = np.array([seed, number], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


@functools.lru_cache(maxsize=8)
def round_order(seed: int, rounds: int, count: int) -> np.ndarray:
    """The order of ``count`` items in one round through them."""
    # Another stream than any sample's: sample numbers never reach 2**63.
    return generator(seed, 2**63 + rounds).permutation(count)
