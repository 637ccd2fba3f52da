"""The verdict on one image, by depth."""

import zlib

import pytest

from shared.reasons import Reason
from shared.recipe import Depth, ImageFormat, ImageKind, Recipe
from tests import images
from validator.judge import judge
from validator.pixels import SMALL_PIXELS

SIDE = int(SMALL_PIXELS**0.5)
#: Right checksums around pixels that end too early.
HOLLOW_PNG = images.png_of(SIDE * 2, SIDE, 8, 0, zlib.compress(bytes(5 * SIDE)))


def flipped(body: bytes) -> bytes:
    """The JPEG with bytes overwritten in the middle of its scan, its structure whole."""
    middle = len(body) // 2
    return body[:middle] + b"\x35" * 400 + body[middle + 400 :]


CASES = [
    # image, and what each depth says of it
    ("whole jpeg", images.jpeg(), None, None, None),
    ("whole png", images.png(), None, None, None),
    ("whole animated gif", images.animated("GIF"), None, None, None),
    ("whole animated webp", images.animated("WEBP"), None, None, None),
    ("whole animated png", images.animated("PNG"), None, None, None),
    ("jpeg with a false end", images.jpeg_with_false_end(), None, Reason.CORRUPT_IMAGE, Reason.CORRUPT_IMAGE),
    ("jpeg with flipped bytes", flipped(images.photo()), None, Reason.CORRUPT_IMAGE, Reason.CORRUPT_IMAGE),
    ("large hollow png", HOLLOW_PNG, None, None, Reason.CORRUPT_IMAGE),
    ("cut png", images.png()[:-20], Reason.CORRUPT_IMAGE, Reason.CORRUPT_IMAGE, Reason.CORRUPT_IMAGE),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
@pytest.mark.parametrize(("place", "depth"), [(2, Depth.STRUCTURE), (3, Depth.STANDARD), (4, Depth.FULL)])
def test_a_depth_finds_what_it_promises(
    case: tuple[str, bytes, Reason | None, Reason | None, Reason | None], place: int, depth: Depth
) -> None:
    verdict = judge(memoryview(case[1]), Recipe(depth=depth))

    assert verdict.columns.get("reason") == case[place]
    assert verdict.is_accepted == (case[place] is None)


def test_new_pixels_are_never_made_of_a_damaged_image() -> None:
    recipe = Recipe(depth=Depth.STRUCTURE, image_format=ImageFormat.PNG)

    verdict = judge(memoryview(images.jpeg_with_false_end()), recipe)

    assert verdict.columns["reason"] == Reason.CORRUPT_IMAGE


def test_a_hash_is_given_where_something_was_decoded() -> None:
    large = images.png(SIDE * 2, SIDE)

    hashed = {depth: "phash" in judge(memoryview(large), Recipe(depth=depth)).columns for depth in Depth}
    small = {depth: "phash" in judge(memoryview(images.png()), Recipe(depth=depth)).columns for depth in Depth}

    assert hashed == {Depth.STRUCTURE: False, Depth.STANDARD: False, Depth.FULL: True}
    assert small == {Depth.STRUCTURE: False, Depth.STANDARD: True, Depth.FULL: True}


def test_an_unwanted_format_is_named_before_its_damage() -> None:
    verdict = judge(memoryview(images.gif()[:40]), Recipe(formats=(ImageKind.JPEG,)))

    assert verdict.columns["reason"] == Reason.FORMAT_NOT_ALLOWED
    assert verdict.columns["format"] == "gif"


def test_a_rejected_image_keeps_what_is_known_of_it() -> None:
    verdict = judge(memoryview(images.jpeg()), Recipe(min_image_size=500))

    assert verdict.columns["reason"] == Reason.TOO_SMALL
    assert (verdict.columns["original_width"], verdict.columns["original_height"]) == images.SIZE
    assert verdict.columns["sha256"]
    assert verdict.stored is None


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP"])
def test_metadata_that_inflates_without_end_costs_nobody_the_picture(name: bytes) -> None:
    body = images.with_chunk(images.png(), name, b"bomb\0\0" + images.zeros(300 << 20))

    verdict = judge(memoryview(body), Recipe(depth=Depth.FULL))

    assert verdict.is_accepted
    assert verdict.columns["length"] == len(images.png())
