"""Clips for the page: a good one of uneven times, a long one, and three broken ones."""

from fractions import Fraction

import av
import numpy as np

from export.web.samples import SOUND_RATE, write_clip
from keras_megan.video.demo_scene import draw_scene

TICKS = 90_000


def scene(count, width, height, begin=0.0):
    return [draw_scene(begin + n / 12, width, height) for n in range(count)]


def good(path, width, height):
    """Two takes with a cut between, frames of uneven length, and a tone.

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


def broken(folder, whole):
    """Three files that are no good -> what their sentence says."""
    text = folder / "notes.mp4"
    text.write_text("This is not a video. " * 400)
    cut = folder / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    sound = folder / "sound.mp4"
    with av.open(str(sound), "w") as container:
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, SOUND_RATE // 4), np.float32), "fltp", "mono"
        )
        frame.sample_rate = SOUND_RATE
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return {
        str(text): "not a video",
        str(cut): "cut short",
        str(sound): "no video track",
    }


def packets(path, kind):
    """The packets of the first stream of a kind: (time, bytes) of each."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        ]
