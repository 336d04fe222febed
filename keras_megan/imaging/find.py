"""Finds clips: video files and folders of images, by name.

In: a folder, or one clip. Out: a `ClipSource` for each, in natural order, with names
that tell them apart.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from keras_megan.video.errors import VideoError, reading
from keras_megan.video.io.reading.image_folder import natural_key

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".y4m", ".ts"}
)


@dataclass(frozen=True)
class ClipSource:
    """Where a clip is.

    Attributes:
        name: What tables call it.
        path: A video file or a folder of images.
    """

    name: str
    path: Path


def find_clips(root: str | Path) -> list[ClipSource]:
    """Finds the clips in a folder.

    A clip is a video file, or a folder with images in it. A folder without images is
    looked into one level further, for video files: ``root/name/anything.mp4``. ``root``
    may be a single clip itself.

    Args:
        root: Folder or video file.

    Returns:
        At least one source, in natural order of the names, which are unique.

    Raises:
        VideoError: If ``root`` does not exist or holds no clip.
    """
    root = Path(root)
    if root.is_file():
        return [ClipSource(root.stem, root)]
    if not root.is_dir():
        raise VideoError(f"Cannot read '{root}': no such file or folder.")
    entries = _entries(root)
    if _has_images(entries):
        return [ClipSource(root.resolve().name, root)]
    sources = [ClipSource(p.stem, p) for p in entries if _is_video(p)]
    for folder in (p for p in entries if p.is_dir()):
        inside = _entries(folder)
        videos = [p for p in inside if _is_video(p)]
        if _has_images(inside):
            sources.append(ClipSource(folder.name, folder))
        elif len(videos) == 1:
            sources.append(ClipSource(folder.name, videos[0]))
        else:
            sources += [ClipSource(f"{folder.name}/{p.stem}", p) for p in videos]
    if not sources:
        raise VideoError(
            f"'{root}' holds no clips. Expected video files "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}) or sub-folders of images "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})."
        )
    names = Counter(source.name for source in sources)
    unique = [
        source
        if names[source.name] == 1
        else ClipSource(str(source.path.relative_to(root)), source.path)
        for source in sources
    ]
    return sorted(unique, key=lambda source: natural_key(Path(source.name)))


def _entries(folder: Path) -> list[Path]:
    with reading(folder):
        found = [p for p in folder.iterdir() if not p.name.startswith(".")]
    return sorted(found, key=natural_key)


def _has_images(entries: list[Path]) -> bool:
    return any(p.suffix.lower() in IMAGE_SUFFIXES and p.is_file() for p in entries)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
