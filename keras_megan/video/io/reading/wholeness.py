"""Does a file end where its own container says? Its outermost structure shows it.

FFmpeg plays what it finds and does not mention what is missing. Most containers state
the sizes of their parts, so their headers alone, without the pictures, show whether the
file was cut, however little is missing.

A registry by format: each entry walks one kind of container and returns a `Structure`.
Formats without an entry (raw streams, transport streams) do not state their length.
"""

import enum
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


class Structure(enum.Enum):
    """What a container's outermost structure says of the file."""

    WHOLE = "every part that may hold pictures is there"
    CUT = "the file ends within a part, or before the size it declares"
    BROKEN = "parts do not follow each other as the format demands"
    UNKNOWN = "the file does not say where it ends"


Walk = Callable[[BinaryIO, int], Structure]
_WALKS: dict[str, Walk] = {}


def walks(*formats: str) -> Callable[[Walk], Walk]:
    """Decorator: the function walks files of these FFmpeg formats."""

    def register(walk: Walk) -> Walk:
        _WALKS.update(dict.fromkeys(formats, walk))
        return walk

    return register


def structure(path: Path, format_name: str) -> Structure:
    """Looks at the outermost structure of a file.

    Args:
        path: The file.
        format_name: FFmpeg's name of its format, alternatives separated by commas.

    Raises:
        OSError: If the file cannot be read.
    """
    for name in format_name.split(","):
        if name in _WALKS:
            with open(path, "rb") as file:
                return _WALKS[name](file, os.fstat(file.fileno()).st_size)
    return Structure.UNKNOWN


# === Matroska and WebM: nested elements, each with its size ===

_SEGMENT, _CLUSTER, _CUES = 0x18538067, 0x1F43B675, 0x1C53BB6B
_EBML_HEADER = 0x1A45DFA3
# What a segment may contain apart from clusters: information, tracks, tags, ...
_IN_SEGMENT = {
    *(0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1043A770, 0x1941A469, 0x1254C367),
    *(_CUES, 0xEC, 0xBF, _CLUSTER),
}
# What a cluster may contain: time, blocks, groups of blocks, positions, padding.
_IN_CLUSTER = {0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0xEC, 0xBF, 0x5854}


def _ebml_number(file: BinaryIO, keep_marker: bool) -> int | None:
    """A number of variable length; `None` at the end, -1 for "unknown"."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(first + rest, "big")
    if keep_marker:
        return value
    marker = 1 << (7 * length)
    return -1 if value == 2 * marker - 1 else value - marker


@walks("matroska", "webm")
def _matroska(file: BinaryIO, size: int) -> Structure:
    if _ebml_number(file, True) != _EBML_HEADER:
        return Structure.BROKEN
    header = _ebml_number(file, False)
    if header is None or header < 0:
        return Structure.BROKEN
    file.seek(header, os.SEEK_CUR)
    while (element := _ebml_number(file, True)) not in (_SEGMENT, None):
        length = _ebml_number(file, False)
        if element not in (0xEC, 0xBF) or length is None or length < 0:
            return Structure.BROKEN
        file.seek(length, os.SEEK_CUR)
    length = _ebml_number(file, False)
    if element is None or length is None:
        return Structure.CUT
    declared = None if length == -1 else file.tell() + length
    clusters = indexed = False
    while file.tell() < (size if declared is None else min(size, declared)):
        element, length = _ebml_number(file, True), _ebml_number(file, False)
        if element is not None and element not in _IN_SEGMENT:
            return Structure.BROKEN
        if element == _CLUSTER and length == -1:
            return Structure.UNKNOWN  # written as a broadcast
        if element is None or length is None or file.tell() + length > size:
            # Only an index at the end is cut off: no picture stands behind it.
            past = clusters and (indexed or element == _CUES)
            return Structure.WHOLE if past else Structure.CUT
        end = file.tell() + length
        if element == _CLUSTER and not _cluster_is_whole(file, end):
            return Structure.BROKEN
        clusters |= element == _CLUSTER
        indexed |= clusters and element == _CUES
        file.seek(end)
    if declared is not None and declared > size and not indexed:
        return Structure.CUT
    return Structure.UNKNOWN if declared is None else Structure.WHOLE


def _cluster_is_whole(file: BinaryIO, end: int) -> bool:
    """Whether the elements of a cluster follow each other up to its very end."""
    while file.tell() < end:
        element, length = _ebml_number(file, True), _ebml_number(file, False)
        if element not in _IN_CLUSTER or length is None or length < 0:
            return False
        file.seek(length, os.SEEK_CUR)
    return file.tell() == end


# === MP4 and QuickTime: boxes one after another ===

_WITHOUT_PICTURES = {b"free", b"skip", b"wide", b"uuid", b"mfra", b"udta", b"meta"}


@walks("mov", "mp4")
def _boxes(file: BinaryIO, size: int) -> Structure:
    fragments = index = False
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            # A few zero bytes behind the last box are what some cameras leave.
            return Structure.CUT if head.strip(b"\0") else Structure.WHOLE
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:  # reaches to the end, wherever that is
            return Structure.UNKNOWN
        if length < 8:
            return Structure.BROKEN
        if at + length > size:
            harmless = kind in _WITHOUT_PICTURES
            return Structure.WHOLE if harmless else Structure.CUT
        fragments |= kind == b"moof"
        index |= kind == b"mfra"
        at += length
    return Structure.UNKNOWN if fragments and not index else Structure.WHOLE


# === AVI: RIFF chunks ===


@walks("avi")
def _riff(file: BinaryIO, size: int) -> Structure:
    at = 0
    while at + 12 <= size:
        file.seek(at)
        head = file.read(12)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF":
            return Structure.WHOLE if at else Structure.BROKEN  # data added behind
        if length == 0:
            return Structure.UNKNOWN  # never finished by its writer
        end = at + 8 + length
        if end > size:
            return _list_of_pictures(file, at + 12, size)
        at = end + length % 2
    return Structure.WHOLE


def _list_of_pictures(file: BinaryIO, at: int, size: int) -> Structure:
    """Whether the list `movi` of a RIFF chunk that is cut lies within the file."""
    while at + 12 <= size:
        file.seek(at)
        head = file.read(12)
        end = at + 8 + int.from_bytes(head[4:8], "little")
        if head[:4] == b"LIST" and head[8:12] == b"movi":
            return Structure.WHOLE if end <= size else Structure.CUT
        at = end + end % 2
    return Structure.CUT


# === Ogg: numbered pages, the last of each stream marked ===


@walks("ogg")
def _pages(file: BinaryIO, size: int) -> Structure:
    expected: dict[bytes, int] = {}
    open_streams: set[bytes] = set()
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(27)
        if len(head) < 27:
            return Structure.CUT
        if head[:4] != b"OggS":
            return Structure.BROKEN
        table = file.read(head[26])
        stream, number = head[14:18], int.from_bytes(head[18:22], "little")
        if number != expected.get(stream, number):
            return Structure.BROKEN
        expected[stream] = number + 1
        (open_streams.discard if head[5] & 4 else open_streams.add)(stream)
        at += 27 + len(table) + sum(table)
    return Structure.CUT if at > size or open_streams else Structure.WHOLE


# === Flash video: tags with their length in front and behind ===


@walks("flv")
def _tags(file: BinaryIO, size: int) -> Structure:
    at = int.from_bytes(file.read(9)[5:9], "big") + 4
    while at < size:
        file.seek(at)
        head = file.read(11)
        length = 11 + int.from_bytes(head[1:4], "big")
        if len(head) < 11 or at + length + 4 > size:
            return Structure.CUT
        file.seek(at + length)
        if int.from_bytes(file.read(4), "big") not in (length, 0):
            return Structure.BROKEN
        at += length + 4
    return Structure.UNKNOWN  # may be cut between two tags


# === GIF: blocks of sub-blocks, up to a trailer ===


@walks("gif")
def _gif(file: BinaryIO, size: int) -> Structure:
    head = file.read(13)
    if len(head) < 13:
        return Structure.CUT
    file.seek(_colour_table(head[10]), os.SEEK_CUR)
    while (mark := file.read(1)) not in (b"", b"\x3b"):
        if mark == b"\x21":  # an extension with its kind
            file.read(1)
        elif mark == b"\x2c":  # an image, its colours, the size of its codes
            place = file.read(9)
            if len(place) < 9:
                return Structure.CUT
            file.seek(_colour_table(place[8]) + 1, os.SEEK_CUR)
        else:
            return Structure.BROKEN
        while length := file.read(1):
            if length == b"\0":
                break
            file.seek(length[0], os.SEEK_CUR)
    return Structure.WHOLE if mark else Structure.CUT


def _colour_table(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


# === ASF (WMV): a header, then packets of one size, each with a mark ===

_ASF = bytes.fromhex("b2758e66cf11a6d900aa0062ce6c")  # how two of its names end
_ASF_HEADER, _ASF_DATA = b"\x30\x26" + _ASF, b"\x36\x26" + _ASF
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_PACKET_SIZE = 92  # where it stands in the properties
_ASF_DATA_HEAD = 50
_ASF_MARK = b"\x82\x00\x00"


@walks("asf", "asf_o")
def _asf(file: BinaryIO, size: int) -> Structure:
    if file.read(16) != _ASF_HEADER:
        return Structure.BROKEN
    length = int.from_bytes(file.read(8), "little")
    if not 30 <= length <= size:
        return Structure.CUT
    header = file.read(length - 24)
    place = header.find(_ASF_PROPERTIES)
    field = header[place + _ASF_PACKET_SIZE :][:4]
    packet = int.from_bytes(field, "little") if place >= 0 else 0
    data = file.read(_ASF_DATA_HEAD)
    if data[:16] != _ASF_DATA or not 100 <= packet <= 2**20:
        return Structure.BROKEN
    declared = int.from_bytes(data[16:24], "little")
    count = int.from_bytes(data[40:48], "little")
    if not count or declared != _ASF_DATA_HEAD + count * packet:
        return Structure.UNKNOWN  # written as a broadcast
    if length + declared > size:
        return Structure.CUT
    for number in range(count):
        file.seek(length + _ASF_DATA_HEAD + number * packet)
        if file.read(3) != _ASF_MARK:
            # Some writers leave the marks out, but not here and there.
            return Structure.BROKEN if number else Structure.UNKNOWN
    return Structure.WHOLE


# === Formats with a mark at their end ===


@walks("mpeg")
def _program_end(file: BinaryIO, size: int) -> Structure:
    file.seek(max(0, size - 2048))
    marked = b"\x00\x00\x01\xb9" in file.read()
    return Structure.WHOLE if marked else Structure.UNKNOWN


@walks("mpegts")
def _transport(file: BinaryIO, size: int) -> Structure:
    head = file.read(1024)
    for length in (188, 192, 204):
        offset = 4 if length == 192 else 0
        if head[offset::length][:4] == b"\x47" * len(head[offset::length][:4]):
            return Structure.CUT if size % length else Structure.UNKNOWN
    return Structure.UNKNOWN
