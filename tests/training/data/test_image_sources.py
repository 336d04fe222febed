"""Every layout gives the same images and labels, and every damage is one clear line."""

import cv2
import numpy as np
import pytest

from training.data.images.sources import SOURCES, read_images
from training.errors import TrainingError
from training.tasks.images import ImageTask, ImageValidator

SIDE, CLASSES = 32, ("n01", "n02", "n03")
COUNTS = {"train": 9, "val": 6}


def pictures(split, side=SIDE):
    """uint8 (N, side, side, 3) RGB, channels unlike each other, and labels."""
    random = np.random.default_rng(len(split))
    count = COUNTS[split]
    images = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    images[..., 0] //= 4  # little red: swapped channels would show
    return images, np.arange(count) % len(CLASSES)


def coded(image, kind=".png"):
    return cv2.imencode(kind, image[..., ::-1])[1].tobytes()


def write_pack(root, names=("train", "val"), **changed):
    arrays = {"class_names": np.array(CLASSES)}
    for split, name in zip(COUNTS, names, strict=True):
        images, labels = pictures(split)
        files = [np.frombuffer(coded(image), np.uint8) for image in images]
        arrays[f"{name}_jpeg"] = np.concatenate(files)
        arrays[f"{name}_offsets"] = np.cumsum([0] + [len(file) for file in files])
        arrays[f"{name}_labels"] = labels
    path = root / "images.npz"
    np.savez(path, **{**arrays, **changed})
    return path


def write_folders(root, names=("train", "val")):
    for split, name in zip(COUNTS, names, strict=True):
        for number, (image, label) in enumerate(zip(*pictures(split), strict=True)):
            folder = root / name / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:03d}.png").write_bytes(coded(image))
    return root


def write_tiny(root):
    (root / "val" / "images").mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(CLASSES))
    for number, (image, label) in enumerate(zip(*pictures("train"), strict=True)):
        folder = root / "train" / CLASSES[label] / "images"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{CLASSES[label]}_{number}.JPEG").write_bytes(coded(image))
    lines = []
    for number, (image, label) in enumerate(zip(*pictures("val"), strict=True)):
        (root / "val" / "images" / f"val_{number}.JPEG").write_bytes(coded(image))
        lines.append(f"val_{number}.JPEG\t{CLASSES[label]}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return root


def write_cifar(root):
    def records(images, labels):
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        data = np.concatenate([labels[:, None].astype(np.uint8), planes], 1)
        return data.tobytes()

    images, labels = pictures("train")
    for number in range(5):
        some = slice(2 * number, 2 * number + 2 if number < 4 else None)
        file = root / f"data_batch_{number + 1}.bin"
        file.write_bytes(records(images[some], labels[some]))
    (root / "test_batch.bin").write_bytes(records(*pictures("val")))
    return root


WRITERS = {
    "pack": write_pack,
    "cifar10": write_cifar,
    "tiny_imagenet": write_tiny,
    "class_folders": write_folders,
}


def as_set(images, labels):
    pairs = zip(images, labels, strict=True)
    return sorted((image.tobytes(), int(label)) for image, label in pairs)


def test_every_layout_is_tested():
    assert set(WRITERS) == set(SOURCES)


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("split", COUNTS)
def test_each_layout_gives_the_images_and_labels_that_were_written(
    layout, split, tmp_path
):
    path = WRITERS[layout](tmp_path)
    assert [name for name, s in SOURCES.items() if s.recognises(path)][0] == layout
    found = read_images(path, split, SIDE)
    images, labels = pictures(split)
    assert found.images.dtype == np.uint8 and found.labels.dtype == np.int64
    # Folders come class by class, so the order may differ.
    assert as_set(found.images, found.labels) == as_set(images, labels)
    if layout != "cifar10":
        assert found.class_names == CLASSES


def test_the_scored_split_may_be_called_test(tmp_path):
    expected = as_set(*pictures("val"))
    (tmp_path / "folders").mkdir()
    for path in (
        write_pack(tmp_path, ("train", "test")),
        write_folders(tmp_path / "folders", ("train", "test")),
    ):
        found = read_images(path, "val", SIDE)
        assert as_set(found.images, found.labels) == expected


def test_large_images_are_shrunk_by_areas_and_cut_to_the_centre(tmp_path):
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, 16:80] = np.repeat(np.repeat(pictures("val")[0][0], 2, 0), 2, 1)
    for split in COUNTS:
        folder = tmp_path / split / "only"
        folder.mkdir(parents=True)
        (folder / "wide.png").write_bytes(coded(image))
    found = read_images(tmp_path, "val", SIDE)
    np.testing.assert_array_equal(found.images[0], pictures("val")[0][0])
    assert read_images(tmp_path, "val").images.shape == (1, 64, 96, 3)


def test_the_task_takes_any_layout(tmp_path):
    task = ImageTask(size=SIDE, shift=0, flip=False)
    data = task.open(str(write_folders(tmp_path)), print)
    image, label = task.sampler(data, 0, 1.0)(0)
    assert (image.tobytes(), int(label)) in as_set(*pictures("train"))


def test_the_task_can_take_a_balanced_part_of_the_images(tmp_path):
    pack = str(write_pack(tmp_path))
    whole = ImageTask(size=SIDE).open(pack, print)
    some = ImageTask(size=SIDE, images=4).open(pack, print)
    assert set(as_set(**some)) < set(as_set(**whole))
    assert len(some["labels"]) == 4
    counts = [np.sum(some["labels"] == n) for n in np.unique(whole["labels"])]
    assert max(counts) - min(counts) <= 1
    again = ImageTask(size=SIDE, images=4).open(pack, print)
    np.testing.assert_array_equal(again["images"], some["images"])
    with pytest.raises(TrainingError, match="trains on 999 images; '.*' has"):
        ImageTask(size=SIDE, images=999).open(pack, print)


# === Damage ===========================================================================
def test_undecodable_images_are_counted_and_the_first_is_named(tmp_path):
    write_folders(tmp_path)
    files = sorted((tmp_path / "train" / "n02").iterdir())
    for file in files[:2]:
        file.write_bytes(b"no image")
    with pytest.raises(TrainingError, match="2 image.s. of the train split") as error:
        read_images(tmp_path, "train", SIDE)
    assert str(files[0]) in str(error.value) and "\n" not in str(error.value)


def test_an_undecodable_image_of_a_pack_is_named_by_its_number(tmp_path):
    with np.load(write_pack(tmp_path)) as file:
        offsets = file["train_offsets"]
    offsets = np.concatenate([offsets[:4], offsets[3:4], offsets[5:]])  # number 3 empty
    path = write_pack(tmp_path, train_offsets=offsets)
    with pytest.raises(TrainingError, match="1 image.s. .* do not decode.* is 3. Rem"):
        read_images(path, "train", SIDE)


@pytest.mark.parametrize("split", COUNTS)
def test_a_class_in_only_one_split_is_refused(tmp_path, split):
    write_folders(tmp_path)
    more = tmp_path / split / "n99"
    more.mkdir()
    (more / "a.png").write_bytes(coded(pictures("val")[0][0]))
    with pytest.raises(TrainingError, match=f"{split} has 1 that .* such as 'n99'"):
        read_images(tmp_path, "train", SIDE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.arange(8) % 3}, "8 labels and 10 offsets"),
        ({"train_offsets": np.arange(10) * 10**7}, "all inside, in order"),
        (
            {"train_labels": np.arange(9) % 4, "val_labels": np.arange(6) % 4},
            "labels from 0 to 3; expected 0 to 2",
        ),
        ({"val_labels": np.zeros(6, int)}, "train has 2 that val has not"),
        ({"class_names": np.array([{}])}, "Cannot read .* allow_pickle=False"),
    ],
)
def test_packs_that_contradict_themselves_are_refused(tmp_path, changes, message):
    path = write_pack(tmp_path, **changes)
    with pytest.raises(TrainingError, match=message):
        read_images(path, "train", SIDE)


def test_cut_off_binaries_are_refused(tmp_path):
    write_cifar(tmp_path)
    file = tmp_path / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TrainingError, match="not a multiple of 3073; it is cut off"):
        read_images(tmp_path, "train", SIDE)
    file.unlink()
    with pytest.raises(TrainingError, match="Cannot read .*data_batch_2.bin"):
        read_images(tmp_path, "train", SIDE)


def test_sizes_that_do_not_fit_are_explained(tmp_path):
    path = write_folders(tmp_path)
    with pytest.raises(TrainingError, match="is 32x32; expected at least 64x64"):
        read_images(path, "train", 64)
    odd = tmp_path / "train" / "n01" / "odd.png"
    odd.write_bytes(coded(pictures("val", 40)[0][0]))
    with pytest.raises(TrainingError, match="differ in size: .*odd.png' is .40, 40."):
        read_images(path, "train")


def test_folders_without_images_are_explained(tmp_path):
    with pytest.raises(TrainingError, match="There is nothing at"):
        read_images(tmp_path / "nowhere", "train")
    with pytest.raises(TrainingError, match="not a known layout of labelled images"):
        read_images(tmp_path, "train")
    write_folders(tmp_path)
    for file in (tmp_path / "val" / "n03").iterdir():
        file.unlink()
    with pytest.raises(TrainingError, match="class folder .*n03' holds no images"):
        read_images(tmp_path, "val")


def test_more_classes_than_the_network_has_are_refused_at_the_first_scoring(tmp_path):
    import keras

    inputs = keras.Input((SIDE, SIDE, 3))
    outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(inputs))
    validator = ImageValidator(ImageTask(size=SIDE), str(write_pack(tmp_path)))
    with pytest.raises(TrainingError, match="3 classes, but the network has 2"):
        validator(keras.Model(inputs, outputs))
