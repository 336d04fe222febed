"""Turns any folder of videos into shards of short clips to train on.

    python -m training.prepare --videos FOLDER --out SHARDS [--manifest FILE]
        [--photos FOLDER]

Every video file and every folder of images below FOLDER is a source; Vimeo-90K's, REDS'
and Vid4's layouts are read directly. Scene cuts, still stretches and wild motion are
left out. Damaged files are skipped with a line each and counted. After an interruption
the same command continues. Photographs are kept beside the shards, for the tasks
that learn from single images. What ends up where: docs/training.md.
"""

import hashlib
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

from absl import app, flags
from rich.console import Console
from rich.progress import Progress

from keras_megan.errors import run_program
from keras_megan.files import write_json
from training.data.cutting import SegmentSettings
from training.data.photos import write_photos
from training.data.shards import CODECS, MANIFEST
from training.data.sources import Source, find_sources
from training.errors import TrainingError, saving

#: Sources that share a shard: a long video fills one alone, septuplets share.
SMALL_SOURCES_PER_SHARD = 256


@dataclass(frozen=True)
class PrepareSettings:
    """What to prepare.

    Attributes:
        videos: Folder of sources.
        out: Folder of the shards.
        manifest: What is known of the sources, or None.
        downscale: Area-shrinking where the manifest suggests none: "auto" (2 for
            compressed video of at least 480 lines), "1", "2", ...
        codec: "png" or "jpeg".
        segments: What makes a clip.
        processes: Working at once.
    """

    videos: str
    out: str
    manifest: str | None = None
    downscale: str = "auto"
    codec: str = "png"
    segments: SegmentSettings = field(default_factory=SegmentSettings)
    processes: int = 1


def prepare(settings: PrepareSettings, console: Console | None = None) -> dict:
    """Makes all shards that are not there yet, then the manifest; returns it.

    Raises:
        TrainingError: If nothing usable is found or the disk cannot be written.
    """
    console = console or Console()
    sources = find_sources(settings.videos, settings.manifest)
    out = Path(settings.out)
    with saving(out):
        out.mkdir(parents=True, exist_ok=True)
    units = [(_shard_path(out, unit, settings), unit) for unit in _units(sources)]
    waiting = [
        (path, unit) for path, unit in units if not path.with_suffix(".json").exists()
    ]
    if len(waiting) < len(units):
        console.print(f"{len(units) - len(waiting)} of {len(units)} shards are there.")
    _run(waiting, settings, console)
    manifest = _sum_up(units, settings)
    with saving(out / MANIFEST):
        write_json(out / MANIFEST, manifest)
    console.print(
        f"{manifest['clips']} clips, {manifest['frames']} frames of "
        f"{len(manifest['sources'])} sources; {manifest['skipped']} skipped as "
        f"damaged. Wrote {out / MANIFEST}",
        soft_wrap=True,
    )
    if not manifest["clips"]:
        raise TrainingError(
            f"No clip of at least {settings.segments.min_length} moving frames was "
            f"found in '{settings.videos}'. Give more footage or milder limits."
        )
    return manifest


def _units(sources: list[Source]) -> list[list[Source]]:
    """Groups sources into shards: one video each, or hundreds of folders of images."""
    units = [[source] for source in sources if not Path(source.path).is_dir()]
    folders = [source for source in sources if Path(source.path).is_dir()]
    step = SMALL_SOURCES_PER_SHARD if len(folders) > SMALL_SOURCES_PER_SHARD else 1
    units += [folders[i : i + step] for i in range(0, len(folders), step)]
    return units


def _shard_path(out: Path, unit: list[Source], settings: PrepareSettings) -> Path:
    # The name holds all that decides the content, so other settings make other shards.
    content: list = [asdict(source) for source in unit]
    content += [settings.downscale, settings.codec, asdict(settings.segments)]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return out / f"{unit[0].name.replace('/', '_')[:60]}-{digest[:10]}.tfrecord"


def _run(waiting, settings: PrepareSettings, console: Console) -> None:
    if not waiting:
        return
    # Imported by name in fresh processes: forking a process with threads can hang.
    from training.data.shard_making import convert_unit

    workers = max(1, min(settings.processes, len(waiting)))
    context = multiprocessing.get_context("spawn")
    with (
        Progress(console=console, transient=True) as progress,
        ProcessPoolExecutor(workers, mp_context=context) as pool,
    ):
        task = progress.add_task("preparing", total=len(waiting))
        running = [
            pool.submit(
                convert_unit,
                str(path),
                unit,
                settings.downscale,
                settings.codec,
                settings.segments,
            )
            for path, unit in waiting
        ]
        try:
            for done in as_completed(running):
                for record in done.result():
                    if record["error"]:
                        console.print(f"skipped: {record['error']}", soft_wrap=True)
                progress.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _sum_up(units, settings: PrepareSettings) -> dict:
    shards, sources = [], []
    for path, _ in units:
        records = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        clips = sum(record["clips"] for record in records["sources"])
        if clips:
            shards.append({"file": path.name, "clips": clips})
        sources += records["sources"]
    return {
        "settings": {
            "downscale": settings.downscale,
            "codec": settings.codec,
            "segments": asdict(settings.segments),
        },
        "clips": sum(shard["clips"] for shard in shards),
        "frames": sum(source["kept"] for source in sources),
        "skipped": sum(bool(source["error"]) for source in sources),
        "shards": shards,
        "sources": sources,
    }


_DEFAULTS = SegmentSettings()


def _define_flags() -> None:
    """Only in the program itself: flags are global, and modules import each other."""
    flags.DEFINE_string("videos", None, "Folder of videos and of folders of frames.")
    flags.DEFINE_string("out", None, "Folder for the shards.")
    flags.DEFINE_string(
        "photos", None, "Folder of photographs to keep beside the shards."
    )
    flags.DEFINE_string(
        "manifest",
        None,
        "JSON list of what is known about the sources: licence, cuts, ...",
    )
    flags.DEFINE_string(
        "downscale",
        "auto",
        "Factor by which to shrink sources, unless the manifest gives one: auto, 1, "
        "2, 3 or 4.",
    )
    flags.DEFINE_enum(
        "codec", "png", sorted(CODECS), "Format in which frames are stored."
    )
    flags.DEFINE_integer(
        "length", _DEFAULTS.length, "Largest number of frames in a clip."
    )
    flags.DEFINE_integer(
        "min_length", _DEFAULTS.min_length, "Smallest number of frames in a clip."
    )
    flags.DEFINE_float(
        "still_pixels",
        _DEFAULTS.still_pixels,
        "Share of pixels that must change between two frames.",
    )
    flags.DEFINE_float(
        "max_motion", _DEFAULTS.max_motion, "Largest mean motion in pixels per frame."
    )
    flags.DEFINE_integer("processes", os.cpu_count() or 1, "Number of processes.")


def _main() -> int:
    if not flags.FLAGS.videos or not flags.FLAGS.out:
        raise TrainingError("Expected --videos FOLDER and --out SHARDS.")
    if flags.FLAGS.downscale not in ("auto", "1", "2", "3", "4"):
        raise TrainingError(
            "--downscale must be auto, 1, 2, 3 or 4; received "
            f"{flags.FLAGS.downscale!r}."
        )
    if not 2 <= flags.FLAGS.min_length <= flags.FLAGS.length:
        raise TrainingError(
            "Expected 2 <= --min_length <= --length; received "
            f"{flags.FLAGS.min_length} and {flags.FLAGS.length}."
        )
    if flags.FLAGS.photos:
        index = write_photos(flags.FLAGS.photos, flags.FLAGS.out)
        for name in index["unreadable"]:
            print(f"skipped: '{name}' cannot be read as an image.")
        print(f"{len(index['names'])} photographs, {len(index['shapes'])} with copies.")
    prepare(
        PrepareSettings(
            videos=flags.FLAGS.videos,
            out=flags.FLAGS.out,
            manifest=flags.FLAGS.manifest,
            downscale=flags.FLAGS.downscale,
            codec=flags.FLAGS.codec,
            segments=SegmentSettings(
                flags.FLAGS.length,
                flags.FLAGS.min_length,
                flags.FLAGS.still_pixels,
                flags.FLAGS.max_motion,
            ),
            processes=flags.FLAGS.processes,
        )
    )
    return 0


if __name__ == "__main__":
    _define_flags()
    app.run(lambda argv: run_program("prepare", _main))
