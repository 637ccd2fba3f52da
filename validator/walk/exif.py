"""Reads EXIF blocks without trusting them: the orientation, and the tags worth keeping in a record.

An EXIF block is a small TIFF file. Only its first directory and the EXIF directory below it are read, so a
directory that points at itself cannot hold us. Places, serial numbers, maker notes and thumbnails are left out.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from validator.walk.picture import Body

ORIENTATION = 0x0112
_EXIF_DIRECTORY = 0x8769
#: GPS and interoperability directories, maker note, owner, serial numbers, padding, and embedded documents.
_LEFT_OUT = frozenset(
    {0x8825, 0xA005, 0x927C, 0xA430, 0xA431, 0xA435, 0xC62F, 0xEA1C, 0xEA1D, 0x02BC, 0x83BB, 0x8649, 0x8773, 0xC4A5}
    | {_EXIF_DIRECTORY}
)
_MAX_ENTRIES = 256
_MAX_VALUES = 8
_MAX_TEXT = 200
#: Bytes of the JSON text that holds a record's tags.
MAX_JSON = 4096

#: TIFF field types: struct letter and size in bytes. 7 (undefined) is opaque and left out.
_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}


@dataclass(frozen=True, slots=True)
class _Entry:
    tag: int
    kind: int
    count: int
    at: int  #: of the value, in the block


def orientation_of(block: Body) -> int:
    """The orientation that the block tells, 1 to 8; 1 when it tells none or nonsense."""
    try:
        order = byte_order(block)
        for entry in _entries(block, order, first_directory(block, order)):
            if entry.tag == ORIENTATION and entry.kind == 3:
                value: int = struct.unpack_from(order + "H", block, entry.at)[0]
                return value if 1 <= value <= 8 else 1
    except (struct.error, IndexError, ValueError):
        pass
    return 1


def tags_of(block: Body) -> dict[str, str]:
    """The tags of the block by name, as text. What cannot be read is missing."""
    tags: dict[str, str] = {}
    try:
        order = byte_order(block)
        _read_directory(block, order, first_directory(block, order), tags, follow=True)
    except (struct.error, IndexError, ValueError):
        pass
    return tags


def to_json(tags: dict[str, str]) -> str:
    """The tags as a JSON object of at most `MAX_JSON` bytes; the first ones win."""
    kept: list[str] = []
    room = MAX_JSON - len("{}")
    for name, text in tags.items():
        member = f"{json.dumps(name)}: {json.dumps(text)}"
        room -= len(member) + len(", ")
        if room < 0:
            break
        kept.append(member)
    return "{" + ", ".join(kept) + "}"


def minimal_block(orientation: int) -> bytes:
    """An EXIF block that holds nothing but the orientation."""
    entry = struct.pack(">HHIHH", ORIENTATION, 3, 1, orientation, 0)
    return b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


def byte_order(block: Body) -> str:
    """As `struct` writes it. Raises ValueError or struct.error when the block is no TIFF block."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    if order is None or struct.unpack_from(order + "H", block, 2)[0] != 42:
        raise ValueError("not a TIFF block")
    return order


def first_directory(block: Body, order: str) -> int:
    """Where the block's first directory starts; raises struct.error."""
    at: int = struct.unpack_from(order + "I", block, 4)[0]
    return at


def _entries(block: Body, order: str, directory: int) -> Iterator[_Entry]:
    count = struct.unpack_from(order + "H", block, directory)[0]
    for place in range(min(count, _MAX_ENTRIES)):
        at = directory + 2 + 12 * place
        tag, kind, values = struct.unpack_from(order + "HHI", block, at)
        letters = _TYPES.get(kind)
        if letters is None:
            continue
        inline = struct.calcsize("=" + letters) * values <= 4
        start = at + 8 if inline else struct.unpack_from(order + "I", block, at + 8)[0]
        yield _Entry(tag, kind, values, start)


def _read_directory(block: Body, order: str, directory: int, tags: dict[str, str], *, follow: bool) -> None:
    below: int | None = None
    for entry in _entries(block, order, directory):
        if entry.tag == _EXIF_DIRECTORY and entry.kind == 4:
            below = struct.unpack_from(order + "I", block, entry.at)[0]
        if entry.tag in _LEFT_OUT or entry.tag not in _names():
            continue
        text = _text_of(block, order, entry)
        if text:
            tags.setdefault(_names()[entry.tag], text)
    if follow and below is not None:
        _read_directory(block, order, below, tags, follow=False)


def _text_of(block: Body, order: str, entry: _Entry) -> str:
    letters = _TYPES[entry.kind]
    if entry.kind == 2:
        return _clean(bytes(block[entry.at : entry.at + min(entry.count, 4 * _MAX_TEXT)]).decode("utf-8", "replace"))
    if entry.kind == 1 and 0x9C9B <= entry.tag <= 0x9C9F:  # Windows keeps titles and keywords as UTF-16 bytes
        return _clean(
            bytes(block[entry.at : entry.at + min(entry.count, 4 * _MAX_TEXT)]).decode("utf-16-le", "replace")
        )
    count = min(entry.count, _MAX_VALUES)
    try:
        values = struct.unpack_from(order + letters * count, block, entry.at)
    except struct.error:
        return ""
    if len(letters) == 2:
        return ", ".join(_ratio(top, bottom) for top, bottom in zip(values[::2], values[1::2], strict=True))
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _ratio(top: int, bottom: int) -> str:
    return str(top) if bottom == 1 else f"{top}/{bottom}"


def _clean(text: str) -> str:
    """The text up to its first NUL, without control, format or private characters."""
    shown = (letter for letter in text.split("\0", 1)[0] if letter.isprintable() and letter != "\ufffd")
    return "".join(shown)[:_MAX_TEXT].strip()


@cache
def _names() -> dict[int, str]:
    from PIL.ExifTags import TAGS  # late, for walks do without Pillow

    return dict(TAGS)
