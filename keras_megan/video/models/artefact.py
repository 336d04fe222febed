"""What an exported `.tflite` file says of itself.

A TFLite file knows the shapes of its tensors but not what they mean: how many of the
four axes' frames are given, in which range colours go, which model it was. `with_info`
writes that into the file's own metadata table, under the name "keras_megan", as JSON;
`read_info` reads it back. Other runtimes skip metadata they do not know, so the file
stays an ordinary TFLite file.

    input   (T, H, W, 3)          one window of frames, RGB; no batch axis
    output  (2T-1, s*H, s*W, 3)   float32 in [0, 1], or uint8 in 0..255

How it is written: offsets in a flatbuffer only ever point forward, so a new root can be
put *in front of* the old file and refer to everything in it. The old bytes follow
untouched, at a multiple of 16 bytes, where weights must lie:

    | new root, list of buffers, list of metadata, JSON | the old file, as it was |

The JSON also holds a checksum of all the rest. A runtime trusts offsets it reads and
may crash on a file that is cut short; `read_info` says so before one sees it.

Format: TensorFlow Lite's schema.fbs, tables Model, Metadata and Buffer.
"""

import hashlib
import json
import struct
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from keras_megan.video.errors import VideoError, reading

NAME = "keras_megan"
PIXEL_TYPES = ("float32", "uint8")

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16
# The fields of the schema's tables that are touched here, by their slot.
_MODEL_SLOTS = 10  # version is slot 0, a number; all others are offsets
_SUBGRAPHS, _BUFFERS, _METADATA, _EXTERNAL_BUFFERS = 2, 4, 6, 9
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA, _BUFFER_OFFSET = 0, 1
_CHECKSUM = b'"sha256": "'
_NO_CHECKSUM = b"0" * 64
# What reading offsets from damaged bytes may raise.
_DAMAGE = (struct.error, IndexError, TypeError, ValueError, OverflowError)


@dataclass(frozen=True)
class ArtefactInfo:
    """An artefact's description of itself.

    Attributes:
        model: Name of the model it was made from.
        version: Version of keras_megan that made it.
        frames_in: T, the frames of one window.
        frames_out: 2T-1.
        scale: Enlargement in space.
        height, width: Size of an input frame; an artefact accepts this size only.
        input_type, output_type: "float32" (RGB in [0, 1]) or "uint8" (0..255).
        precision: How it computes, in words: "float32", "float16 weights", "int8", ...
        how_to_feed: One paragraph for whoever writes an application; made from the
            other attributes if it is empty.

    Raises:
        ValueError: If a number is not positive, `frames_out` is not 2T-1, or a type is
            not one of these.
    """

    model: str
    version: str
    frames_in: int
    frames_out: int
    scale: int
    height: int
    width: int
    input_type: str
    output_type: str
    precision: str
    how_to_feed: str = ""

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, field.type) or (field.type is int and value < 1):
                kind = "a whole number above 0" if field.type is int else "a text"
                raise ValueError(f"{field.name} must be {kind}. Received: {value!r}")
        if self.frames_in < 2 or self.frames_out != 2 * self.frames_in - 1:
            raise ValueError(
                "frames_out must be 2 * frames_in - 1, and frames_in at least 2. "
                f"Received: frames_in={self.frames_in}, frames_out={self.frames_out}"
            )
        for name in ("input_type", "output_type"):
            if getattr(self, name) not in PIXEL_TYPES:
                raise ValueError(
                    f"{name} must be one of {PIXEL_TYPES}. Received: "
                    f"{getattr(self, name)!r}"
                )
        if not self.how_to_feed:
            object.__setattr__(self, "how_to_feed", _how_to_feed(self))

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3)."""
        return (self.frames_in, self.height, self.width, 3)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(2T-1, scale * H, scale * W, 3)."""
        size = (self.height * self.scale, self.width * self.scale)
        return (self.frames_out, *size, 3)


def _how_to_feed(info: ArtefactInfo) -> str:
    ranges = {"float32": "float32 in [0, 1]", "uint8": "uint8 in 0..255"}
    return (
        f"Input: {info.frames_in} consecutive frames of {info.width}x{info.height} "
        f"pixels, RGB, {ranges[info.input_type]}, shape {list(info.input_shape)}. "
        f"Output: {info.frames_out} frames, RGB, {ranges[info.output_type]}"
        f"{', to be clipped' if info.output_type == 'float32' else ''}, shape "
        f"{list(info.output_shape)}: frames 0, 2, 4, ... are the given ones enlarged, "
        "frames 1, 3, ... lie half-way between. Start the next window with the last "
        "frame of this one. Cut larger pictures into overlapping tiles of this size."
    )


def with_info(flatbuffer: bytes, info: ArtefactInfo) -> bytes:
    """Adds `info` to a TFLite file, in place of an earlier one.

    Args:
        flatbuffer: The file's bytes.
        info: What to add.

    Returns:
        The new file's bytes; they end with the old ones, which are unchanged.

    Raises:
        ValueError: If `flatbuffer` is not a TFLite file, or one of a kind that cannot
            be moved (over 2 GB, with weights outside of the flatbuffer).
    """
    import flatbuffers

    old = bytes(flatbuffer) + bytes(-len(flatbuffer) % _ALIGNMENT)
    try:
        model = _root(old)
        slots = {slot: model.Offset(4 + 2 * slot) for slot in range(_MODEL_SLOTS)}
        known = 4 + 2 * _MODEL_SLOTS
        unknown = _vtable_size(model) > known
        buffers = _entries(model, _BUFFERS)
        metadata = _entries(model, _METADATA)
        external = slots[_EXTERNAL_BUFFERS] or any(
            buffer.Offset(4 + 2 * _BUFFER_OFFSET) for buffer in buffers
        )
        kept = [entry for entry in metadata if _name(entry) != NAME]
    except _DAMAGE as error:
        raise ValueError(f"Expected the bytes of a TFLite file: {error}") from error
    if unknown or external:
        raise ValueError(
            "Cannot add a description to this TFLite file: it keeps weights outside of "
            "the flatbuffer, or is of a newer format."
        )
    # A builder grows towards the front; this one begins with the old file written.
    builder = flatbuffers.Builder(0)
    room = 4096 + 8 * len(buffers)
    builder.Bytes, builder.head = bytearray(room) + old, room
    builder.Prep(_ALIGNMENT, 0)

    def place(position: int) -> int:
        return len(old) - position  # builders count from the end

    facts = json.dumps({**asdict(info), "sha256": _NO_CHECKSUM.decode()})
    data = builder.CreateByteVector(facts.encode())
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(_BUFFER_DATA, data, 0)
    new_buffer = builder.EndObject()
    name = builder.CreateString(NAME)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(_METADATA_NAME, name, 0)
    builder.PrependUint32Slot(_METADATA_BUFFER, len(buffers), 0)
    new_entry = builder.EndObject()
    lists = {
        _BUFFERS: [*(place(buffer.Pos) for buffer in buffers), new_buffer],
        _METADATA: [*(place(entry.Pos) for entry in kept), new_entry],
    }
    offsets = {
        slot: place(model.Indirect(model.Pos + field))
        for slot, field in slots.items()
        if field and slot > 0
    }
    for slot, entries in lists.items():
        builder.StartVector(4, len(entries), 4)
        for entry in reversed(entries):
            builder.PrependUOffsetTRelative(entry)
        offsets[slot] = builder.EndVector()
    builder.StartObject(_MODEL_SLOTS)
    if slots[0]:
        from flatbuffers.number_types import Uint32Flags

        builder.PrependUint32Slot(0, model.Get(Uint32Flags, model.Pos + slots[0]), 0)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    builder.Finish(builder.EndObject(), _IDENTIFIER)
    made = bytes(builder.Output())
    digest = hashlib.sha256(made).hexdigest().encode()
    return made.replace(_CHECKSUM + _NO_CHECKSUM, _CHECKSUM + digest, 1)


def read_info(source: bytes | str | Path) -> ArtefactInfo:
    """Reads what `with_info` wrote, and checks that the file is whole.

    Args:
        source: A TFLite file or its bytes.

    Returns:
        The `ArtefactInfo`.

    Raises:
        VideoError: If the file cannot be read, is not a TFLite file, says nothing of
            itself, or is damaged or was changed since.
    """
    name = "the model"
    if isinstance(source, str | Path):
        name = f"the model '{source}'"
        with reading(Path(source)):
            source = Path(source).read_bytes()
    data = bytes(source)
    try:
        facts = _find_facts(data)
    except _DAMAGE as error:
        raise VideoError(
            f"Cannot load {name}: expected a TFLite file, and it is none, or is "
            "damaged or cut short. Export or copy it again."
        ) from error
    if facts is None:
        raise VideoError(
            f"Cannot load {name}: it is a TFLite file, but does not say how to feed "
            "it. Only files that keras_megan exported hold that description."
        )
    try:
        stored = json.loads(facts)
        digest = _CHECKSUM + stored["sha256"].encode()
        empty = data.replace(digest, _CHECKSUM + _NO_CHECKSUM, 1)
        if hashlib.sha256(empty).hexdigest() != stored["sha256"]:
            raise ValueError("the checksum differs")
        # Fields that a later version may have added are passed over.
        known = {f.name: stored[f.name] for f in fields(ArtefactInfo)}
        return ArtefactInfo(**known)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VideoError(
            f"Cannot load {name}: it is damaged, cut short, or was changed after its "
            "export. Export or copy it again."
        ) from error


def _find_facts(data: bytes) -> bytes | None:
    """The JSON text, or None if there is none."""
    model = _root(data)
    for entry in _entries(model, _METADATA):
        if _name(entry) == NAME:
            field = entry.Offset(4 + 2 * _METADATA_BUFFER)
            (index,) = struct.unpack_from("<I", data, entry.Pos + field)
            buffer = _entries(model, _BUFFERS)[index]
            field = buffer.Offset(4 + 2 * _BUFFER_DATA)
            return buffer.String(buffer.Pos + field)  # a byte vector reads the same
    return None


def _root(data: bytes):
    """The Model table."""
    from flatbuffers.table import Table

    if data[4:8] != _IDENTIFIER:
        raise ValueError("it does not begin as one does")
    model = Table(data, struct.unpack_from("<I", data)[0])
    if not model.Offset(4 + 2 * _SUBGRAPHS):
        raise ValueError("it holds no network")
    return model


def _entries(table, slot: int) -> list:
    """The tables that a field of `table` lists."""
    from flatbuffers.table import Table

    field = table.Offset(4 + 2 * slot)
    if not field:
        return []
    length, start = table.VectorLen(field), table.Vector(field)
    if start + 4 * length > len(table.Bytes):
        raise ValueError("a list reaches beyond the end of the file")
    return [
        Table(table.Bytes, table.Indirect(start + 4 * index)) for index in range(length)
    ]


def _name(entry) -> str:
    field = entry.Offset(4 + 2 * _METADATA_NAME)
    return entry.String(entry.Pos + field).decode() if field else ""


def _vtable_size(table) -> int:
    (back,) = struct.unpack_from("<i", table.Bytes, table.Pos)
    (size,) = struct.unpack_from("<H", table.Bytes, table.Pos - back)
    return size
