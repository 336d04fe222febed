"""Clips made on the spot, and a tiny runner whose results can be predicted."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def picture(index: int, height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth picture, uint8 RGB, that moves a little with its index."""
    y, x = np.mgrid[0:height, 0:width]
    red = 90 + 60 * np.sin((x + 1.5 * index) / 9)
    green = 110 + 60 * np.cos((y - index) / 7)
    blue = np.full_like(red, 40 + (3 * index) % 150)
    return np.stack([red, green, blue], -1).round().astype(np.uint8)


def write_clip(
    path: Path,
    images,
    *,
    times=None,
    rate=25,
    time_base=Fraction(1, 12800),
    codec="libx264",
    pixel_format="yuv420p",
    options=None,
    sound=None,
    sound_codec="aac",
    container_options=None,
    prepare=lambda container, stream: None,
) -> Path:
    """Encodes images (and a tone, `sound` seconds long) with exact times in ticks."""
    options = {"crf": "1"} if options is None and codec == "libx264" else options
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        stream.time_base = time_base
        tone = None
        if sound is not None:
            tone = container.add_stream(sound_codec, rate=48_000, layout="mono")
        prepare(container, stream)
        step = round(Fraction(1, rate) / time_base)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index * step if times is None else times[index]
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            _write_tone(container, tone, sound)
    return path


def _write_tone(container, stream, seconds):
    samples = np.arange(round(48_000 * seconds))
    wave = (8000 * np.sin(samples * 2 * np.pi * 440 / 48_000)).astype(np.int16)
    resampler = av.AudioResampler(stream.format.name, "mono", 48_000, frame_size=1024)
    frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = 48_000, 0
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(stream.encode(piece))
    container.mux(stream.encode(None))


class PlainRunner:
    """Repeats pixels in space and averages in time; keeps count of its calls."""

    name = "plain"
    fixed_size = None
    bytes_per_pixel = 1000
    fingerprint = "plain-1"
    notes = ()

    def __init__(self, frames_in=4, scale=4):
        self.frames_in, self.frames_out = frames_in, 2 * frames_in - 1
        self.scale = scale
        self.calls = 0

    def __call__(self, frames):
        self.calls += 1
        given = frames.astype(np.float32) / 255
        every = np.empty((self.frames_out, *given.shape[1:]), np.float32)
        every[::2] = given
        every[1::2] = (given[1:] + given[:-1]) / 2
        return every.repeat(self.scale, axis=1).repeat(self.scale, axis=2)


class Interrupted(PlainRunner):
    """Dies at a given call."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def __call__(self, frames):
        if self.calls == self.at:
            raise KeyboardInterrupt
        return super().__call__(frames)


def read_times(path: Path):
    """(times, durations' end) of a file's frames in display order, by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * stream.time_base for frame in container.decode(stream)]


def read_images(path: Path) -> list[np.ndarray]:
    """All frames of a file as uint8 RGB, by PyAV alone."""
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
