"""Which pictures a recipe refuses by their header alone."""

from dataclasses import replace

import pytest

from shared.reasons import Reason
from shared.recipe import ImageKind, Recipe
from tests import images
from validator.checks import check, has_enough_bytes, is_allowed_format
from validator.walk import Picture, walk

found = walk(memoryview(images.png()), ImageKind.PNG, max_pixels=1_000_000)
assert isinstance(found, Picture)
PICTURE: Picture = found

CASES = [
    # width, height, recipe, reason
    (1, 1, Recipe(), None),
    (100, 64, Recipe(min_image_size=64), None),
    (100, 63, Recipe(min_image_size=64), Reason.TOO_SMALL),
    (63, 100, Recipe(min_image_size=64), Reason.TOO_SMALL),
    (100, 100, Recipe(max_image_area=10_000), None),
    (100, 101, Recipe(max_image_area=10_000), Reason.TOO_LARGE),
    (300, 100, Recipe(max_aspect_ratio=3.0), None),
    (301, 100, Recipe(max_aspect_ratio=3.0), Reason.ASPECT_RATIO),
    (100, 301, Recipe(max_aspect_ratio=3.0), Reason.ASPECT_RATIO),
    # the first of several reasons counts
    (10, 1000, Recipe(min_image_size=64, max_image_area=1, max_aspect_ratio=1), Reason.TOO_SMALL),
]


@pytest.mark.parametrize(("width", "height", "recipe", "reason"), CASES)
def test_a_picture_is_refused_for_its_size(width: int, height: int, recipe: Recipe, reason: Reason | None) -> None:
    rejection = check(replace(PICTURE, width=width, height=height), recipe)

    assert (rejection.reason if rejection else None) is reason


def test_a_format_outside_the_list_is_refused() -> None:
    recipe = Recipe(formats=(ImageKind.JPEG,))

    rejection = is_allowed_format(ImageKind.GIF, recipe)

    assert rejection is not None
    assert rejection.reason is Reason.FORMAT_NOT_ALLOWED
    assert is_allowed_format(ImageKind.JPEG, recipe) is None


def test_a_file_below_the_least_size_is_refused() -> None:
    recipe = Recipe(min_bytes=100)

    rejection = has_enough_bytes(99, recipe)

    assert rejection is not None
    assert rejection.reason is Reason.FILE_TOO_SMALL
    assert has_enough_bytes(100, recipe) is None
