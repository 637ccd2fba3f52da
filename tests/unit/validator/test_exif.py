"""EXIF tags in records: what is kept, what never is, and how long it may get."""

import json
import struct

from tests import images
from validator.walk.exif import minimal_block, orientation_of, tags_of, to_json


def test_tags_are_named_and_places_are_left_out() -> None:
    tags = tags_of(memoryview(images.exif_block(6)))

    assert tags == {"Make": "Pentax", "Orientation": "6", "Copyright": images.SECRET.decode()}


def test_control_characters_are_removed() -> None:
    tags = tags_of(memoryview(images.exif_block(text=b"a\x1b[31m\x07b\xe2\x80\xaec")))

    assert tags["Copyright"] == "a[31mbc"


def test_a_directory_that_points_at_itself_ends() -> None:
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    block = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + struct.pack("<I", 8)

    assert tags_of(memoryview(block)) == {}


def test_the_record_is_valid_json_of_bounded_size() -> None:
    text = to_json({f"Tag{number}": "\N{SNOWMAN}" * 100 for number in range(50)})

    assert len(text.encode()) <= 4096
    assert json.loads(text)["Tag0"] == "\N{SNOWMAN}" * 100


def test_a_minimal_block_tells_its_orientation() -> None:
    for orientation in range(1, 9):
        assert orientation_of(memoryview(minimal_block(orientation))) == orientation
