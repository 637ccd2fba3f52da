"""Stored bytes: nothing but the picture, the same pixels, upright, and the same every time."""

import io
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms, ImageOps

from shared.reasons import Reason
from shared.recipe import Depth, ImageFormat, Recipe, ResizeMode
from tests import images
from validator.judge import Verdict, judge

BLOCK = images.exif_block(6)
HIDDEN = (images.SECRET, images.GPS_TEXT, b"hidden-tail", b"Pentax")


def stored(body: bytes, **recipe: Any) -> bytes:
    return bytes_of(judge(memoryview(body), Recipe(**recipe)))


def bytes_of(verdict: Verdict) -> bytes:
    assert verdict.stored is not None, verdict.columns
    return bytes(verdict.stored)


def opened(body: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def seen(body: bytes) -> npt.NDArray[np.int16]:
    """The pixels as a viewer shows them that obeys the orientation."""
    return np.asarray(ImageOps.exif_transpose(opened(body)).convert("RGB"), dtype=np.int16)


def with_all_metadata(kind: str, orientation: int) -> bytes:
    """An image with EXIF (place and text), XMP, comments and a tail."""
    block = images.exif_block(orientation)
    xmp = b"<x:xmpmeta>" + images.SECRET + b"</x:xmpmeta>"
    if kind == "jpg":
        body = images.with_segment(images.jpeg(), 0xFE, images.SECRET)
        body = images.with_segment(body, 0xED, b"Photoshop 3.0\0" + images.SECRET)
        body = images.with_segment(body, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
        return images.with_segment(body, 0xE1, b"Exif\0\0" + block) + images.TAIL
    if kind == "png":
        body = images.with_chunk(images.png(), b"tEXt", b"Comment\0" + images.SECRET)
        body = images.with_chunk(body, b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        return images.with_chunk(body, b"eXIf", block) + images.TAIL
    return images.webp(lossless=True, exif=block, xmp=xmp) + images.TAIL


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "gif"])
def test_a_plain_image_is_stored_as_it_came(kind: str) -> None:
    body = images.good()[kind]

    verdict = judge(memoryview(body), Recipe())

    assert bytes_of(verdict) == body
    assert verdict.columns["derived"] is False
    assert verdict.columns["stored_sha256"] == verdict.columns["sha256"]


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "gif"])
def test_a_tail_is_cut_off_without_a_copy(kind: str) -> None:
    body = images.good()[kind]

    verdict = judge(memoryview(body + images.TAIL), Recipe())

    assert bytes_of(verdict) == body
    assert verdict.columns["derived"] is False
    assert verdict.columns["length"] == len(body)
    assert verdict.columns["stored_sha256"] != verdict.columns["sha256"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_stripping_keeps_every_pixel_upright(kind: str, orientation: int) -> None:
    body = with_all_metadata(kind, orientation)

    verdict = judge(memoryview(body), Recipe())

    after = bytes_of(verdict)
    assert np.array_equal(seen(after), seen(body))
    assert seen(after).shape[:2] == (verdict.columns["height"], verdict.columns["width"])
    assert not [text for text in HIDDEN if text in after]


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_only_the_orientation_is_left_of_the_metadata(kind: str) -> None:
    turned, upright = (opened(stored(with_all_metadata(kind, orientation))) for orientation in (6, 1))

    assert dict(turned.getexif()) == {0x0112: 6}
    assert dict(upright.getexif()) == {}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_kept_metadata_is_harmless_and_the_picture_upright(kind: str, orientation: int) -> None:
    body = with_all_metadata(kind, orientation)

    after = stored(body, keep_metadata=True)

    tags = dict(opened(after).getexif())
    assert tags == {0x010F: "Pentax", 0x0112: orientation, 0x8298: images.SECRET.decode()}
    assert np.array_equal(seen(after), seen(body))
    # In EXIF, in XMP and, where the format has such, in a comment; what Photoshop notes is dropped.
    assert after.count(images.SECRET) == {"jpg": 3, "png": 3, "webp": 2}[kind]
    assert not [text for text in (images.GPS_TEXT, b"hidden-tail") if text in after]


def test_texts_that_tell_a_place_are_not_kept() -> None:
    packet = b"http://ns.adobe.com/xap/1.0/\0<x exif:GPSLatitude='hidden-place'/>"
    wide = b"http://ns.adobe.com/xap/1.0/\0" + "<x exif:GPSLatitude='hidden'/>".encode("utf-16-le")
    in_jpeg = images.with_segment(images.with_segment(images.jpeg(), 0xE1, packet), 0xE1, wide)
    in_png = images.with_chunk(images.png(), b"tEXt", b"Raw profile type exif\0hidden-place")
    in_webp = images.webp(lossless=True, xmp=packet[29:])

    assert stored(in_jpeg, keep_metadata=True) == images.jpeg()
    assert stored(in_png, keep_metadata=True) == images.png()
    assert b"hidden-place" not in stored(in_webp, keep_metadata=True)


#: Where a decoder looks away: places that belong to the picture by their name and could carry anything.
SMUGGLED = {
    "jpeg: number of lines": images.with_segment(images.jpeg(), 0xDC, images.SECRET),
    "jpeg: extension": images.with_segment(images.jpeg(), 0xF5, images.SECRET),
    "jpeg: long note of Adobe": images.with_segment(images.jpeg(), 0xEE, b"Adobe" + images.SECRET),
    "jpeg: thumbnail of JFIF": images.with_segment(images.jpeg(), 0xE0, b"JFIF\0\1\1\0\0\1\0\1\2\2" + images.SECRET),
    "jpeg: second EXIF": images.with_segment(images.jpeg_with_exif(), 0xE1, b"Exif\0\0" + images.SECRET),
    "png: long gamma": images.with_chunk(images.png(), b"gAMA", images.SECRET),
    "png: private chunk": images.with_chunk(images.png(), b"prVt", images.SECRET),
    "png: packed text": images.with_chunk(images.png(), b"zTXt", b"a\0\0" + images.SECRET),
    "jpeg: no profile": images.with_segment(images.jpeg(), 0xE2, b"ICC_PROFILE\0\1\1" + images.SECRET),
    "jpeg: second part of none": images.with_segment(images.jpeg(), 0xE2, b"ICC_PROFILE\0\2\2" + images.SECRET),
    "png: no profile": images.with_chunk(images.png(), b"iCCP", b"a\0\0" + zlib.compress(images.SECRET, 0)),
    "png: cargo behind a profile": images.with_chunk(
        images.png(), b"iCCP", b"a\0\0" + zlib.compress(images.linear_profile()) + images.SECRET
    ),
    "webp: no profile": images.webp(lossless=True, icc_profile=images.SECRET),
    "gif: long graphic control": images.with_gif_block(b"\x21\xf9\4\0\0\0\0", images.SECRET),
    "gif: long loop": images.with_gif_block(b"\x21\xff\x0bNETSCAPE2.0\3\1\0\0", images.SECRET),
    "gif: other application": images.with_gif_block(b"\x21\xff\x0bXMP DataXMP", images.SECRET),
    "webp: unknown chunk": images.riff((b"VP8L", images.flat_webp(9, 9)[20:]), (b"hidE", images.SECRET)),
}


@pytest.mark.parametrize("name", SMUGGLED)
@pytest.mark.parametrize("depth", Depth)
def test_nothing_is_smuggled_where_decoders_look_away(name: str, depth: Depth) -> None:
    assert images.SECRET in SMUGGLED[name]

    after = stored(SMUGGLED[name], depth=depth)

    assert images.SECRET not in after
    assert opened(after).size in (images.SIZE, (9, 9))


def test_a_gif_loses_its_comment_and_keeps_its_loop_and_frames() -> None:
    body = images.encoded(
        images.picture(),
        "GIF",
        save_all=True,
        append_images=[images.picture().rotate(9)],
        loop=3,
        comment=images.SECRET,
    )
    assert images.SECRET in body

    after = stored(body)

    assert images.SECRET not in after
    assert opened(after).info["loop"] == 3
    assert getattr(opened(after), "n_frames", 1) == 2


def test_a_colour_profile_survives_stripping() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("JPEG", "PNG", "WEBP"):
        body = images.encoded(images.picture(), kind, icc_profile=profile, exif=images.exif_block())

        after = opened(stored(body))

        assert after.info["icc_profile"] == profile
        assert dict(after.getexif()) == {}


def test_an_oversized_profile_is_dropped() -> None:
    body = images.encoded(images.picture(), "JPEG", icc_profile=bytes(2 << 20))

    after = stored(body)

    assert len(after) < len(body) - (2 << 20)
    assert np.array_equal(seen(after), seen(images.encoded(images.picture(), "JPEG")))


def test_a_pointer_to_cut_pictures_goes_even_if_metadata_stays() -> None:
    first = images.with_segment(images.jpeg(), 0xE2, b"MPF\0" + bytes(40))

    after = stored(first + images.jpeg(32, 32), keep_metadata=True)

    assert after == images.jpeg()


RENDERED: dict[str, tuple[bytes, dict[str, Any], str, tuple[int, int]]] = {
    "jpeg": (images.jpeg(), {"resize_mode": ResizeMode.BORDER, "image_size": 128}, "JPEG", (128, 128)),
    "png": (images.png(), {"resize_mode": ResizeMode.CENTER_CROP, "image_size": 32}, "PNG", (32, 32)),
    "webp": (images.webp(), {"resize_mode": ResizeMode.KEEP_RATIO, "image_size": 32}, "WEBP", (48, 32)),
    "gif": (images.animated("GIF"), {"resize_mode": ResizeMode.KEEP_RATIO, "image_size": 32}, "PNG", (48, 32)),
    "png to jpeg": (images.png(mode="RGBA"), {"image_format": ImageFormat.JPEG}, "JPEG", images.SIZE),
    "gif to webp": (images.animated("GIF"), {"image_format": ImageFormat.WEBP}, "WEBP", images.SIZE),
    "jpeg to png": (images.jpeg(), {"image_format": ImageFormat.PNG}, "PNG", images.SIZE),
    "palette to jpeg": (images.png(mode="P"), {"image_format": ImageFormat.JPEG}, "JPEG", images.SIZE),
    "bits to webp": (images.png(mode="1"), {"image_format": ImageFormat.WEBP}, "WEBP", images.SIZE),
    "alpha and grey to png": (images.webp(), {"image_format": ImageFormat.PNG}, "PNG", images.SIZE),
}


@pytest.mark.parametrize("name", RENDERED)
def test_new_pixels_have_the_size_and_format_asked_for(name: str) -> None:
    body, recipe, kind, size = RENDERED[name]

    verdict = judge(memoryview(body), Recipe(**recipe))

    image = opened(bytes_of(verdict))
    assert (image.format, image.size, getattr(image, "n_frames", 1)) == (kind, size, 1)
    assert (verdict.columns["width"], verdict.columns["height"]) == size
    assert verdict.columns["derived"] is True
    assert verdict.columns["stored_format"] == {"JPEG": "jpg"}.get(kind, kind.lower())


@pytest.mark.parametrize("name", RENDERED)
def test_the_same_bytes_give_the_same_bytes(name: str) -> None:
    body, recipe, _, _ = RENDERED[name]

    assert stored(body, **recipe) == stored(body, **recipe)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_new_pixels_are_upright_and_carry_no_metadata(orientation: int) -> None:
    body = with_all_metadata("png", orientation)

    after = stored(body, resize_mode=ResizeMode.KEEP_RATIO, image_size=32)

    whole = ImageOps.exif_transpose(opened(body)).resize(opened(after).size, Image.Resampling.BOX)
    assert np.array_equal(seen(after), np.asarray(whole.convert("RGB")))
    assert dict(opened(after).getexif()) == {}
    assert not [text for text in HIDDEN if text in after]


def test_kept_metadata_of_new_pixels_says_upright() -> None:
    body = with_all_metadata("jpg", 6)

    after = opened(stored(body, keep_metadata=True, resize_mode=ResizeMode.KEEP_RATIO, image_size=32))

    assert after.size == (32, 48)
    assert after.getexif()[0x0112] == 1
    assert after.getexif()[0x8298] == images.SECRET.decode()


COLOURS: dict[str, tuple[bytes, dict[str, Any], tuple[int, int, int]]] = {
    # what the picture shows, as RGB
    "cmyk": (images.cmyk_jpeg(), {"image_format": ImageFormat.PNG}, (0, 255, 255)),
    "16 bits": (images.grey_png_16(48_000), {"image_format": ImageFormat.JPEG}, (187, 187, 187)),
    "clear over white": (
        images.encoded(Image.new("RGBA", (40, 40), (200, 0, 0, 0)), "PNG"),
        {"image_format": ImageFormat.JPEG},
        (255, 255, 255),
    ),
    "half clear over white": (
        images.encoded(Image.new("RGBA", (40, 40), (0, 0, 0, 128)), "PNG"),
        {"image_format": ImageFormat.JPEG},
        (127, 127, 127),
    ),
    "clear colour of a palette": (
        images.encoded(Image.new("RGBA", (40, 40), (200, 0, 0, 0)).quantize(4), "PNG"),
        {"image_format": ImageFormat.JPEG},
        (255, 255, 255),
    ),
}


@pytest.mark.parametrize("name", COLOURS)
def test_colours_come_out_as_they_look(name: str) -> None:
    body, recipe, colour = COLOURS[name]

    mean = seen(stored(body, **recipe)).mean(axis=(0, 1))

    assert np.abs(mean - colour).max() <= 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_another_colour_space_is_turned_into_srgb(kind: str, mode: str) -> None:
    middle = Image.new("RGB", (40, 40), (128, 128, 128))
    image = middle.convert("RGB" if kind == "JPEG" else mode)
    body = images.encoded(image, kind, icc_profile=images.linear_profile())

    after = stored(body, resize_mode=ResizeMode.KEEP_RATIO, image_size=20)

    assert np.abs(seen(after).mean(axis=(0, 1)) - 188).max() <= 2
    assert "icc_profile" not in opened(after).info


@pytest.mark.parametrize("profile", [b"no profile", images.linear_profile()[:200], images.linear_profile()])
def test_a_profile_that_does_not_fit_is_ignored(profile: bytes) -> None:
    grey = Image.new("L", (40, 40), 128)

    after = stored(images.encoded(grey, "PNG", icc_profile=profile), image_format=ImageFormat.JPEG)

    assert np.abs(seen(after).mean(axis=(0, 1)) - 128).max() <= 2


def test_a_border_is_white() -> None:
    after = seen(stored(images.jpeg(96, 48), resize_mode=ResizeMode.BORDER, image_size=96, image_format="png"))

    assert (after[:24] == 255).all()
    assert (after[-24:] == 255).all()
    assert not (after[24:-24] == 255).all()


def test_jpegs_are_not_encoded_again_for_a_jpeg_dataset() -> None:
    assert stored(images.jpeg(), image_format=ImageFormat.JPEG) == images.jpeg()


def test_enlarging_beyond_the_pixel_limit_is_refused() -> None:
    recipe = Recipe(resize_mode=ResizeMode.KEEP_RATIO, image_size=10_000, max_pixels=1_000_000)

    verdict = judge(memoryview(images.jpeg()), recipe)

    assert verdict.columns["reason"] == Reason.TOO_MANY_PIXELS


def test_a_webp_that_cannot_be_is_refused() -> None:
    body = images.png_of(17_000, 8, 8, 0, images.zeros(17_001 * 8))

    verdict = judge(memoryview(body), Recipe(image_format=ImageFormat.WEBP))

    assert verdict.columns["reason"] == Reason.TOO_LARGE


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["border", "keep_ratio", "center_crop"])
def test_a_large_jpeg_becomes_small_alike_however_much_of_it_is_decoded(mode: str, orientation: int) -> None:
    body = images.with_segment(images.photo(1201, 803), 0xE1, b"Exif\0\0" + images.exif_block(orientation))

    scaled, whole = (stored(body, resize_mode=mode, image_size=97, depth=depth) for depth in ("standard", "full"))

    assert scaled != whole
    assert seen(scaled).shape == seen(whole).shape
    assert float(np.abs(seen(scaled) - seen(whole)).mean()) < 3
