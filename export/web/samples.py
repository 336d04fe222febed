"""Two short clips to try the page with, drawn by the project's own scene.

spokes.mp4    128x72, 12 frames a second: turning, sliding and bouncing things
two_takes.mp4 112x64: two takes of the scene with a cut between them, and a tone
              that is to come out unchanged
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from keras_megan.imaging.resize import imresize
from keras_megan.video.demo_scene import draw_scene

RATE = 12
SCALE = 4
SOUND_RATE = 48_000


@dataclass(frozen=True)
class Sample:
    """A clip that is drawn.

    Attributes:
        file, title: Its name, for the folder and for people.
        width, height: In pixels.
        moments: Moments of the scene in seconds, one for each frame.
        look: What is done to each large picture.
        tone: Hertz of its sound; None: silent.
    """

    file: str
    title: str
    width: int
    height: int
    moments: tuple[float, ...]
    look: Callable[[float, np.ndarray], np.ndarray] = lambda _, image: image
    tone: float | None = None

    def write(self, folder: Path) -> None:
        """Draws and encodes it: H.264, and AAC if there is sound."""
        size = (self.width * SCALE, self.height * SCALE)
        images = [
            imresize(self.look(time, draw_scene(time, *size)), 1 / SCALE)
            for time in self.moments
        ]
        tone = self.tone and _tone(self.tone, len(images) / RATE)
        write_clip(folder / self.file, images, RATE, tone)


def write_clip(
    path: Path,
    images: list[np.ndarray],
    rate: int | Fraction,
    sound: np.ndarray | None = None,
) -> None:
    """Encodes uint8 RGB images, and float32 samples at `SOUND_RATE` as AAC."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "12"})
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = "yuv420p"
        if sound is not None:
            audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
            frame.sample_rate = SOUND_RATE
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
        for image in images:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(video.encode(None))


def _tone(hertz: float, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    return (0.2 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def _evening(time: float, image: np.ndarray) -> np.ndarray:
    """The second take: the other way round and darker."""
    if time < 1.5:
        return image
    shade = np.array([0.45, 0.55, 0.85])
    return (image[:, ::-1] * shade + 0.5).astype(np.uint8)


def _moments(*takes: tuple[float, int]) -> tuple[float, ...]:
    return tuple(begin + n / RATE for begin, count in takes for n in range(count))


SAMPLES = (
    Sample("spokes.mp4", "Sample: spokes and bricks", 128, 72, _moments((0.0, 25))),
    Sample(
        "two_takes.mp4",
        "Sample: two takes, with sound",
        112,
        64,
        _moments((0.0, 13), (1.5, 12)),
        _evening,
        440.0,
    ),
)
