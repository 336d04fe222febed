"""What of a job is already done: a work folder beside the output that outlives a crash.

    .out.mp4.megan/
        job.json              what is being made of what: fingerprint and settings
        segment_00000.mp4     finished, closed, on the disk
        segment_00000.json    ... says so: written after it, aside, and renamed
        segment_00001.part.mp4    in the making when the power failed; made anew

The same command run again finds the same fingerprint and settings and goes on with the
first segment that has no record. If anything that shapes the result has changed, the
folder is emptied and the job starts anew, and says why.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from keras_megan.files import sync_folder, write_whole
from keras_megan.video.errors import VideoError, writing

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class Segment:
    """A finished piece of the output.

    Attributes:
        first: Index of its first frame among the output's.
        ticks: When each of its frames appears, in units of the output's time base.
        delay: By how many frames packets are stored ahead of when they are shown.
    """

    first: int
    ticks: tuple[int, ...]
    delay: int = 0


def fingerprint(path: Path) -> str:
    """Changes when a file or a folder of images does: names, sizes, dates, samples."""
    digest = hashlib.sha256()
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file())
    for file in files:
        facts = file.stat()
        digest.update(f"{file.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    if path.is_file():
        with open(path, "rb") as stream:
            digest.update(stream.read(_SAMPLE_BYTES))
            stream.seek(max(0, path.stat().st_size - _SAMPLE_BYTES))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


class Journal:
    """The work folder of one job. Use `open_journal`.

    Attributes:
        folder: Where it is.
        segments: What is finished, in order, without gaps.
        facts: What was decided once for the whole job (the tile size).
        restarted: Why earlier work was thrown away; empty if it was not.
    """

    def __init__(self, folder: Path, job: dict, ignore_earlier: bool = False):
        self.folder = folder
        self.segments: list[Segment] = []
        self.facts: dict = {}
        self.restarted = ""
        self._job = job
        earlier = self._read(folder / "job.json")
        if earlier is not None and not ignore_earlier:
            changed = [k for k in job if earlier.get("job", {}).get(k) != job[k]]
            if not changed:
                self.facts = earlier.get("facts", {})
                self._find_segments()
                return
            self.restarted = ", ".join(changed)
        for entry in folder.iterdir():
            if entry.name != "lock":
                remove(entry)
        self._store()

    @property
    def frames_done(self) -> int:
        """Output frames in finished segments."""
        return sum(len(segment.ticks) for segment in self.segments)

    def remember(self, **facts) -> None:
        """Keeps decisions for later runs of the same job."""
        self.facts.update(facts)
        self._store()

    def segment_path(self, index: int, suffix: str) -> Path:
        """Where finished segment `index` is kept."""
        return self.folder / f"segment_{index:05d}{suffix}"

    def finish_segment(self, made: Path, suffix: str, segment: Segment) -> None:
        """Takes over a closed segment: to the disk, renamed, recorded."""
        index = len(self.segments)
        path = self.segment_path(index, suffix)
        remove(path)
        os.replace(made, path)
        sync_folder(self.folder)
        write_whole(self.segment_path(index, ".json"), json.dumps(asdict(segment)))
        self.segments.append(segment)

    def discard(self) -> None:
        """Removes the work folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _store(self) -> None:
        text = json.dumps({"job": self._job, "facts": self.facts}, indent=1)
        write_whole(self.folder / "job.json", text)

    def _find_segments(self) -> None:
        while True:
            record = self._read(self.segment_path(len(self.segments), ".json"))
            if record is None:
                return
            segment = Segment(record["first"], tuple(record["ticks"]), record["delay"])
            self.segments.append(segment)

    @staticmethod
    def _read(path: Path) -> dict | None:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def open_journal(
    output: Path, job: dict, ignore_earlier: bool = False
) -> Iterator[Journal]:
    """Opens the work folder of the job that makes `output`.

    The folder stays when the block is left, if a segment is finished: the next run
    continues. It goes if nothing was finished. After success call `discard`.

    Args:
        output: The file or folder that is being made.
        job: Everything the result depends on, as JSON values.
        ignore_earlier: Whether to start anew in any case.

    Raises:
        VideoError: If the folder cannot be written, or another process works in it.
    """
    folder = output.parent / f".{output.name}.megan"
    with writing(output):
        folder.mkdir(exist_ok=True)
        lock = open(folder / "lock", "w", encoding="utf-8")
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise VideoError(
                    f"Another process is making '{output}' right now. Wait for it, "
                    "end it, or choose another output."
                ) from error
        journal = None
        try:
            with writing(output):
                journal = Journal(folder, json.loads(json.dumps(job)), ignore_earlier)
            yield journal
        finally:
            if journal is None or not journal.segments:
                shutil.rmtree(folder, ignore_errors=True)
