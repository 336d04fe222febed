"""How much compression has damaged a clip.

Three measures, from the surest down:

- the *quantiser*: H.264, MPEG-1, MPEG-2 and VP9 tell with every picture how coarsely it
  was stored, in units of their own;
- *bits per pixel* of the whole file, for codecs that tell no quantiser;
- *blockiness*: how much larger steps between neighbouring pixels are where blocks of
  8x8 pixels meet. It sees what an earlier compression left in a file that has been
  stored well since, and in folders of JPEG images.

Beyond a limit `megan_edge_real`, taught on such footage, comes closer to the truth than
`megan_edge`. The limits were measured on small frames (`benchmarks.video.model_choice`,
docs/evaluation.md); large ones take fewer bits per pixel for the same quality.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
from av.sidedata.encparams import VideoEncParams

from keras_megan.video.errors import VideoError, reading
from keras_megan.video.io.opening import main_video_stream, open_input
from keras_megan.video.io.reading.image_folder import image_files
from keras_megan.video.io.reading.probe import VideoInfo

#: Pictures that are looked at.
PICTURES = 8
BLOCK = 8
#: Codec -> largest quantiser of footage that counts as clean.
QUANTISER_LIMITS = {
    "h264": 31.0,
    "mpeg1video": 8.5,
    "mpeg2video": 8.5,
    "vp9": 145.0,
}
#: Codec -> fewest bits per pixel of footage that counts as clean. Measured for HEVC,
#: for the others scaled by how many bits they need beside MPEG-2, H.264 and HEVC.
BITS_LIMITS = {
    "hevc": 0.34,
    "av1": 0.25,
    "vp8": 0.4,
    "mpeg4": 0.7,
    "msmpeg4v2": 0.7,
    "msmpeg4v3": 0.7,
    "wmv1": 0.7,
    "wmv2": 0.7,
    "wmv3": 0.4,
    "vc1": 0.4,
    "theora": 0.6,
    "flv1": 0.7,
    "h263": 0.7,
    "rv40": 0.4,
}
#: Pixels of the frames that these were measured on, and how the bits per pixel that
#: HEVC takes at one quality change with the number of pixels.
MEASURED_PIXELS = 27_000
BITS_EXPONENT = -0.22
#: Largest blockiness of footage that counts as clean, where nothing else is known.
BLOCKINESS_LIMIT = 1.2


@dataclass(frozen=True)
class Footage:
    """What was measured of a clip.

    Attributes:
        codec: FFmpeg's name; empty for a folder of images.
        quantiser: Mean over the pictures looked at, in the codec's unit; `None` where
            its decoder tells none.
        bits: Bits per pixel of the file; `None` for a folder.
        pixels: Pixels of a picture.
        blockiness: 1 where steps between pixels are alike everywhere.
    """

    codec: str
    quantiser: float | None
    bits: float | None
    pixels: int
    blockiness: float

    @property
    def damage(self) -> str:
        """Which measure is beyond its limit, in words; empty for clean footage."""
        limit = QUANTISER_LIMITS.get(self.codec)
        if limit is not None and self.quantiser is not None:
            if self.quantiser > limit:
                return f"{self.codec} with a quantiser of {self.quantiser:.0f}"
        elif self.bits is not None and self.bits < self._fewest_bits:
            return f"{self.codec} with {self.bits:.2f} bits per pixel"
        if self.blockiness > BLOCKINESS_LIMIT:
            return (
                f"edges between blocks {self.blockiness:.2f} times as strong as others"
            )
        return ""

    @property
    def _fewest_bits(self) -> float:
        limit = BITS_LIMITS.get(self.codec, 0.0)
        return limit * (self.pixels / MEASURED_PIXELS) ** BITS_EXPONENT


def look_at(info: VideoInfo) -> Footage:
    """Measures a clip, by a few pictures from its middle.

    Raises:
        VideoError: If not one picture can be read.
    """
    pixels = info.width * info.height
    if info.path.is_dir():
        images = list(_middle_images(info.path))
        return Footage("", None, None, pixels, blockiness(images))
    quantisers, images = [], []
    with reading(info.path):
        for frame in _middle_frames(info):
            images.append(frame.to_ndarray(format="gray"))
            told = _quantiser(frame)
            if told is not None:
                quantisers.append(told)
    mean = float(np.mean(quantisers)) if quantisers else None
    bits = info.bits_per_pixel
    return Footage(info.codec, mean, bits, pixels, blockiness(images))


def blockiness(images: list[np.ndarray]) -> float:
    """Mean step across the edges of blocks over the mean step elsewhere.

    Args:
        images: Grey pictures (H, W), uint8. Blocks are counted from the upper left.

    Returns:
        1 where blocks do not show, and for pictures without any steps.
    """
    edges = others = 0.0
    for image in images:
        for picture in (image, image.T):
            steps = np.abs(np.diff(picture.astype(np.float32), axis=1)).mean(axis=0)
            at_edge = np.arange(1, len(steps) + 1) % BLOCK == 0
            if at_edge.any():
                edges += float(steps[at_edge].mean())
                others += float(steps[~at_edge].mean())
    return edges / others if others > 0 else 1.0


def _quantiser(frame: av.VideoFrame) -> float | None:
    """The mean quantiser of a picture, if its decoder tells it."""
    for data in frame.side_data:
        if isinstance(data, VideoEncParams):
            try:
                return float(np.mean(data.qp_map()))
            except RuntimeError:  # one for the whole picture, or blocks of many sizes
                return float(data.qp)
    return None


def _middle_frames(info: VideoInfo) -> list[av.VideoFrame]:
    """The pictures after the key frame before a file's middle, or the first ones."""
    for moment in (info.start + info.duration / 2, None):
        with open_input(info.path) as container:
            stream = main_video_stream(container, info.path)
            stream.codec_context.options = {"export_side_data": "venc_params"}
            try:
                if moment is not None:
                    container.seek(int(moment / stream.time_base), stream=stream)
                frames = list(islice(container.decode(stream), PICTURES))
            except av.error.FFmpegError:
                continue  # not every format can be wound forward
            if frames:
                return frames
    raise VideoError(f"'{info.path}': not one frame can be decoded.")


def _middle_images(folder: Path) -> Iterator[np.ndarray]:
    files = image_files(folder)
    first = max(0, len(files) // 2 - PICTURES // 2)
    for path in files[first : first + PICTURES]:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is not None:
            yield image
