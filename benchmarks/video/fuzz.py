"""Is any damaged file accepted as whole, or does one end a job by a traceback or never?

    python -m benchmarks.video.fuzz --files 2000 --seed 1

Makes small whole clips in several containers, damages copies of them (cuts, flipped and
zeroed bytes, removed, repeated and swapped pieces, tails of other files), and upscales
each with a stand-in for the network. Every job must end within its time in one of these
ways: an error of one line that names the file; a result with every frame that the whole
clip has; or a shorter one that is doubted in a note (exit code 2). A frame that decodes
to a wrong picture without the decoder noticing cannot be told from the file.

Jobs run in a process that is started for some of them and ended if one hangs. Prints a
line with its seed for each file that goes wrong, and a table.
"""

import argparse
import collections
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.video.containers import FRAMES, Listener, Repeat, frames_of, make
from keras_megan.video.errors import VideoError
from keras_megan.video.upscale import UpscaleOptions, upscale

CLIPS = {
    "a.mp4": ("libx264", [("aac", 44100, "stereo")]),
    "b.mkv": ("libx264", [("aac", 48000, "mono")]),
    "c.webm": ("libvpx-vp9", [("libopus", 48000, "stereo")]),
    "d.avi": ("mpeg4", [("libmp3lame", 44100, "stereo")]),
    "e.ts": ("libx264", [("aac", 48000, "stereo")]),
    "f.flv": ("libx264", [("aac", 44100, "mono")]),
    "g.mov": ("prores_ks", [("pcm_s16le", 48000, "stereo")]),
    "h.mpg": ("mpeg2video", [("mp2", 44100, "stereo")]),
    "i.mkv": ("ffv1", []),
    "j.wmv": ("wmv2", [("wmav2", 44100, "stereo")]),
    "k.mp4": ("libx265", []),
    "l.gif": ("gif", []),
}
_PATIENCE = 60  # seconds for one job
_WAITING = 15  # times as long, if the process computes nothing: it waits for a CPU
_BATCH = 25  # jobs of one process


def flip(data: bytearray, chooser: random.Random) -> None:
    for _ in range(chooser.choice((1, 4, 30, 200))):
        data[chooser.randrange(len(data))] ^= chooser.randrange(1, 256)


def cut(data: bytearray, chooser: random.Random) -> None:
    lost = chooser.choice((1, 7, 50, 188, 400, len(data) // 10, len(data) // 2))
    del data[max(1, len(data) - lost) :]


def blank(data: bytearray, chooser: random.Random) -> None:
    start, size = chooser.randrange(len(data)), chooser.choice((16, 188, 1000, 5000))
    data[start : start + size] = bytes(len(data[start : start + size]))


def drop(data: bytearray, chooser: random.Random) -> None:
    start, size = chooser.randrange(len(data)), chooser.choice((1, 188, 564, 3000))
    del data[start : start + size]
    if not data:
        data.append(0)


def repeat(data: bytearray, chooser: random.Random) -> None:
    start, size = chooser.randrange(len(data)), chooser.choice((4, 188, 2000))
    data[start:start] = data[start : start + size]


def swap(data: bytearray, chooser: random.Random) -> None:
    size = chooser.choice((4, 188, 1000))
    a, b = (chooser.randrange(len(data)) for _ in range(2))
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def flip_header(data: bytearray, chooser: random.Random) -> None:
    for _ in range(chooser.choice((1, 3, 10))):
        data[chooser.randrange(min(len(data), 1500))] = chooser.randrange(256)


def flip_tail(data: bytearray, chooser: random.Random) -> None:
    size = min(len(data), 2500)
    for _ in range(chooser.choice((1, 3, 10))):
        data[len(data) - 1 - chooser.randrange(size)] = chooser.randrange(256)


DAMAGES = (flip, cut, blank, drop, repeat, swap, flip_header, flip_tail)


def damaged(folder: Path, seed: int) -> tuple[Path, str, str]:
    """Writes the damaged file of a seed; returns it, the whole one, the damage."""
    chooser = random.Random(seed)
    name = chooser.choice(list(CLIPS))
    damage = chooser.choice(DAMAGES)
    data = bytearray((folder / name).read_bytes())
    damage(data, chooser)
    path = folder / f"damaged{Path(name).suffix}"
    path.write_bytes(bytes(data))
    return path, name, damage.__name__


def try_file(folder: Path, seed: int, counts: dict[str, int]) -> tuple[str, str]:
    """One job. Returns how it ended and a line if that was wrong."""
    path, name, damage = damaged(folder, seed)
    output = folder / "result.mkv"
    output.unlink(missing_ok=True)
    options = UpscaleOptions(codec="h264", crf=40, preset="ultrafast", restart=True)
    try:
        summary = upscale(path, output, Repeat(), options, Listener())
    except VideoError as error:
        if str(path) not in str(error) and str(output) not in str(error):
            return "nameless", f"{name}, {damage}: {error}"
        return "refused", ""
    except Exception as error:
        return "traceback", f"{name}, {damage}: {type(error).__name__}: {error}"
    if frames_of(output) != summary.frames_out:
        return "wrong", f"{name}, {damage}: {frames_of(output)} frames in the result"
    if summary.frames_in >= counts[name]:
        return "whole" if not summary.doubts else "whole, doubted", ""
    if summary.doubts:
        return "short, doubted", ""
    if any("declares" in note or "not to show" in note for note in summary.notes):
        return "short, noted", ""
    return "silent", f"{name}, {damage}: {summary.frames_in} of {counts[name]} frames"


class _Clock:
    """Tells a process that hangs from one that others leave no time to compute."""

    def __init__(self, pid: int | None):
        self._stat = Path(f"/proc/{pid}/stat")
        self._began, self._computed = time.monotonic(), self._cpu_seconds()

    def _cpu_seconds(self) -> float:
        try:
            fields = self._stat.read_text().rpartition(")")[2].split()
        except OSError:  # no Linux, or ended
            return time.monotonic()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def is_over(self) -> bool:
        """Whether the process has had enough time for anything it could do."""
        computed = self._cpu_seconds() - self._computed
        waited = time.monotonic() - self._began
        return computed > _PATIENCE or waited > _PATIENCE * _WAITING


def _work(folder: str, seeds: list[int], counts: dict[str, int], results) -> None:
    for seed in seeds:
        results.put((seed, "begin", ""))
        results.put((seed, *try_file(Path(folder), seed, counts)))


def run(seeds: list[int], counts: dict[str, int], folder: Path, report) -> None:
    """Tries seeds in batches; a process that hangs or dies is one wrong file."""
    context = multiprocessing.get_context("spawn")
    waiting = list(seeds)
    while waiting:
        batch = waiting[:_BATCH]
        results = context.Queue()
        process = context.Process(
            target=_work, args=(str(folder), batch, counts, results), daemon=True
        )
        process.start()
        current, done = batch[0], 0
        clock = _Clock(process.pid)
        while done < len(batch):
            try:
                seed, outcome, line = results.get(timeout=1)
            except Exception:
                if process.is_alive() and not clock.is_over():
                    continue
                report(current, "hang" if process.is_alive() else "died", "")
                done = batch.index(current) + 1
                break
            clock, current = _Clock(process.pid), seed
            if outcome != "begin":
                report(seed, outcome, line)
                done += 1
        process.kill()
        process.join()
        waiting = waiting[done:]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many")
    parsed = parser.parse_args(arguments)
    outcomes: collections.Counter = collections.Counter()

    def report(seed: int, outcome: str, line: str) -> None:
        outcomes[outcome] += 1
        if outcome in BAD:
            print(f"{outcome} (seed {seed}): {line}", flush=True)

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for clip, (video, sounds) in CLIPS.items():
            make(folder / clip, video, sounds)
        counts = {clip: frames_of(folder / clip) for clip in CLIPS}
        if set(counts.values()) != {FRAMES}:
            print(f"the whole clips are not as meant: {counts}")
            return 1
        last = parsed.seed + parsed.files
        for first in range(parsed.seed, last, _BATCH):
            if time.monotonic() - began < parsed.seconds:
                run(
                    list(range(first, min(first + _BATCH, last))),
                    counts,
                    folder,
                    report,
                )
    print(f"{sum(outcomes.values())} files: {dict(outcomes)}")
    print(f"{time.monotonic() - began:.0f} s, seeds {parsed.seed} and up")
    return 1 if BAD & set(outcomes) else 0


BAD = {"nameless", "traceback", "wrong", "silent", "hang", "died"}

if __name__ == "__main__":
    sys.exit(main())
