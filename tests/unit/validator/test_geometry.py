"""img2dataset's resize modes, by their arithmetic."""

import pytest

from shared.recipe import Recipe, ResizeMode
from validator.geometry import plan_resize

CASES = [
    # mode, side, only if bigger, picture, scaled, canvas (None: stays as it is)
    (ResizeMode.NO, 256, False, (1000, 500), None, None),
    (ResizeMode.KEEP_RATIO, 256, False, (1000, 500), (512, 256), (512, 256)),
    (ResizeMode.KEEP_RATIO, 256, False, (100, 50), (512, 256), (512, 256)),
    (ResizeMode.KEEP_RATIO, 256, True, (100, 50), None, None),
    (ResizeMode.KEEP_RATIO, 50, False, (100, 50), None, None),
    (ResizeMode.KEEP_RATIO_LARGEST, 256, False, (1000, 500), (256, 128), (256, 128)),
    (ResizeMode.KEEP_RATIO_LARGEST, 256, False, (20_000, 1), (256, 1), (256, 1)),
    (ResizeMode.BORDER, 256, False, (1000, 500), (256, 128), (256, 256)),
    (ResizeMode.BORDER, 256, False, (256, 256), None, None),
    (ResizeMode.BORDER, 256, False, (256, 128), (256, 128), (256, 256)),
    (ResizeMode.BORDER, 256, True, (200, 100), None, None),
    (ResizeMode.CENTER_CROP, 256, False, (1000, 500), (256, 256), (256, 256)),
    (ResizeMode.CENTER_CROP, 256, True, (1000, 256), None, None),
]


@pytest.mark.parametrize(("mode", "side", "only_if_bigger", "size", "scaled", "canvas"), CASES)
def test_a_picture_is_resized_as_img2dataset_would(
    mode: ResizeMode,
    side: int,
    only_if_bigger: bool,
    size: tuple[int, int],
    scaled: tuple[int, int] | None,
    canvas: tuple[int, int] | None,
) -> None:
    recipe = Recipe(resize_mode=mode, image_size=side, resize_only_if_bigger=only_if_bigger)

    geometry = plan_resize(*size, recipe)

    assert (geometry.scaled if geometry else None) == scaled
    assert (geometry.canvas if geometry else None) == canvas


def test_a_crop_takes_the_middle() -> None:
    geometry = plan_resize(1000, 500, Recipe(resize_mode=ResizeMode.CENTER_CROP, image_size=256))

    assert geometry is not None
    assert geometry.box == (250, 0, 750, 500)
    assert geometry.shrinks
