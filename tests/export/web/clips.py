"""Clips for the page: a good one, a long one, a huge one, and those it must refuse."""

from fractions import Fraction

import av
import numpy as np

from export.web.samples import SOUND_RATE, write_clip
from keras_megan.video.demo_scene import draw_scene

TICKS = 90_000
#: Of the good clip: width of a pixel over its height.
PIXEL_ASPECT = Fraction(5, 4)
#: Numbers of H.273: BT.2020's primaries and matrix, the transfer of HDR10.
HDR = {"color_primaries": 9, "colorspace": 9, "color_trc": 16}


def scene(count, width, height, begin=0.0):
    return [draw_scene(begin + n / 12, width, height) for n in range(count)]


def good(path, width, height):
    """Two takes with a cut between, frames of uneven length, wide pixels, and a tone.

    Returns:
        Its number of frames.
    """
    other = [255 - image[::-1] for image in scene(6, width, height, 1.0)]
    images = scene(7, width, height) + other
    steps = np.resize([3003, 6006, 4000], len(images))
    times = np.concatenate([[0], np.cumsum(steps[:-1])])
    length = (times[-1] + steps[-1]) / TICKS
    tone = np.sin(np.arange(round(length * SOUND_RATE)) / 17).astype(np.float32) / 4
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, options={"crf": "8"})
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, TICKS)
        video.codec_context.sample_aspect_ratio = PIXEL_ASPECT
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        sound = av.AudioFrame.from_ndarray(tone[None], "fltp", "mono")
        sound.sample_rate = SOUND_RATE
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
        for image, time in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = int(time), Fraction(1, TICKS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return len(images)


def long(path, count):
    write_clip(path, scene(12, 32, 32) * (count // 12) + scene(count % 12, 32, 32), 24)


def refused(folder, whole):
    """Files that the page must refuse -> what their sentence says."""
    text, cut, sound, old, hdr, large, noise = (
        folder / f"{name}.mp4"
        for name in ("notes", "cut", "sound", "old", "hdr", "large", "noise")
    )
    text.write_text("This is not a video. " * 400)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    media = data.index(b"mdat") + 4
    size = int.from_bytes(data[media - 8 : media - 4], "big") - 8
    noise.write_bytes(data[:media] + b"\xa5" * size + data[media + size :])
    _silence(sound)
    _encode(old, "mpeg4", scene(2, 64, 32))
    _encode(hdr, "libx264", scene(2, 64, 32), **HDR)
    _encode(large, "libx264", scene(1, 1280, 720))
    return {
        str(text): "not a video",
        str(cut): "cut short",
        str(sound): "no video track",
        str(old): "cannot decode",
        str(hdr): "HDR",
        str(large): "is 1280 x 720; the page enlarges videos of up to about 1024 x 576",
        str(noise): "is damaged: frame 0 cannot be decoded",
    }


def _silence(path):
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, SOUND_RATE // 4), np.float32), "fltp", "mono"
        )
        frame.sample_rate = SOUND_RATE
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def _encode(path, codec, images, **tags):
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=24)
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = "yuv420p"
        for name, value in tags.items():
            setattr(video.codec_context, name, value)
        for image in images:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(video.encode(None))


def huge(path, whole, size=10 * 10**9):
    """The same clip with `size` bytes of nothing inside; they take no disk."""
    data = whole.read_bytes()
    index = data.index(b"moov") - 4
    with path.open("wb") as file:
        file.write(data[:index])
        file.write((1).to_bytes(4, "big") + b"free" + size.to_bytes(8, "big"))
        file.seek(size - 16, 1)
        file.write(data[index:])


def packets(path, kind):
    """The packets of the first stream of a kind: (time, bytes) of each."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        ]
