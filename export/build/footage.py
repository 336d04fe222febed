"""Footage to verify and calibrate on: a video, a folder of them, or the drawn scene.

Out: clips, uint8 (N, H, W, 3), of just the size to be reduced to the network's input.
Larger footage is shrunk by whole factors, so that a window shows more than a corner.
"""

from itertools import islice

import numpy as np

from export.errors import ExportError
from keras_megan.video.demo_scene import draw_scene
from keras_megan.imaging.find import find_clips
from keras_megan.video.io.reading.read import open_clip
from keras_megan.imaging.resize import area_downscale

#: Name of the drawn scene.
DEMO = "demo"
LENGTH, RATE = 31, 12
SCALE = 4


def load_footage(name: str | None, height: int, width: int) -> list[np.ndarray]:
    """Reads up to 31 frames of each clip.

    Args:
        name: A video file, a folder of frames, a folder of either, ``"demo"`` or None:
            the scene of `megan demo`, drawn for the purpose.
        height, width: Size of the network's input; frames must be four times as large.

    Returns:
        Clips, uint8 (N, 4 * height, 4 * width, 3) each.

    Raises:
        VideoError: If there is nothing to read.
        ExportError: If nothing is large enough.
    """
    tall, wide = height * SCALE, width * SCALE
    if name in (None, DEMO):
        return [np.stack([draw_scene(t / RATE, wide, tall) for t in range(LENGTH)])]
    clips = []
    for source in find_clips(name):
        frames = [f.image for f in islice(open_clip(source.path).frames(), LENGTH)]
        clip = _fit(np.stack(frames), tall, wide)
        if clip is not None:
            clips.append(clip)
    if not clips:
        raise ExportError(
            f"'{name}' holds no clip of at least {wide}x{tall} pixels, which is four "
            f"times {width}x{height}. Give a larger video or a smaller --height and "
            "--width."
        )
    return clips


def _fit(frames: np.ndarray, tall: int, wide: int) -> np.ndarray | None:
    """Shrinks by a whole factor, then crops to the middle; None if too small."""
    factor = min(frames.shape[1] // tall, frames.shape[2] // wide)
    if factor < 1:
        return None
    frames = area_downscale(frames, factor)
    top = (frames.shape[1] - tall) // 2
    left = (frames.shape[2] - wide) // 2
    return frames[:, top : top + tall, left : left + wide]
