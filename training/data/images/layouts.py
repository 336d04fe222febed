"""The layouts in which labelled images are usually found, one reader for each.

    (path, split, size) -> LabelledImages          `read_...`
    (path, split) -> names of the split's classes  `..._classes`; None: no such split

    pack           .npz with SPLIT_jpeg (all files' bytes, concatenated), SPLIT_offsets
                   (n + 1), SPLIT_labels and, if it has them, class_names
    cifar10        the binary version: data_batch_1.bin to _5.bin, test_batch.bin
    tiny_imagenet  wnids.txt, train/WNID/images/*.JPEG, val/val_annotations.txt
    class_folders  train/CLASS/* and val/CLASS/*, any image files

The split that is scored on may be called val, validation or test. Nothing is read
through pickle.

Sources: Krizhevsky, 2009 (CIFAR-10: a record is one byte of label and 3072 bytes of
red, green and blue planes); Le and Yang, 2015 (TinyImageNet).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.data.images.decoding import LabelledImages, decode_all, fit_size
from training.errors import TrainingError

#: Split -> what it may be called.
SPLITS = {"train": ("train",), "val": ("val", "validation", "test")}
_SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_CIFAR_SIDE = 32
CIFAR_FILES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "val": ("test_batch.bin",),
}
CIFAR_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


# === Packs ============================================================================
def _open_pack(path: Path, split: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            named = [s for s in SPLITS[split] if f"{s}_labels" in file.files]
            name = named[0] if named else split
            kinds = ("jpeg", "offsets", "labels")
            found = {kind: file[f"{name}_{kind}"] for kind in kinds}
            if "class_names" in file.files:
                found["class_names"] = file["class_names"]
    except Exception as error:  # zip, header and key errors of many types
        raise TrainingError(
            f"Cannot read '{path}': expected a .npz file with {split}_jpeg, "
            f"{split}_offsets and {split}_labels ({type(error).__name__}: {error})."
        ) from error
    return found


def read_pack(path: Path, split: str, size: int | None) -> LabelledImages:
    """A .npz file."""
    pack = _open_pack(path, split)
    offsets, labels = pack["offsets"].astype(np.int64), pack["labels"]
    inside = len(offsets) and offsets[0] >= 0 and offsets[-1] <= len(pack["jpeg"])
    if len(offsets) != len(labels) + 1 or not inside or np.any(np.diff(offsets) < 0):
        raise TrainingError(
            f"'{path}' is inconsistent: its {split} split has {len(labels)} labels and "
            f"{len(offsets)} offsets into {len(pack['jpeg'])} bytes; expected one "
            "offset more than labels, all inside, in order."
        )
    pieces = (
        pack["jpeg"][first:last]
        for first, last in zip(offsets, offsets[1:], strict=False)
    )
    images = decode_all(pieces, str, size, f"the {split} split of '{path}'")
    names = tuple(str(name) for name in pack.get("class_names", ()))
    return LabelledImages(images, labels.astype(np.int64), names)


def pack_classes(path: Path, split: str) -> tuple[str, ...] | None:
    """The labels that the split uses, as text."""
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in SPLITS[split]:
                if f"{name}_labels" in file.files:
                    return tuple(str(x) for x in np.unique(file[f"{name}_labels"]))
    except Exception:  # what is wrong is said when the split is read
        return None
    return None


# === CIFAR-10 =========================================================================
def holds_cifar(path: Path) -> bool:
    """Whether the folder holds CIFAR-10's binary files."""
    return any((path / names[0]).is_file() for names in CIFAR_FILES.values())


def read_cifar(path: Path, split: str, size: int | None) -> LabelledImages:
    """CIFAR-10's binary files."""
    record = 1 + 3 * _CIFAR_SIDE**2
    parts = []
    for name in CIFAR_FILES[split]:
        try:
            data = np.fromfile(path / name, np.uint8)
        except OSError as error:
            raise TrainingError(
                f"Cannot read '{path / name}' of CIFAR-10's binary version ({error})."
            ) from error
        if len(data) % record:
            raise TrainingError(
                f"'{path / name}' has {len(data)} bytes, which is not a multiple of "
                f"{record}; it is cut off or not CIFAR-10's binary version."
            )
        parts.append(data.reshape(-1, record))
    records = np.concatenate(parts)
    planes = records[:, 1:].reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE)
    images = planes.transpose(0, 2, 3, 1)
    where = f"the {split} split of '{path}'"
    images = [fit_size(image, size, str(i), where) for i, image in enumerate(images)]
    labels = records[:, 0].astype(np.int64)
    return LabelledImages(np.stack(images), labels, CIFAR_CLASSES)


# === Folders ==========================================================================
def _read_files(files: Sequence[tuple[Path, int]], names, split, path, size):
    images = decode_all(
        (_bytes_of(file) for file, _ in files),
        lambda number: f"'{files[number][0]}'",
        size,
        f"the {split} split of '{path}'",
    )
    labels = np.asarray([label for _, label in files], np.int64)
    return LabelledImages(images, labels, tuple(names))


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TrainingError(f"Cannot read '{file}' ({error}).") from error


def _image_files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in _SUFFIXES)


def read_folders(path: Path, split: str, size: int | None) -> LabelledImages:
    """SPLIT/CLASS/any image files."""
    names, root = folder_classes(path, split), _split_folder(path, split)
    if not names:
        raise TrainingError(f"'{path}' has no folder '{split}' with classes in it.")
    files = []
    for label, name in enumerate(names):
        found = _image_files(root / name)
        if not found:
            raise TrainingError(f"The class folder '{root / name}' holds no images.")
        files += [(file, label) for file in found]
    return _read_files(files, names, split, path, size)


def folder_classes(path: Path, split: str) -> tuple[str, ...] | None:
    """The names of the split's folders."""
    root = _split_folder(path, split)
    if not root.is_dir():
        return None
    return tuple(sorted(f.name for f in root.iterdir() if f.is_dir()))


def _split_folder(path: Path, split: str) -> Path:
    found = [path / name for name in SPLITS[split] if (path / name).is_dir()]
    return found[0] if found else path / split


def read_tiny(path: Path, split: str, size: int | None) -> LabelledImages:
    """TinyImageNet's folder."""
    names = (path / "wnids.txt").read_text(encoding="utf-8").split()
    if split == "train":
        files = [
            (file, label)
            for label, name in enumerate(names)
            for file in _image_files(path / "train" / name)
        ]
    else:
        label_of = {name: label for label, name in enumerate(names)}
        files = [
            (path / "val" / "images" / file, label_of[name])
            for file, name in _annotations(path)
            if name in label_of
        ]
    return _read_files(files, names, split, path, size)


def _annotations(path: Path) -> list[tuple[str, str]]:
    """(file, class) of every validation image, from the first two columns."""
    file = path / "val" / "val_annotations.txt"
    rows = [line.split("\t") for line in _bytes_of(file).decode("utf-8").splitlines()]
    if any(len(row) < 2 for row in rows):
        raise TrainingError(
            f"'{file}' is not one of TinyImageNet's lists: expected a file's name and "
            "a class in every line, separated by tabs."
        )
    return [(row[0], row[1].strip()) for row in rows]


def tiny_classes(path: Path, split: str) -> tuple[str, ...] | None:
    """The classes for which there are images."""
    if split == "train":
        return folder_classes(path, split)
    if not (path / "val" / "val_annotations.txt").is_file():
        return None
    return tuple(sorted({name for _, name in _annotations(path)}))
