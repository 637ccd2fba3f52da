"""The header walk: what it finds in good files, and how it refuses hostile ones."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from shared.reasons import Reason
from shared.recipe import ImageKind
from tests import images
from validator.walk import Picture, Rejection, Role, kind_of, walk

MAX_PIXELS = 64_000_000
FILL_BYTES = 8 << 20


def walked(body: bytes, max_pixels: int = MAX_PIXELS) -> Picture | Rejection:
    view = memoryview(body)
    kind = kind_of(view)
    return kind if isinstance(kind, Rejection) else walk(view, kind, max_pixels=max_pixels)


def picture_of(body: bytes) -> Picture:
    found = walked(body)
    assert isinstance(found, Picture), found
    return found


def reason_of(body: bytes) -> Reason:
    found = walked(body)
    assert isinstance(found, Rejection), found
    return found.reason


GOOD = {
    "jpeg": (images.jpeg(), ImageKind.JPEG, 1, 8, 3),
    "progressive jpeg": (images.jpeg(progressive=True), ImageKind.JPEG, 1, 8, 3),
    "jpeg with restarts": (images.jpeg(restart_marker_rows=1), ImageKind.JPEG, 1, 8, 3),
    "cmyk jpeg": (images.cmyk_jpeg(), ImageKind.JPEG, 1, 8, 4),
    "grey jpeg": (images.encoded(images.picture(mode="L"), "JPEG"), ImageKind.JPEG, 1, 8, 1),
    "png": (images.png(), ImageKind.PNG, 1, 8, 3),
    "png with alpha": (images.png(mode="RGBA"), ImageKind.PNG, 1, 8, 4),
    "png with palette": (images.png(mode="P"), ImageKind.PNG, 1, 8, 1),
    "png of 16 bits": (images.grey_png_16(), ImageKind.PNG, 1, 16, 1),
    "animated png": (images.animated("PNG"), ImageKind.PNG, 3, 8, 3),
    "gif": (images.gif(), ImageKind.GIF, 1, 8, 1),
    "animated gif": (images.animated("GIF"), ImageKind.GIF, 3, 8, 1),
    "webp": (images.webp(), ImageKind.WEBP, 1, 8, 3),
    "lossless webp": (images.webp(lossless=True), ImageKind.WEBP, 1, 8, 3),
    "webp with alpha": (images.encoded(images.picture(mode="RGBA"), "WEBP"), ImageKind.WEBP, 1, 8, 3),
    "animated webp": (images.animated("WEBP"), ImageKind.WEBP, 3, 8, 4),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_image_is_described_by_its_header(name: str) -> None:
    body, kind, frames, depth, channels = GOOD[name]

    found = picture_of(body)

    assert (found.kind, found.width, found.height) == (kind, *images.SIZE)
    assert (found.frames, found.depth, found.channels, found.end) == (frames, depth, channels, len(body))


@pytest.mark.parametrize("name", GOOD)
def test_spans_cover_the_picture_without_gap(name: str) -> None:
    found = picture_of(GOOD[name][0] + images.TAIL)

    places = [0, *(place for span in found.spans for place in (span.start, span.end)), found.end]

    assert places[0::2] == places[1::2]
    assert found.end == len(GOOD[name][0])


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "gif"])
def test_a_file_cut_anywhere_is_refused(kind: str) -> None:
    body = images.good()[kind]

    refused = [reason_of(body[:length]) for length in range(12, len(body) - 1)]

    assert set(refused) == {Reason.CORRUPT_IMAGE}


HOSTILE = {
    "nothing": (b"", Reason.EMPTY_BODY),
    "html named jpg": (b"<!doctype html><html><body>404</body></html>", Reason.NOT_AN_IMAGE),
    "json": (b'{"error": "rate limited"}', Reason.NOT_AN_IMAGE),
    "plain text": (b"Not found", Reason.NOT_AN_IMAGE),
    "svg": (b'<?xml version="1.0"?><svg onload="alert(1)"/>', Reason.FORMAT_NOT_ALLOWED),
    "bmp": (images.encoded(images.picture(), "BMP"), Reason.FORMAT_NOT_ALLOWED),
    "tiff": (images.encoded(images.picture(), "TIFF"), Reason.FORMAT_NOT_ALLOWED),
    "signature only": (images.png()[:8], Reason.CORRUPT_IMAGE),
    # a picture no decoder may see
    "png bomb": (images.png_bomb(), Reason.TOO_MANY_PIXELS),
    "long thin png": (images.png_of(20_001, 1, 8, 0, images.zeros(20_002)), Reason.TOO_MANY_PIXELS),
    "webp bomb": (images.flat_webp(16_000, 16_000), Reason.TOO_MANY_PIXELS),
    "gif with a huge screen": (images.gif_of_frames(1, (65_535, 65_535)), Reason.TOO_MANY_PIXELS),
    "4000 scans": (images.jpeg_of_scans(4000), Reason.TOO_COMPLEX),
    "60 scans over 49 million pixels": (images.jpeg_of_scans(60, 7000, 7000), Reason.TOO_COMPLEX),
    "100,000 gif frames": (images.gif_of_frames(100_000), Reason.TOO_MANY_FRAMES),
    "8,000 webp frames": (images.animated_webp_of(8_000), Reason.TOO_MANY_FRAMES),
    # structure made to cost time
    "many empty png chunks": (images.png()[:33] + images.chunk(b"teSt", b"") * 100_000, Reason.TOO_COMPLEX),
    "many empty jpeg comments": (b"\xff\xd8" + images.segment(0xFE, b"") * 100_000, Reason.TOO_COMPLEX),
    "fill bytes without end": (b"\xff\xd8" + b"\xff" * FILL_BYTES, Reason.CORRUPT_IMAGE),
    "gif of tiny blocks": (
        images.gif_of_frames(0)[:-1] + b"!\xfe" + b"\1x" * 100_000 + b"\0;",
        Reason.TOO_COMPLEX,
    ),
    # damage
    "wrong checksum": (images.png()[:33] + images.chunk(b"tEXt", b"a\0b", checksum=1), Reason.CORRUPT_IMAGE),
    "no pixels": (images.png()[:33] + images.chunk(b"IEND", b""), Reason.CORRUPT_IMAGE),
    "palette missing": (images.png_of(8, 8, 8, 3, zlib.compress(bytes(72))), Reason.CORRUPT_IMAGE),
    "depth that is none": (images.png_of(8, 8, 7, 0, zlib.compress(bytes(72))), Reason.CORRUPT_IMAGE),
    "no area": (images.png_of(0, 8, 8, 0, b""), Reason.CORRUPT_IMAGE),
    "scan before the frame": (b"\xff\xd8" + images.segment(0xDA, b"\0") + b"\xff\xd9", Reason.CORRUPT_IMAGE),
    "bytes between segments": (images.jpeg()[:20] + b"xyz" + images.jpeg()[20:], Reason.CORRUPT_IMAGE),
    "jpeg of 12 bits": (
        b"\xff\xd8" + images.segment(0xC1, struct.pack(">BHHB", 12, 8, 8, 1) + b"\1\x11\0"),
        Reason.FORMAT_NOT_ALLOWED,
    ),
    "riff longer than the file": (images.webp()[:4] + b"\xff\xff\xff\x00" + images.webp()[8:], Reason.CORRUPT_IMAGE),
    "end chunk with something in it": (
        images.png()[:-12] + images.chunk(b"IEND", images.SECRET),
        Reason.CORRUPT_IMAGE,
    ),
    "palette beyond any": (images.with_chunk(images.png(), b"PLTE", bytes(771)), Reason.CORRUPT_IMAGE),
    "more pixels than the picture has": (
        images.png_of(*images.SIZE, 8, 0, images.zeros(100 << 20)),
        Reason.CORRUPT_IMAGE,
    ),
    "doubled webp chunk": (
        images.riff((b"VP8X", bytes(10)), (b"VP8X", bytes(10)), (b"VP8L", images.flat_webp(1, 1)[20:])),
        Reason.CORRUPT_IMAGE,
    ),
    "long webp chunk": (
        images.riff((b"VP8X", bytes(40)), (b"VP8L", images.flat_webp(1, 1)[20:])),
        Reason.CORRUPT_IMAGE,
    ),
    "webp frame of more than a picture": (
        images.riff(
            (b"VP8X", b"\x02" + bytes(9)), (b"ANMF", bytes(16) + images.flat_webp(1, 1)[12:] + b"hidE\2\0\0\0ab")
        ),
        Reason.CORRUPT_IMAGE,
    ),
    "webp without picture": (images.riff((b"VP8X", bytes(10))), Reason.CORRUPT_IMAGE),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_for_what_it_is(name: str) -> None:
    body, reason = HOSTILE[name]

    assert reason_of(body) is reason


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_read(orientation: int, order: str) -> None:
    block = images.exif_block(orientation, order=order)

    in_jpeg = images.with_segment(images.jpeg(), 0xE1, b"Exif\0\0" + block)
    in_png = images.with_chunk(images.png(), b"eXIf", block)

    assert picture_of(in_jpeg).orientation == orientation
    assert picture_of(in_png).orientation == orientation


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_an_orientation_that_is_none_counts_as_upright(orientation: int) -> None:
    assert picture_of(images.jpeg_with_exif(orientation)).orientation == 1


def test_fill_bytes_are_no_part_of_the_picture() -> None:
    body = images.jpeg()

    found = picture_of(body[:2] + b"\xff" * FILL_BYTES + body[2:])

    kept = sum(span.end - span.start for span in found.spans if span.role is Role.PICTURE)
    assert kept == len(body)


def test_random_pixels_are_not_more_than_the_picture_has() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 300, 3), dtype=np.uint8))

    for level in (0, 9):
        assert picture_of(images.encoded(noise, "PNG", compress_level=level)).width == 300


def test_the_end_is_found_behind_an_end_marker_in_a_thumbnail() -> None:
    body = images.with_segment(images.jpeg(), 0xE1, b"Exif\0\0" + images.jpeg(16, 16))

    found = picture_of(body + images.jpeg(32, 32))

    assert found.end == len(body)


def test_pixels_are_limited_by_the_recipe() -> None:
    width, height = images.SIZE

    assert isinstance(walked(images.png(), width * height), Picture)
    assert isinstance(walked(images.png(), width * height - 1), Rejection)


def test_a_profile_that_inflates_without_end_is_metadata() -> None:
    bomb = images.with_chunk(images.png(), b"iCCP", b"bomb\0\0" + images.zeros(100 << 20))

    found = picture_of(bomb)

    assert not found.has_profile
    assert [span.role for span in found.spans] == [Role.PICTURE, Role.METADATA, Role.PICTURE]
