"""Labelled images from where they are usually found.

    path, split ("train" or "val") -> LabelledImages: uint8 (N, H, W, 3) RGB, labels

The layout of a path is recognised by what it holds: the registry `SOURCES`, whose
readers are in `training.data.images.layouts`. Everything is checked before training:
files that do not decode, labels outside the classes, classes that only one split has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.data.images import layouts as layouts
from training.data.images.decoding import LabelledImages
from training.data.images.layouts import SPLITS
from training.errors import TrainingError


@dataclass(frozen=True)
class ImageSource:
    """One layout.

    Attributes:
        recognises: path -> whether it has this layout.
        read: (path, split, size) -> LabelledImages.
        classes: (path, split) -> names, or labels as text, of the split's classes, in
            order; None if the path has no such split.
    """

    recognises: Callable[[Path], bool]
    read: Callable[[Path, str, int | None], LabelledImages]
    classes: Callable[[Path, str], tuple[str, ...] | None]


def read_images(
    path: str | Path, split: str, size: int | None = None
) -> LabelledImages:
    """Reads one split of whatever layout `path` has.

    Args:
        path: File or folder.
        split: "train" or "val".
        size: Side of the images in pixels; None: as they are, all of one size.

    Returns:
        `LabelledImages`.

    Raises:
        TrainingError: One line: an unknown layout, images that do not decode or are too
            small, labels without a class, splits with different classes.
    """
    path = Path(path)
    source = _source_of(path)
    _check_classes(source, path)
    found = source.read(path, split, size)
    if not len(found.labels):
        raise TrainingError(f"The {split} split of '{path}' holds no images.")
    count = len(found.class_names)
    highest = int(found.labels.max())
    if found.labels.min() < 0 or (count and highest >= count):
        raise TrainingError(
            f"The {split} split of '{path}' has labels from {found.labels.min()} to "
            f"{highest}; expected 0 to {count - 1 if count else '...'}."
        )
    return found


def _source_of(path: Path) -> ImageSource:
    if not path.exists():
        raise TrainingError(
            f"There is nothing at '{path}'; expected a .npz pack or a folder of images."
        )
    for source in SOURCES.values():
        if source.recognises(path):
            return source
    raise TrainingError(
        f"'{path}' is not a known layout of labelled images "
        f"({', '.join(SOURCES)}): expected a .npz file with train_jpeg, train_offsets "
        "and train_labels, CIFAR-10's binary files, TinyImageNet's folder, or "
        "train/CLASS/ and val/CLASS/ with image files."
    )


def _check_classes(source: ImageSource, path: Path) -> None:
    train, val = (source.classes(path, split) for split in SPLITS)
    if train is None or val is None:
        return
    for has, lacks, names in (
        ("train", "val", (train, val)),
        ("val", "train", (val, train)),
    ):
        alone = sorted(set(names[0]) - set(names[1]))
        if alone:
            raise TrainingError(
                f"The splits of '{path}' have different classes: {has} has "
                f"{len(alone)} that {lacks} has not, such as '{alone[0]}'. Make them "
                "equal, or the scores would mean nothing."
            )


#: Name -> layout; the first that recognises a path reads it.
SOURCES: dict[str, ImageSource] = {
    "pack": ImageSource(Path.is_file, layouts.read_pack, layouts.pack_classes),
    "cifar10": ImageSource(
        layouts.holds_cifar,
        layouts.read_cifar,
        lambda path, split: layouts.CIFAR_CLASSES,
    ),
    "tiny_imagenet": ImageSource(
        lambda path: (path / "wnids.txt").is_file(),
        layouts.read_tiny,
        layouts.tiny_classes,
    ),
    "class_folders": ImageSource(
        lambda path: any(layouts.folder_classes(path, split) for split in SPLITS),
        layouts.read_folders,
        layouts.folder_classes,
    ),
}
