"""The part of a job that is already done: a work folder that outlives a crash.

    .out.mp4.megan/
        job.json              what is being made of what: contents and settings
        segment_00000.mp4     finished, closed, on the disk
        segment_00000.json    ... says so, with a checksum: written after it and renamed
        unfinished.mp4        being written when the power failed; made again

The same command, run again, finds the same contents and settings and continues with
what has no record. A segment that no longer fits its checksum is removed and rebuilt.
Finished work of another job is never thrown away unasked: the job is refused, and the
user says `--restart`, or returns to the earlier settings.
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
    fcntl = None  # type: ignore[assignment]

SEGMENT_FRAMES = 48
_LONGEST_NAME = 255  # bytes; of most file systems


@dataclass(frozen=True)
class Segment:
    """A finished piece of the output.

    Attributes:
        first: Index of its first frame among the output's.
        ticks: When each of its frames appears, in units of the output's time base.
        delay: Number of frames by which packets are stored before they are shown.
        checksum: sha256 of its file, or of all files of its folder.
    """

    first: int
    ticks: tuple[int, ...]
    delay: int = 0
    checksum: str = ""


def checksum(path: Path) -> str:
    """sha256 of a file, or of the names and contents of all files in a folder."""
    if path.is_dir():
        files = sorted(path.iterdir())
        text = "".join(f"{file.name} {checksum(file)}\n" for file in files)
        return hashlib.sha256(text.encode()).hexdigest()
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Journal:
    """The work folder of one job. Use `open_journal`.

    Attributes:
        folder: Where it is.
        suffix: Ending of segments; "" for folders of images.
        facts: What was decided once for the whole job (the tile size).
        notes: Lines the user should see: what was found damaged.
    """

    def __init__(self, folder: Path, job: dict, suffix: str, restart: bool = False):
        self.folder = folder
        self.facts: dict = {}
        self.notes: list[str] = []
        self._job, self.suffix = job, suffix
        self._segments: dict[int, Segment] = {}
        earlier = None if restart else self._earlier()
        if earlier is None:
            for entry in folder.iterdir():
                if entry.name != "lock":
                    remove(entry)
            self._store()
            return
        changed = _changes(earlier["job"], job)
        if changed:
            raise VideoError(
                f"'{folder}' holds unfinished work that was begun differently "
                f"({changed}). Go back to that, or add --restart to start over."
            )
        self.facts = earlier["facts"]
        self._find_segments()

    @property
    def segments(self) -> list[Segment]:
        """What is finished, in order; there may be gaps until the job is done."""
        return [self._segments[number] for number in sorted(self._segments)]

    @property
    def frames_done(self) -> int:
        """Output frames in finished segments."""
        return sum(len(segment.ticks) for segment in self._segments.values())

    def has(self, number: int) -> bool:
        """Whether segment `number` is finished."""
        return number in self._segments

    def has_frames(self, frames: range) -> bool:
        """Whether all these output frames are in finished segments."""
        touched = {frames[0] // SEGMENT_FRAMES, frames[-1] // SEGMENT_FRAMES}
        numbers = range(min(touched), max(touched) + 1)
        return all(number in self._segments for number in numbers)

    def remember(self, **facts) -> None:
        """Keeps decisions for later runs of the same job."""
        self.facts.update(facts)
        self._store()

    def finish_segment(self, made: Path, segment: Segment) -> None:
        """Takes over a closed segment: to the disk, renamed, recorded."""
        number = segment.first // SEGMENT_FRAMES
        path = self._path(number, self.suffix)
        segment = Segment(segment.first, segment.ticks, segment.delay, checksum(made))
        remove(path)
        os.replace(made, path)
        sync_folder(self.folder)
        write_whole(self._path(number, ".json"), json.dumps(asdict(segment)))
        self._segments[number] = segment

    def pieces(self) -> list[tuple[Path, Segment]]:
        """All segments with their files, in order, for joining."""
        return [
            (self._path(s.first // SEGMENT_FRAMES, self.suffix), s)
            for s in self.segments
        ]

    def discard(self) -> None:
        """Removes the work folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"segment_{number:05d}{suffix}"

    def _store(self) -> None:
        text = json.dumps({"job": self._job, "facts": self.facts}, indent=1)
        write_whole(self.folder / "job.json", text)

    def _earlier(self) -> dict | None:
        """The record of an earlier run; `None` if nothing of it can be used."""
        path = self.folder / "job.json"
        if not path.exists():
            return None
        record = _read(path)
        if (
            isinstance(record, dict)
            and isinstance(record.get("job"), dict)
            and isinstance(record.get("facts"), dict)
        ):
            # Without a finished segment nothing is lost by beginning differently.
            begun = list(self.folder.glob("segment_*.json"))
            return record if begun or record["job"] == self._job else None
        self.notes.append(
            f"The record of the earlier run, '{path}', is damaged: starting over."
        )
        return None

    def _find_segments(self) -> None:
        for record in sorted(self.folder.glob("segment_*.json")):
            segment = _segment(_read(record))
            path = record.with_suffix(self.suffix)
            try:
                found = checksum(path)
            except OSError:
                found = ""
            if segment is not None and segment.checksum == found != "":
                self._segments[segment.first // SEGMENT_FRAMES] = segment
                continue
            self.notes.append(
                f"The finished segment '{path.name}' is damaged or missing: its frames "
                "are made again."
            )
            remove(record)


def _segment(record) -> Segment | None:
    try:
        return Segment(
            int(record["first"]),
            tuple(int(tick) for tick in record["ticks"]),
            int(record["delay"]),
            str(record["checksum"]),
        )
    except (TypeError, KeyError, ValueError):
        return None


def _changes(earlier: dict, job: dict) -> str:
    """The differences in words: with values for settings, else by name alone."""
    lines = []
    for name in sorted({*earlier, *job}):
        before, now = earlier.get(name), job.get(name)
        if before == now:
            continue
        named = name.startswith("--")
        lines.append(
            f"{name}: then {before}, now {now}" if named else f"{name} differs"
        )
    return "; ".join(lines)


def _read(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def work_folder(output: Path) -> Path:
    """Where the job that makes `output` keeps its work."""
    name = f".{output.name}.megan"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f".{hashlib.sha256(output.name.encode()).hexdigest()[:32]}.megan"
    return output.parent / name


@contextlib.contextmanager
def open_journal(
    output: Path, job: dict, suffix: str = "", restart: bool = False
) -> Iterator[Journal]:
    """Opens the work folder of the job that makes `output`.

    When the block is left, the folder stays if a segment is finished, so that the next
    run can continue; otherwise it is deleted. After success call `discard`.

    Args:
        output: The file or folder that is being made.
        job: Everything the result depends on, as JSON values.
        suffix: Ending of the segments' files.
        restart: Whether to throw away what an earlier run has finished.

    Raises:
        VideoError: If the folder cannot be written, another process works in it, or it
            holds finished work of a job that differs.
    """
    folder = work_folder(output)
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
        with writing(output):
            journal = Journal(folder, json.loads(json.dumps(job)), suffix, restart)
        try:
            yield journal
        finally:
            if not journal.segments:
                shutil.rmtree(folder, ignore_errors=True)
