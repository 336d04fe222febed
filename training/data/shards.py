"""Clips on disk: TFRecord shards and the manifest that lists them.

A shard holds whole clips, each one `tf.train.Example`:

    frames      L bytes features, every frame a PNG (lossless, the default) or JPEG
    size        int64 (height, width)
    start       int64, number of the first frame in its source
    motion      float, mean motion in pixels per frame
    source      bytes, name of the source;  group  bytes, what it is balanced by

Beside each shard ``NAME.tfrecord`` lies ``NAME.json``, what it was made of. Both appear
by renaming, the JSON last, so a shard that has its JSON is whole. ``manifest.json``
sums up: settings, sources (licence, frames, clips), shards. It is written at the end
and is what readers open.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

from keras_megan.files import appearing, write_json
from training.errors import TrainingError, saving

MANIFEST = "manifest.json"
CODECS = {
    "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 97]),
}


@dataclass(frozen=True)
class StoredClip:
    """A clip as read from a shard.

    Attributes:
        frames: L encoded images.
        height, width: Size of each frame in pixels.
        start: Number of its first frame in the source.
        motion: Mean motion, pixels per frame.
        source: Name of the source.
        group: What subsets are balanced by.
    """

    frames: list[bytes]
    height: int
    width: int
    start: int
    motion: float
    source: str
    group: str

    def decode(self, into: np.ndarray) -> None:
        """Decodes all frames into a uint8 RGB array (L, H, W, 3)."""
        for index, data in enumerate(self.frames):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if image is None or image.shape != into.shape[1:]:
                raise TrainingError(
                    f"Frame {self.start + index} of '{self.source}' is damaged in its "
                    "shard. Delete the shard and prepare the data again."
                )
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=into[index])


def encode_clip(frames: np.ndarray, codec: str, **facts) -> bytes:
    """Serialises a clip, uint8 RGB (L, H, W, 3), with the facts of `StoredClip`."""
    suffix, options = CODECS[codec]
    images = [
        cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)[1]
        for frame in frames
    ]
    height, width = frames.shape[1:3]
    features = {
        "frames": _bytes(*(image.tobytes() for image in images)),
        "size": tf.train.Feature(int64_list=tf.train.Int64List(value=[height, width])),
        "start": tf.train.Feature(
            int64_list=tf.train.Int64List(value=[facts["start"]])
        ),
        "motion": tf.train.Feature(
            float_list=tf.train.FloatList(value=[facts["motion"]])
        ),
        "source": _bytes(facts["source"].encode()),
        "group": _bytes(facts["group"].encode()),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString()


def _bytes(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def write_shard(path: Path, records: Iterator[bytes], describe) -> None:
    """Writes a shard and then its JSON.

    Args:
        path: Path of the ``.tfrecord`` file.
        records: Serialised clips; consumed while writing.
        describe: Called when all are written; gives the JSON's content.
    """
    with saving(path):
        with appearing(path) as aside, tf.io.TFRecordWriter(str(aside)) as writer:
            for record in records:
                writer.write(record)
        write_json(path.with_suffix(".json"), describe())


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a folder of shards.

    Raises:
        TrainingError: If there is none or it lists no clip.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TrainingError(
            f"'{folder}' holds no {MANIFEST}. Make the data first: python -m "
            f"training.prepare --videos FOLDER --out {folder}"
        ) from error
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"Cannot read '{path}': {error}. Prepare the data again."
        ) from error
    if not manifest.get("clips"):
        raise TrainingError(
            f"'{folder}' lists no clips: every source was too short, still or damaged. "
            "Give training.prepare more footage or milder limits."
        )
    return manifest


def read_shards(folder: str | Path, manifest: dict) -> Iterator[StoredClip]:
    """Yields all clips in the manifest's order.

    Raises:
        TrainingError: If a shard is missing or damaged.
    """
    for shard in manifest["shards"]:
        path = Path(folder) / shard["file"]
        try:
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                yield _parse(record)
        except tf.errors.OpError as error:
            raise TrainingError(
                f"The shard '{path}' is missing or damaged ({error.message}). Delete "
                "its .json and prepare the data again."
            ) from error


def _parse(record: bytes) -> StoredClip:
    features = tf.train.Example.FromString(record).features.feature
    height, width = features["size"].int64_list.value
    return StoredClip(
        frames=list(features["frames"].bytes_list.value),
        height=int(height),
        width=int(width),
        start=int(features["start"].int64_list.value[0]),
        motion=float(features["motion"].float_list.value[0]),
        source=features["source"].bytes_list.value[0].decode(),
        group=features["group"].bytes_list.value[0].decode(),
    )
