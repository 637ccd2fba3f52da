"""What is left of EXIF and of texts when a recipe keeps metadata."""

import io
import struct

import pytest
from PIL import Image

from tests import images
from validator.metadata import MAX_EXIF, MAX_TEXT, clean_block, is_harmless

COPYRIGHT, ARTIST, MAKER_NOTE, SERIAL, LENS, EXPOSURE, UNIQUE = 0x8298, 0x013B, 0x927C, 0xA431, 0xA434, 0x829A, 0xA420
PHOTO, GPS = 0x8769, 0x8825


def full_block() -> bytes:
    """A block with what cameras write, some of which nobody should get."""
    exif = Image.Exif()
    exif.endian = "<"
    exif[0x0112], exif[COPYRIGHT], exif[ARTIST] = 6, "Ann", "Bob"
    exif[0x013C] = "hidden-host"
    exif.get_ifd(PHOTO).update(
        {EXPOSURE: 0.008, LENS: "50 mm", MAKER_NOTE: b"hidden-note", SERIAL: "hidden-serial", UNIQUE: "hidden-id"}
    )
    exif.get_ifd(GPS).update({0x001D: "hidden-date", 0x001B: b"hidden-method"})
    return with_thumbnail(exif.tobytes().removeprefix(b"Exif\0\0"))


def with_thumbnail(block: bytes) -> bytes:
    """The block with a second directory that holds a picture."""
    count = struct.unpack_from("<H", block, 8)[0]
    at = len(block)
    entries = struct.pack("<HHHII", 2, 0x0201, 4, 1, at + 30) + struct.pack("<HHII", 0x0202, 4, 1, 16) + bytes(4)
    next_at = 8 + 2 + 12 * count
    return block[:next_at] + struct.pack("<I", at) + block[next_at + 4 :] + entries + b"hidden-thumbnail"


def tags_of(block: bytes) -> tuple[dict[int, object], dict[int, object]]:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + block)
    return dict(exif), dict(exif.get_ifd(PHOTO))


def test_tags_of_the_picture_stay_and_those_of_people_go() -> None:
    block = full_block()
    assert block.count(b"hidden-") == 7

    cleaned = clean_block(memoryview(block), 6)

    image, photo = tags_of(cleaned)
    assert {tag: image[tag] for tag in image if tag != PHOTO} == {0x0112: 6, COPYRIGHT: "Ann", ARTIST: "Bob"}
    assert photo == {EXPOSURE: 0.008, LENS: "50 mm"}
    assert b"hidden-" not in cleaned


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_the_one_asked_for(order: str) -> None:
    block = images.exif_block(6, order=order)

    assert tags_of(clean_block(memoryview(block), 1))[0][0x0112] == 1
    assert tags_of(clean_block(memoryview(block), 6))[0][0x0112] == 6


def test_a_cleaned_block_is_clean() -> None:
    once = clean_block(memoryview(full_block()), 6)

    assert clean_block(memoryview(once), 6) == once


@pytest.mark.parametrize(
    "block",
    [b"", b"II*\0", b"nonsense" * 9, b"II*\0\xff\xff\xff\xff", images.exif_block()[:40], bytes(MAX_EXIF)],
    ids=["empty", "cut", "nonsense", "directory far away", "values cut off", "zeros"],
)
def test_a_block_that_cannot_be_read_is_dropped(block: bytes) -> None:
    cleaned = clean_block(memoryview(block), 1)

    assert images.SECRET not in cleaned
    assert len(cleaned) <= len(block)


def test_a_block_that_repeats_itself_does_not_grow() -> None:
    entry = struct.pack("<HHII", COPYRIGHT, 2, 4000, 8)
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", 256) + entry * 256 + bytes(5000)

    assert len(clean_block(memoryview(block), 1)) < 4200


def test_kept_exif_is_read_by_others() -> None:
    sink = io.BytesIO()
    images.picture().save(sink, "PNG", exif=clean_block(memoryview(full_block()), 6))

    assert Image.open(io.BytesIO(sink.getvalue())).getexif()[ARTIST] == "Bob"


TEXTS = [
    (b"taken on a sunny day", True),
    (b"", True),
    (b"<rdf:li>Paris in spring</rdf:li>", True),
    (b"<exif:GPSLatitude>48,51N</exif:GPSLatitude>", False),
    (b"<aux:SerialNumber>123</aux:SerialNumber>", False),
    (b"<xmp:Thumbnails>", False),
    (b"<xmpGImg:image>", False),
    ("<exif:GPSLatitude>".encode("utf-16-be"), False),
    (b"Raw profile type exif\0", False),
    (b"x" * (MAX_TEXT + 1), False),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_texts_are_kept_when_they_tell_nothing_of_people(text: bytes, expected: bool) -> None:
    assert is_harmless(memoryview(text)) is expected
