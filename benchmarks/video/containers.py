"""Does a job survive whatever its input holds? Random codecs in random containers.

    python -m benchmarks.video.containers --pairs 300 --seed 1

Makes short clips with a random video codec, up to two sound codecs at odd rates and
layouts, and a container that takes them, upscales each into a random kind of output,
and looks at the result: all frames, all sound (to a tenth of a second), or a note that
says what is missing. A stand-in for the network repeats pixels: only files are tried.
Prints each job that is lost and a table; with the same seed the same pairs come.
"""

import argparse
import collections
import random
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from keras_megan.video.errors import VideoError
from keras_megan.video.upscale import UpscaleOptions, upscale

CONTAINERS = "mp4 mov mkv webm avi ts flv asf wmv mpg nut mxf 3gp ogg".split()
VIDEO = "libx264 libx265 mpeg4 mpeg2video msmpeg4v3 flv wmv2 mjpeg ffv1 libvpx".split()
VIDEO += "libvpx-vp9 libsvtav1 prores_ks huffyuv h263".split()
SOUND = "aac ac3 eac3 libmp3lame mp2 libopus flac alac tta wmav2 pcm_s16le".split()
SOUND += "pcm_s24le pcm_u8 pcm_f32le vorbis dca truehd mlp".split()
SOUND += "pcm_alaw adpcm_ms wavpack".split()
RATES = (8000, 11025, 22050, 32000, 44100, 48000, 96000)
LAYOUTS = ("mono", "stereo", "2.1", "quad", "5.1", "7.1")
OUTPUTS = (".mp4", ".mov", ".mkv", ".webm", ".m4v")
FRAMES, RATE = 12, 25
_IN_FLV = {"flv", "libx264", "aac", "libmp3lame"}


class Repeat:
    """Stands in for the network: repeats pixels, averages in time."""

    name, fingerprint, notes = "repeat", "repeat-1", ()
    frames_in, frames_out, scale = 4, 7, 4
    fixed_size, bytes_per_pixel = None, 1000

    def run(self, frames: np.ndarray) -> np.ndarray:
        given = frames.astype(np.float32)
        given *= np.float32(1 / 255 if frames.dtype == np.uint8 else 1)
        every = np.empty((self.frames_out, *given.shape[1:]), np.float32)
        every[::2], every[1::2] = given, (given[1:] + given[:-1]) / 2
        return every.repeat(self.scale, axis=1).repeat(self.scale, axis=2)


class Listener:
    """Collects notes."""

    def __init__(self):
        self.notes: list[str] = []
        self.note = self.notes.append

    def begin(self, total: int, done: int) -> None: ...
    def advance(self) -> None: ...


def picture(index: int) -> np.ndarray:
    """A picture of 176x144 that moves with its index."""
    y, x = np.mgrid[0:144, 0:176]
    waves = [np.sin((x + 3 * index) / 11), np.cos((y - 2 * index) / 13), np.sin(x / 7)]
    return np.stack([100 + 70 * wave for wave in waves], -1).astype(np.uint8)


def make(path: Path, video: str, sounds: list[tuple[str, int, str]]) -> Path:
    """Writes a clip; raises what FFmpeg raises if these do not go together."""
    with av.open(str(path), "w", options={"strict": "experimental"}) as container:
        quiet = {"x265-params": "log-level=none"} if video == "libx265" else {}
        stream = container.add_stream(video, rate=RATE, options=quiet)
        stream.width, stream.height = 176, 144
        formats = [f.name for f in stream.codec.video_formats or ()] or ["yuv420p"]
        stream.pix_fmt = "yuv420p" if "yuv420p" in formats else formats[0]
        tracks = []
        for codec, rate, layout in sounds:
            track = container.add_stream(
                codec, rate=rate, layout=layout, options={"strict": "experimental"}
            )
            track.bit_rate = 96_000
            tracks.append((track, rate, layout))
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for track, rate, layout in tracks:
            write_tone(container, track, rate, layout)
    return path


def write_tone(container, track, rate: int, layout: str) -> None:
    """Half a second of a tone."""
    count = av.AudioLayout(layout).nb_channels
    time_axis = np.arange(rate * FRAMES // RATE) / rate
    wave = (9000 * np.sin(2 * np.pi * 440 * time_axis)).astype(np.int16)
    context = track.codec_context
    if not context.is_open:
        context.open()
    resampler = av.AudioResampler(
        context.format, context.layout, rate, context.frame_size or 1024
    )
    frame = av.AudioFrame.from_ndarray(
        np.repeat(wave[None], count, 0).T.reshape(1, -1).copy(), "s16", layout
    )
    frame.sample_rate, frame.pts = rate, 0
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(track.encode(piece))
    container.mux(track.encode(None))


def heard(path: Path) -> list[float]:
    """Seconds of sound that can be decoded, for each track."""
    found = []
    with av.open(str(path)) as container:
        count = len(container.streams.audio)
    for index in range(count):
        with av.open(str(path)) as container:
            seconds = 0.0
            try:
                for frame in container.decode(audio=index):
                    seconds += frame.samples / frame.sample_rate
            except av.error.FFmpegError:
                pass
            found.append(seconds)
    return found


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def try_pair(folder: Path, chooser: random.Random) -> tuple[str, str]:
    """One job. Returns ("kept", ""), ("unmade", why) or ("lost" or "wrong", what)."""
    container = chooser.choice(CONTAINERS)
    video = chooser.choice(VIDEO)
    sounds = [
        (chooser.choice(SOUND), chooser.choice(RATES), chooser.choice(LAYOUTS))
        for _ in range(chooser.choice((0, 1, 1, 1, 1, 2)))
    ]
    suffix = chooser.choice(OUTPUTS)
    odd = {video, *(codec for codec, *_ in sounds)} - _IN_FLV
    if container == "flv" and odd:
        return "unmade", "FFmpeg's writer of .flv ends the process for other codecs"
    name = f"{video} + {sounds} in .{container} -> {suffix}"
    source, output = folder / f"in.{container}", folder / f"out{suffix}"
    try:
        make(source, video, sounds)
        given, before = frames_of(source), heard(source)
    except (av.error.FFmpegError, ValueError, OSError, IndexError) as error:
        return "unmade", str(error)
    if given == 0:
        return "unmade", "no frame"
    listener = Listener()
    try:
        summary = upscale(source, output, Repeat(), UpscaleOptions(), listener)
    except VideoError as error:
        return "lost", f"{name}: {error}"
    except Exception as error:
        return "lost", f"{name}: TRACEBACK {type(error).__name__}: {error}"
    if frames_of(output) != 2 * given - 1 or summary.frames_in != given:
        return "wrong", f"{name}: {frames_of(output)} frames from {given}"
    after = heard(output)
    explained = [n for n in listener.notes if "Left out" in n or "trying with" in n]
    if len(after) + len(explained) < len(before):
        counts = f"{len(after)} of {len(before)} tracks"
        return "wrong", f"{name}: {counts}: {listener.notes}"
    longest = max(before, default=0)
    if after and not explained and abs(max(after) - longest) > 0.1:
        return "wrong", f"{name}: {max(after):.2f} of {longest:.2f} s of sound"
    return ("kept with a note" if listener.notes else "kept"), ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=300, help="jobs to try")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many")
    parsed = parser.parse_args(arguments)
    counts: collections.Counter = collections.Counter()
    began, number = time.monotonic(), parsed.seed * 1_000_000
    while sum(counts.values()) - counts["unmade"] < parsed.pairs:
        chooser = random.Random(number)
        with tempfile.TemporaryDirectory() as folder:
            outcome, line = try_pair(Path(folder), chooser)
        counts[outcome] += 1
        if outcome in ("lost", "wrong"):
            print(f"{outcome} (seed {number}): {line}", flush=True)
        number += 1
        if time.monotonic() - began > parsed.seconds:
            break
    seconds = time.monotonic() - began
    print(f"{dict(counts)} in {seconds:.0f} s, seeds {parsed.seed * 1_000_000} and up")
    return 1 if counts["lost"] or counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
