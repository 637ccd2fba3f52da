"""The checks an image passes before it is decoded, in order: values in, verdict out.

Each check looks at what the header says and at the recipe, and gives a rejection or nothing. The first
rejection counts, so the order decides which reason a client reads.
"""

from collections.abc import Callable

from shared.reasons import Reason
from shared.recipe import ImageKind, Recipe
from validator.walk import Picture, Rejection


def is_allowed_format(kind: ImageKind, recipe: Recipe) -> Rejection | None:
    """Asked before the walk: a format that is not wanted need not be whole."""
    if kind in recipe.formats:
        return None
    return Rejection(Reason.FORMAT_NOT_ALLOWED, f"{kind.value} is not among the recipe's formats")


def has_enough_bytes(size_bytes: int, recipe: Recipe) -> Rejection | None:
    """Asked before the walk as well."""
    if size_bytes >= recipe.min_bytes:
        return None
    return Rejection(Reason.FILE_TOO_SMALL, f"{size_bytes} bytes")


def is_large_enough(picture: Picture, recipe: Recipe) -> Rejection | None:
    shorter = min(picture.width, picture.height)
    if shorter >= recipe.min_image_size:
        return None
    return Rejection(Reason.TOO_SMALL, f"the shorter side has {shorter} pixels")


def has_allowed_area(picture: Picture, recipe: Recipe) -> Rejection | None:
    if recipe.max_image_area is None or picture.pixels <= recipe.max_image_area:
        return None
    return Rejection(Reason.TOO_LARGE, f"{picture.pixels} pixels")


def has_allowed_ratio(picture: Picture, recipe: Recipe) -> Rejection | None:
    longer, shorter = max(picture.width, picture.height), min(picture.width, picture.height)
    if recipe.max_aspect_ratio is None or longer <= recipe.max_aspect_ratio * shorter:
        return None
    return Rejection(Reason.ASPECT_RATIO, f"the sides are {longer} : {shorter}")


Check = Callable[[Picture, Recipe], Rejection | None]

#: What is asked of a picture whose header was read. Limits on pixels, frames and scans are the walk's own.
CHECKS: tuple[Check, ...] = (is_large_enough, has_allowed_area, has_allowed_ratio)


def check(picture: Picture, recipe: Recipe) -> Rejection | None:
    """The first rejection by `CHECKS`, or None."""
    for one in CHECKS:
        rejection = one(picture, recipe)
        if rejection is not None:
            return rejection
    return None
