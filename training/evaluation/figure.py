"""Crops of every method beside the truth, one picture.

Rows are crops, columns the enlarged input, the methods, the truth. For each clip there
is a crop of a new frame and one of a given frame, at the place with the most detail
and motion: that is where methods differ. The place depends on the truth alone, so it
favours nobody and is known before anything has run; only crops are kept in memory.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from keras_megan.metrics import luma, luma_psnr
from training.evaluation.baselines import SCALE
from training.evaluation.clips import Clip
from training.evaluation.scored_windows import EvaluationWindow, evaluation_windows

CROP = 96  # pixels of ground truth
ZOOM = 2
MARGIN, LABEL = 4, 22
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Place:
    """Where to look: ``frame`` of ``clip``, a square from (``top``, ``left``)."""

    clip: str
    frame: int
    given: bool
    top: int
    left: int
    side: int

    def cut(self, frame: np.ndarray) -> np.ndarray:
        """The crop of a frame (H, W, 3)."""
        return frame[
            self.top : self.top + self.side, self.left : self.left + self.side
        ].copy()


def choose_places(clip: Clip, num_inputs: int = 4) -> list[Place]:
    """A new frame's and a given frame's crop with the most detail and motion.

    Detail is the mean absolute luma gradient in the square; motion the mean absolute
    luma difference to the frames before and after. Their product is the interest.
    """
    side = min(CROP, *clip.truth.shape[1:3])
    best: dict[bool, tuple[float, Place]] = {}
    for window in evaluation_windows(len(clip.truth), num_inputs):
        for frame in window.scored:
            if not 0 < frame < len(clip.truth) - 1:
                continue
            interest = _interest(clip.truth[frame - 1 : frame + 2], side)
            top, left = np.unravel_index(np.argmax(interest), interest.shape)
            value, given = float(interest[top, left]), window.is_given(frame)
            if given not in best or value > best[given][0]:
                place = Place(clip.name, frame, given, int(top), int(left), side)
                best[given] = (value, place)
    return [best[given][1] for given in (False, True) if given in best]


def _interest(neighbours: np.ndarray, side: int) -> np.ndarray:
    before, now, after = (luma(frame).astype(np.float32) for frame in neighbours)
    detail = np.abs(cv2.Sobel(now, -1, 1, 0)) + np.abs(cv2.Sobel(now, -1, 0, 1))
    motion = np.abs(now - before) + np.abs(now - after)
    return _square_means(detail, side) * _square_means(motion, side)


def _square_means(values: np.ndarray, side: int) -> np.ndarray:
    """Mean over each square that fits: (H, W) -> (H - side + 1, W - side + 1)."""
    sums = cv2.integral(values, sdepth=cv2.CV_64F)
    return (
        sums[side:, side:]
        - sums[:-side, side:]
        - sums[side:, :-side]
        + sums[:-side, :-side]
    ) / side**2


@dataclass
class FigureMaker:
    """Collects crops while methods run, then draws them.

    Attributes:
        max_rows: Rows beyond are left out; the first clips come first.
    """

    max_rows: int = 8
    rows: list[tuple[Place, dict[str, np.ndarray]]] = field(default_factory=list)

    def begin(self, clip: Clip, num_inputs: int = 4) -> None:
        """Chooses the crops of a clip and cuts its input and truth."""
        for place in choose_places(clip, num_inputs)[: self.max_rows - len(self.rows)]:
            truth = clip.truth[place.frame]
            # A new frame has no input of its own: show what it would have been.
            small = clip.small([place.frame])[0]
            pixels = np.repeat(np.repeat(small, SCALE, axis=0), SCALE, axis=1)
            tiles = {"reduced": place.cut(pixels), "truth": place.cut(truth)}
            self.rows.append((place, tiles))

    def observe(
        self, clip: str, method: str, window: EvaluationWindow, prediction: np.ndarray
    ) -> None:
        """Cuts the crops of one prediction (2T-1, H, W, 3), see ``Method``."""
        for place, tiles in self.rows:
            if place.clip == clip and place.frame in window.scored:
                frame = prediction[place.frame - window.start]
                tiles[method] = place.cut(_to_bytes(frame))

    def draw(self) -> np.ndarray:
        """The picture, uint8 RGB."""
        return np.concatenate([self._draw_row(*row) for row in self.rows])

    def png(self) -> bytes:
        """The picture as a PNG file's bytes."""
        _, data = cv2.imencode(".png", cv2.cvtColor(self.draw(), cv2.COLOR_RGB2BGR))
        return data.tobytes()

    def _draw_row(self, place: Place, tiles: dict[str, np.ndarray]) -> np.ndarray:
        truth = tiles["truth"]
        order = ["reduced", *(n for n in tiles if n not in ("reduced", "truth"))]
        labelled = []
        for name in [*order, "truth"]:
            note = " (not seen)" if name == "reduced" and not place.given else ""
            if name not in ("reduced", "truth"):
                note = f" {float(luma_psnr(truth, tiles[name])):.1f} dB"
            labelled.append(_tile(tiles[name], f"{name}{note}"))
        row = np.concatenate(labelled, axis=1)
        kind = "given" if place.given else "new"
        title = _label(f"{place.clip}, frame {place.frame} ({kind})", row.shape[1])
        return np.concatenate([title, row])


def _to_bytes(frame: np.ndarray) -> np.ndarray:
    if frame.dtype == np.uint8:
        return frame
    return np.rint(np.clip(frame, 0.0, 1.0) * 255.0).astype(np.uint8)


def _tile(crop: np.ndarray, text: str) -> np.ndarray:
    side = CROP * ZOOM
    crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_NEAREST)
    framed = cv2.copyMakeBorder(
        crop, 0, MARGIN, MARGIN, MARGIN, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
    return np.concatenate([_label(text, framed.shape[1]), framed])


def _label(text: str, width: int) -> np.ndarray:
    strip = np.full((LABEL, width, 3), 255, np.uint8)
    scale = 0.45
    (needed, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    # Long names shrink instead of running into the next tile.
    scale *= min(1.0, (width - 2 * MARGIN) / max(needed, 1))
    cv2.putText(
        strip, text, (MARGIN, LABEL - 7), _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA
    )
    return strip
