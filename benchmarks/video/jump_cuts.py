"""How many cuts does the detector find, and how many does it invent?

    python -m benchmarks.video.jump_cuts FOLDER [FOLDER ...] --frames 150

Reads the video files of the folders. On each clip as it is, every frame that is found
to open a new scene is listed (look at it: it is a cut, or an error). Then pieces of 8,
15, 30 and 60 frames are left out at random places, the same ones for the same seed: the
frame after each is a jump within a take, and is found or not.
"""

import argparse
import collections
import sys
from pathlib import Path

import cv2
import numpy as np

from keras_megan.imaging.find import VIDEO_SUFFIXES
from keras_megan.video.errors import VideoError
from keras_megan.video.io.reading.read import open_clip
from keras_megan.video.scene_cuts import SceneCutDetector

GAPS = (8, 15, 30, 60)
_WIDTH = 256  # frames are kept this small; thumbnails are smaller
_LEAD, _TAIL = 10, 2  # frames before and after a jump


def read(path: Path, limit: int) -> list[np.ndarray]:
    """The first frames of a clip, small."""
    frames = []
    for frame in open_clip(path, allow_damaged=True).frames():
        height = max(8, round(_WIDTH * frame.image.shape[0] / frame.image.shape[1]))
        small = cv2.resize(frame.image, (_WIDTH, height), interpolation=cv2.INTER_AREA)
        frames.append(small)
        if len(frames) == limit:
            break
    return frames


def cuts_of(frames: list[np.ndarray]) -> list[int]:
    """Indices of the frames that open a new scene."""
    detector = SceneCutDetector()
    return [index for index, frame in enumerate(frames) if detector.is_cut(frame)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=150, help="frames of each clip")
    parser.add_argument("--tries", type=int, default=3, help="for each clip and gap")
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args(arguments)
    generator = np.random.default_rng(parsed.seed)
    found: collections.Counter = collections.Counter()
    made: collections.Counter = collections.Counter()
    paths = [p for f in parsed.folders for p in sorted(f.rglob("*"))]
    total = 0
    for path in paths:
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        try:
            frames = read(path, parsed.frames)
        except VideoError as error:
            print(error)
            continue
        cuts = cuts_of(frames)
        total += len(frames)
        if cuts:
            print(f"{path.name}: frames {cuts} of {len(frames)}")
        for gap in GAPS:
            room = len(frames) - _LEAD - gap - _TAIL
            for _ in range(parsed.tries if room > 0 else 0):
                at = _LEAD + int(generator.integers(room))
                piece = frames[at - _LEAD : at] + frames[at + gap : at + gap + _TAIL]
                if any(at - _LEAD <= cut < at + gap + _TAIL for cut in cuts):
                    continue  # not within one take
                made[gap] += 1
                found[gap] += _LEAD in cuts_of(piece)
    print(f"{total} frames")
    for gap in GAPS:
        print(f"{gap} frames left out: {found[gap]} of {made[gap]} jumps found")
    print(f"together: {sum(found.values())} of {sum(made.values())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
