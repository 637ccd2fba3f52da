"""Small pictures: of every format and depth, upright, within their square, and without a say in what is accepted."""

import io

import pytest
from PIL import Image

from shared.recipe import Depth, ImageFormat, Recipe, ResizeMode
from tests import images
from tests.unit.validator.test_judge import HOLLOW_PNG
from validator.judge import judge


def small_of(body: bytes, **choices: object) -> Image.Image:
    verdict = judge(memoryview(body), Recipe.model_validate({"thumbnails": 32, **choices}))
    assert verdict.is_accepted
    assert verdict.thumbnail is not None
    opened = Image.open(io.BytesIO(verdict.thumbnail))
    opened.load()
    return opened


@pytest.mark.parametrize("depth", list(Depth))
@pytest.mark.parametrize(
    "body",
    [images.photo(), images.png(200, 100), images.animated("GIF"), images.animated("WEBP")],
    ids=["jpeg", "png", "gif", "webp"],
)
def test_every_format_and_depth_gives_a_small_jpeg(body: bytes, depth: Depth) -> None:
    small = small_of(body, depth=depth)

    original = Image.open(io.BytesIO(body))
    assert (small.format, max(small.size)) == ("JPEG", min(32, max(original.size)))
    assert small.width / small.height == pytest.approx(original.width / original.height, rel=0.1)


def test_without_the_choice_there_is_none() -> None:
    assert judge(memoryview(images.jpeg()), Recipe()).thumbnail is None


def test_a_picture_that_lies_on_its_side_is_turned() -> None:
    sink = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (120, 60), (200, 10, 10)).save(sink, "JPEG", exif=exif)

    small = small_of(sink.getvalue())

    assert small.size == (16, 32)
    assert not small.getexif()


def test_it_shows_what_is_stored() -> None:
    small = small_of(images.photo(), resize_mode=ResizeMode.CENTER_CROP, image_size=64)

    assert small.size == (32, 32)


def test_what_cannot_be_shown_is_accepted_all_the_same() -> None:
    plain, asked = Recipe(), Recipe(thumbnails=64)

    verdict = judge(memoryview(HOLLOW_PNG), asked)

    assert judge(memoryview(HOLLOW_PNG), plain).is_accepted
    assert verdict.is_accepted
    assert verdict.thumbnail is None


@pytest.mark.parametrize("depth", list(Depth))
@pytest.mark.parametrize("image_format", [None, ImageFormat.WEBP])
def test_the_choice_changes_nothing_that_is_stored(depth: Depth, image_format: ImageFormat | None) -> None:
    body = images.photo()
    without = judge(memoryview(body), Recipe(depth=depth, image_format=image_format))

    asked = judge(memoryview(body), Recipe(depth=depth, image_format=image_format, thumbnails=48))

    assert bytes(asked.stored or b"") == bytes(without.stored or b"")
    assert asked.columns["stored_sha256"] == without.columns["stored_sha256"]


def test_a_recipe_without_it_is_known_by_its_old_digest() -> None:
    assert Recipe(thumbnails=64).digest() != Recipe().digest()
    assert Recipe(thumbnails=None).digest() == Recipe().digest()
