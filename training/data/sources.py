"""Finds the clips in a folder to train on, whatever its layout.

In: a folder. Out: a list of `Source`s, each a video file or a folder of images, with
what a manifest knows about it. The layouts, tried in this order:

    Vimeo-90K   sequences/00001/0001/im1.png ... and sep_trainlist.txt: the listed ones
    Vid4        GT/calendar/*.png beside BIx4/...: only the ground truth
    any other   every video file and every folder of images at any depth; this includes
                REDS (train_sharp/000/00000000.png)

A manifest is a JSON list of records. ``item`` is the path of a file or folder; its last
component is the source's name. Optional: ``licence``, ``suggested_area_downscale`` and
``flagged_transitions_heuristic``, frame numbers at which a new scene begins.

Source: Xue et al., Video Enhancement with Task-Oriented Flow, IJCV 2019 (Vimeo-90K);
Nah et al., NTIRE 2019 (REDS); Liu and Sun, CVPR 2011 (Vid4).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keras_megan.imaging.find import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from keras_megan.video.errors import reading
from keras_megan.video.io.reading.image_folder import natural_key
from training.errors import TrainingError


@dataclass(frozen=True)
class Source:
    """A video file or a folder of images.

    Attributes:
        name: Its path below the root, unique in the data set.
        path: Where it is.
        group: What it belongs to; nested subsets take evenly from all groups.
        licence: The licence in the manifest's words, or "".
        downscale: Factor the manifest suggests; None: decided by the settings.
        cuts: Frames that open a new scene, beside those the detector finds.
    """

    name: str
    path: str
    group: str
    licence: str = ""
    downscale: int | None = None
    cuts: tuple[int, ...] = ()


def find_sources(root: str | Path, manifest: str | Path | None = None) -> list[Source]:
    """Finds all sources in a folder, in natural order of their names.

    Args:
        root: The folder.
        manifest: JSON file with what is known of them; records for clips that are not
            in the folder are ignored.

    Raises:
        TrainingError: If the folder does not exist or holds nothing to train on, or the
            manifest cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise TrainingError(
            f"Cannot read '{root}': expected a folder of videos or frame folders."
        )
    paths = next(paths for layout in LAYOUTS if (paths := layout(root)) is not None)
    if not paths:
        raise TrainingError(
            f"'{root}' holds nothing to train on. Expected video files "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}) or folders of images "
            f"({', '.join(sorted(IMAGE_SUFFIXES))}) at any depth."
        )
    known = _read_manifest(Path(manifest)) if manifest else {}
    return [_describe(root, path, known) for path in paths]


def _vimeo(root: Path) -> list[Path] | None:
    listing = root / "sep_trainlist.txt"
    if not listing.is_file():
        return None
    with reading(listing):
        names = [line.strip() for line in listing.read_text().splitlines()]
    folders = [root / "sequences" / name for name in names if name]
    return [folder for folder in folders if folder.is_dir()]


def _vid4(root: Path) -> list[Path] | None:
    truth = root / "GT"
    return _anything(truth) if truth.is_dir() else None


def _anything(root: Path) -> list[Path]:
    found = set()
    with reading(root):
        for path in root.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
            if hidden or not path.is_file():
                continue
            suffix = path.suffix.lower()
            if suffix in VIDEO_SUFFIXES:
                found.add(path)
            elif suffix in IMAGE_SUFFIXES:
                found.add(path.parent)
    return sorted(found, key=lambda path: [natural_key(Path(p)) for p in path.parts])


#: Each gives the paths of a folder that has its layout, None for any other folder.
LAYOUTS: list[Callable[[Path], list[Path] | None]] = [_vimeo, _vid4, _anything]


def _describe(root: Path, path: Path, known: dict) -> Source:
    relative = path.relative_to(root)
    parts = relative.parts or (root.resolve().name,)
    # The manifest may name the file or any folder above it.
    record = next((known[part] for part in reversed(parts) if part in known), {})
    stem = known.get(path.stem, {})
    record = record or stem
    return Source(
        name="/".join(parts),
        path=str(path),
        group=parts[0],
        licence=str(record.get("licence", "")),
        downscale=record.get("suggested_area_downscale"),
        cuts=tuple(
            cut
            for cut in record.get("flagged_transitions_heuristic", ())
            if isinstance(cut, int)
        ),
    )


def _read_manifest(path: Path) -> dict[str, dict]:
    with reading(path):
        text = path.read_text(encoding="utf-8")
    try:
        records = json.loads(text)
        return {Path(record["item"]).name: record for record in records}
    except (ValueError, TypeError, KeyError) as error:
        raise TrainingError(
            f"The manifest '{path}' must be a JSON list of objects with an 'item' "
            f"each; it could not be read as such ({type(error).__name__}: {error})."
        ) from error
