"""The exported files that a preset carries, so that CPUs need no TensorFlow.

    presets/megan_edge/litert.json      which files there are, for which weights
    presets/megan_edge/litert/*.tflite  int8 and float32, for a few sizes of tiles

LiteRT starts in a fraction of a second, where TensorFlow takes several, and computes in
int8 about twice as fast. Each file has one input size; the one that covers a clip with
the fewest pixels computed twice is taken (`for_size`).

`litert.json` names the checksum of the weights that its files were made from. Where the
preset's weights have changed since, the files are not used. `python -m export.engines`
makes all of it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from keras_megan.files import write_json
from keras_megan.presets import preset_folder, read_config
from keras_megan.video.errors import VideoError
from keras_megan.video.memory import memory_to_use
from keras_megan.video.models.litert_runner import LiteRTRunner
from keras_megan.video.tiles import cover

LISTING = "litert.json"
FOLDER = "litert"
PRECISIONS = ("int8", "fp32")


@dataclass(frozen=True)
class PresetFile:
    """One exported file.

    Attributes:
        file: Its path inside the preset's folder.
        sha256: Its checksum.
        width, height: Size of its input frames.
        precision: A value of `PRECISIONS`.
        memory: Bytes that one call takes, the opened file included.
        psnr, keras_psnr: Luma PSNR in dB of the file and of the Keras model on the
            footage it was verified on.
    """

    file: str
    sha256: str
    width: int
    height: int
    precision: str
    memory: int
    psnr: float | None = None
    keras_psnr: float | None = None


def write_listing(folder: Path, weights_sha256: str, files: list[PresetFile]) -> None:
    """Writes a preset's `litert.json`."""
    document = {
        "weights_sha256": weights_sha256,
        "files": [asdict(file) for file in files],
    }
    write_json(folder / LISTING, document)


def read_listing(folder: Path) -> tuple[PresetFile, ...]:
    """The files a preset carries for the weights it has now; often none.

    Raises:
        VideoError: If there is a `litert.json` that cannot be understood.
    """
    path = folder / LISTING
    if not path.is_file():
        return ()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = [field.name for field in fields(PresetFile)]
        files = tuple(
            PresetFile(**{name: entry[name] for name in known})
            for entry in document["files"]
        )
        made_from = document["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VideoError(
            f"Cannot read '{path}': it is damaged. Make it again with: python -m "
            f"export.engines --preset {folder.name}"
        ) from error
    if made_from != read_config(folder).get("weights_sha256"):
        return ()
    return files


def find_files(model: str, precision: str) -> "PresetFiles | None":
    """What a preset, by name or folder, carries of one precision; `None`: nothing."""
    try:
        folder = preset_folder(model)
    except ValueError:
        return None
    files = [file for file in read_listing(folder) if file.precision == precision]
    return PresetFiles(folder, files) if files else None


@dataclass
class PresetFiles:
    """A preset on LiteRT: gives the runner for a size of frames.

    Attributes:
        folder: The preset's.
        files: The files of one precision.
        threads: The runtime's threads; one per CPU if `None`.
    """

    folder: Path
    files: Sequence[PresetFile]
    threads: int | None = None
    _opened: dict[str, LiteRTRunner] = field(default_factory=dict)

    def for_size(self, height: int, width: int) -> LiteRTRunner:
        """The runner that covers frames of this size at the least cost, and fits.

        Raises:
            VideoError: If its file is missing or is not the one that was listed.
        """
        room = memory_to_use()
        smallest = min(self.files, key=lambda file: file.memory)
        fitting = [file for file in self.files if file.memory <= room] or [smallest]
        chosen = min(fitting, key=lambda file: pixels_computed(file, height, width))
        if chosen.file not in self._opened:
            self._opened[chosen.file] = self._open(chosen)
        return self._opened[chosen.file]

    def _open(self, chosen: PresetFile) -> LiteRTRunner:
        path = self.folder / chosen.file
        if not path.is_file():
            raise VideoError(
                f"The preset '{self.folder.name}' lacks its file '{chosen.file}'. "
                "Install the package again, or use --engine keras."
            )
        if hashlib.sha256(path.read_bytes()).hexdigest() != chosen.sha256:
            raise VideoError(
                f"'{path}' is damaged: its checksum is not the one in {LISTING}. "
                "Install the package again, or use --engine keras."
            )
        per_pixel = -(-chosen.memory // (chosen.width * chosen.height))
        return LiteRTRunner(path, self.threads, per_pixel)


def pixels_computed(file: PresetFile, height: int, width: int) -> tuple[int, int]:
    """Pixels of all tiles of a frame, and the number of tiles."""
    rows = len(cover(height, file.height, exact=True).starts)
    columns = len(cover(width, file.width, exact=True).starts)
    count = rows * columns
    return count * file.height * file.width, count
