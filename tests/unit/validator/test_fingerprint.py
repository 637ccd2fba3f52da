"""The perceptual hash: stable under re-encoding and turning, far apart for other pictures."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from shared.recipe import Depth, ImageFormat, Recipe
from tests import images
from validator.fingerprint import phash
from validator.judge import judge


def hash_of(body: bytes, depth: Depth = Depth.STANDARD) -> int:
    digits = judge(memoryview(body), Recipe(depth=depth)).columns["phash"]
    assert isinstance(digits, str)
    assert len(digits) == 16
    return int(digits, 16)


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stored_on_its_side_has_the_hash_of_the_upright_one(orientation: int) -> None:
    body = images.jpeg_with_exif(orientation, quality=95)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(body)))

    upright = images.encoded(turned, "JPEG", quality=95)

    assert distance(hash_of(body, Depth.FULL), hash_of(upright, Depth.FULL)) <= 2


@pytest.mark.parametrize("kind", ["png", "webp", "gif"])
def test_another_encoding_of_the_same_picture_lies_near(kind: str) -> None:
    jpeg = hash_of(images.jpeg(256, 192))

    other = hash_of(images.encoded(images.picture(256, 192), kind.upper()))

    assert distance(jpeg, other) <= 4


@pytest.mark.parametrize("seed", range(5))
def test_an_eighth_of_the_size_gives_nearly_the_hash_of_the_whole(seed: int) -> None:
    body = images.photo(seed=seed)

    assert distance(hash_of(body, Depth.STANDARD), hash_of(body, Depth.FULL)) <= 4


def test_different_pictures_lie_far_apart() -> None:
    hashes = [hash_of(images.photo(400, 300, seed=seed)) for seed in range(6)]

    nearest = min(distance(one, other) for place, one in enumerate(hashes) for other in hashes[:place])

    assert nearest > 10


def test_a_flat_picture_has_a_steady_hash() -> None:
    for side in (32, 50, 333):
        assert phash(np.full((side, side), 127, dtype=np.uint8), 1) == "8000000000000000"


def test_the_hash_does_not_depend_on_the_stored_format() -> None:
    kept = judge(memoryview(images.png()), Recipe()).columns["phash"]

    rewritten = judge(memoryview(images.png()), Recipe(image_format=ImageFormat.WEBP)).columns["phash"]

    assert kept == rewritten
