"""What of an image's metadata may be stored when a recipe keeps it.

Places, serial numbers, maker notes, thumbnails and what nobody can read stay behind, whatever the recipe says:
they tell of people and not of the picture. EXIF is written anew from the tags that are known to be harmless;
texts, which cannot be taken apart, are kept whole or not at all.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from validator.walk import Body
from validator.walk.exif import ORIENTATION, byte_order, first_directory

#: Bytes of EXIF that fit into every format.
MAX_EXIF = 65_000
#: Bytes of a comment or an XMP packet.
MAX_TEXT = 65_536
_MAX_VALUE = 4096
_MAX_ENTRIES = 256

_EXIF_DIRECTORY = 0x8769
#: Description, maker, model, orientation, resolution, software, time, artist, colours, copyright, Windows' titles.
_IMAGE_TAGS = frozenset(
    {0x010E, 0x010F, 0x0110, 0x0112, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013E, 0x013F}
    | {0x0211, 0x0213, 0x0214, 0x8298, *range(0x9C9B, 0x9CA0)}
)
#: Exposure, sensitivity, times, lens, light, weather, colours, sizes. No pointer, nothing opaque but fixed codes.
_PHOTO_TAGS = frozenset(
    {0x829A, 0x829D, 0x8822, 0x8827, *range(0x8830, 0x8836), 0x9000, 0x9003, 0x9004, 0x9010, 0x9011, 0x9012}
    | {0x9101, 0x9102, *range(0x9201, 0x920B), 0x9214, 0x9286, *range(0x9290, 0x9293), *range(0x9400, 0x9406)}
    | {*range(0xA000, 0xA004), 0xA20B, 0xA20E, 0xA20F, 0xA210, 0xA214, 0xA215, 0xA217, 0xA300, 0xA301}
    | {*range(0xA401, 0xA40B), 0xA40C, 0xA432, 0xA433, 0xA434, 0xA500}
)
#: Bytes of one value of each TIFF type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_TELLING = re.compile(
    rb"gps|latitude|longitude|location|geo:|serial|owner|maker.?note|thumbnail|gimg|raw profile", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Field:
    """One entry of a directory with its value as it lay in the block."""

    tag: int
    kind: int
    count: int
    value: bytes


def is_harmless(text: Body) -> bool:
    """Whether a comment or an XMP packet, with what its format puts around it, may be kept."""
    # Without zero bytes a text of two bytes a letter is searched as well.
    return len(text) <= MAX_TEXT and not _TELLING.search(bytes(text).replace(b"\0", b""))


def clean_block(block: Body, orientation: int) -> bytes:
    """The harmless tags of an EXIF block, with this orientation. Empty when the block is unreadable or has none."""
    try:
        order = byte_order(block)
        directory = first_directory(block, order)
        photo_at = _photo_directory(block, order, directory)
        image = {field.tag: field for field in _fields(block, order, directory, _IMAGE_TAGS)}
        photo = [] if photo_at is None else list(_fields(block, order, photo_at, _PHOTO_TAGS))
    except (struct.error, IndexError, ValueError):
        return b""
    if orientation != 1 or ORIENTATION in image:
        image[ORIENTATION] = _Field(ORIENTATION, 3, 1, struct.pack(order + "H", orientation))
    written = _block(order, list(image.values()), photo) if image or photo else b""
    return written if len(written) <= MAX_EXIF else b""


def _photo_directory(block: Body, order: str, directory: int) -> int | None:
    for field in _fields(block, order, directory, frozenset({_EXIF_DIRECTORY})):
        if field.kind == 4 and field.count == 1:
            at: int = struct.unpack(order + "I", field.value)[0]
            return at
    return None


def _fields(block: Body, order: str, directory: int, tags: frozenset[int]) -> Iterator[_Field]:
    """The entries with one of these tags whose value lies in the block."""
    count = struct.unpack_from(order + "H", block, directory)[0]
    for place in range(min(count, _MAX_ENTRIES)):
        at = directory + 2 + 12 * place
        tag, kind, values = struct.unpack_from(order + "HHI", block, at)
        size = _SIZES.get(kind, 0) * values
        if tag not in tags or not 0 < size <= _MAX_VALUE:
            continue
        start = at + 8 if size <= 4 else struct.unpack_from(order + "I", block, at + 8)[0]
        value = bytes(block[start : start + size])
        if len(value) == size:
            yield _Field(tag, kind, values, value)


def _block(order: str, image: list[_Field], photo: list[_Field]) -> bytes:
    """A TIFF block of one directory, and of a second one that it points to."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    if not photo:
        return head + _directory(order, image, 8)
    pointer = _Field(_EXIF_DIRECTORY, 4, 1, bytes(4))
    length = len(_directory(order, [*image, pointer], 8))
    pointer = _Field(_EXIF_DIRECTORY, 4, 1, struct.pack(order + "I", 8 + length))
    return head + _directory(order, [*image, pointer], 8) + _directory(order, photo, 8 + length)


def _directory(order: str, fields: list[_Field], at: int) -> bytes:
    """A directory that lies at `at` of the block, followed by the values that do not fit into it."""
    unique = {field.tag: field for field in fields}
    entries, values = b"", b""
    values_at = at + 2 + 12 * len(unique) + 4
    for tag in sorted(unique):
        field = unique[tag]
        entries += struct.pack(order + "HHI", tag, field.kind, field.count)
        if len(field.value) <= 4:
            entries += field.value.ljust(4, b"\0")
            continue
        entries += struct.pack(order + "I", values_at + len(values))
        values += field.value + bytes(len(field.value) & 1)
    return struct.pack(order + "H", len(unique)) + entries + bytes(4) + values
