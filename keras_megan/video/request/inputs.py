"""Which clips are meant, and where each result goes.

    clip.mp4                    one clip
    frames/                     a folder of images: one clip
    holiday/                    a folder of videos: each of them
    "*.mkv"                     a pattern, expanded here where the shell did not

    -o out.mp4                  the result of a single clip
    -o frames                   the same as a folder of PNG images
    -o results/                 a folder for the results of one clip or many
    (nothing)                   clip.megan.mp4 beside clip.mp4

Results are named after their inputs with ".megan" before the ending. Files of such a
name are results, and not taken for inputs when a folder or a pattern is gone through.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_megan.imaging.find import VIDEO_SUFFIXES, find_clips
from keras_megan.video.errors import VideoError, reading, writing
from keras_megan.video.io.writing.codecs import SUFFIXES

MARK = ".megan"
_USUAL = ".mp4"
_PATTERN = frozenset("*?[")


@dataclass(frozen=True)
class Clip:
    """One clip and where its result goes."""

    source: Path
    output: Path


def find_inputs(names: Sequence[str | Path]) -> list[Path]:
    """All clips that are meant, each once, in the order given.

    Raises:
        VideoError: If a pattern or a folder holds no clip. That a file is missing is
            found when it is its turn.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name)
        with reading(path):
            exists, is_folder = path.exists(), path.is_dir()
        if _PATTERN & set(str(name)) and not exists:
            matches = [Path(p) for p in glob.glob(str(name), recursive=True)]
            clips = [p for p in sorted(matches) if _is_clip(p)]
            if not clips:
                raise VideoError(f"No video matches '{name}'.")
            found += clips
        elif is_folder:
            sources = [source.path for source in find_clips(path)]
            clips = [p for p in sources if p == path or not is_result(p)]
            if not clips:
                raise VideoError(f"'{path}' holds results of megan alone.")
            found += clips
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def is_result(path: Path) -> bool:
    """Whether this is the name of a result."""
    return Path(path.stem).suffix.lower() == MARK


def _is_clip(path: Path) -> bool:
    if is_result(path):
        return False
    return path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES


def place_results(
    sources: Sequence[Path],
    output: str | Path | None,
    addition: str = "",
    make_folder: bool = True,
) -> list[Clip]:
    """Decides where the result of each clip goes.

    Args:
        sources: The clips.
        output: What stands after `-o`; `None`: beside each clip.
        addition: A further part of the results' names, such as ".preview".
        make_folder: Whether to make a folder for the results that is not there.

    Raises:
        VideoError: If one file is asked for and there are several clips.
    """
    if output is None:
        return _named(sources, None, addition)
    path = Path(output)
    with writing(path):
        is_folder = path.is_dir()
        holds_results = is_folder and any(is_result(p) for p in path.iterdir())
    as_folder = holds_results or str(output).endswith(("/", "\\"))
    if len(sources) == 1 and not as_folder:
        if not path.suffix:  # a folder of images, whose name must not get an ending
            addition = addition.replace(".", "-")
        return [Clip(sources[0], path.with_name(path.stem + addition + path.suffix))]
    if path.suffix.lower() in SUFFIXES and not is_folder:
        raise VideoError(
            f"{len(sources)} clips cannot go into the one file '{path}'. Give a "
            "folder: -o FOLDER"
        )
    if make_folder:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
    return _named(sources, path, addition)


def _named(sources: Sequence[Path], folder: Path | None, addition: str) -> list[Clip]:
    clips: list[Clip] = []
    taken: set[Path] = set()
    for source in sources:
        beside = source.parent if folder is None else folder
        suffix = source.suffix.lower()
        if source.is_dir() or suffix not in SUFFIXES:
            suffix = _USUAL
        stem = source.resolve().name if source.is_dir() else source.stem
        output = beside / f"{stem}{addition}{MARK}{suffix}"
        number = 2
        while output in taken:
            output = beside / f"{stem}-{number}{addition}{MARK}{suffix}"
            number += 1
        taken.add(output)
        clips.append(Clip(source, output))
    return clips
