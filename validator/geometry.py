"""Which size a stored picture gets: img2dataset's resize modes as arithmetic."""

from dataclasses import dataclass
from math import ceil

from shared.recipe import Recipe, ResizeMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How to get from the upright picture to the stored one: cut `box`, scale it to `scaled`, pad to `canvas`."""

    box: tuple[float, float, float, float]  #: left, top, right, bottom in the upright picture
    scaled: tuple[int, int]
    canvas: tuple[int, int]  #: larger than `scaled` only where a border is added
    shrinks: bool  #: whether pixels are averaged (else interpolated)


#: A picture is averaged from at least so many pixels a side for each new one; more change nothing anybody sees.
_AMPLE = 2


def ample_size(geometry: Geometry | None, width: int, height: int) -> tuple[int, int] | None:
    """As much of an upright picture of that size as the geometry needs; None: all of it."""
    if geometry is None or not geometry.shrinks:
        return None
    left, top, right, bottom = geometry.box
    across, down = geometry.scaled[0] / (right - left), geometry.scaled[1] / (bottom - top)
    return ceil(_AMPLE * across * width), ceil(_AMPLE * down * height)


def plan_resize(width: int, height: int, recipe: Recipe) -> Geometry | None:
    """The geometry for an upright picture of that size; None when it stays as it is."""
    mode, side = recipe.resize_mode, recipe.image_size
    if mode is ResizeMode.NO:
        return None
    fits_longer = mode in (ResizeMode.BORDER, ResizeMode.KEEP_RATIO_LARGEST)
    ruling = max(width, height) if fits_longer else min(width, height)
    shrinks = ruling > side
    if recipe.resize_only_if_bigger and not shrinks:
        return None
    geometry = _geometry(width, height, side / ruling, recipe, shrinks=shrinks)
    return None if geometry.canvas == (width, height) else geometry


def _geometry(width: int, height: int, scale: float, recipe: Recipe, *, shrinks: bool) -> Geometry:
    side = recipe.image_size
    if recipe.resize_mode is ResizeMode.CENTER_CROP:
        inner = min(width, height)
        left, top = (width - inner) / 2, (height - inner) / 2
        # Cropping first gives the same pixels as scaling first, without the huge middle picture of a panorama.
        box = (left, top, left + inner, top + inner)
        return Geometry(box=box, scaled=(side, side), canvas=(side, side), shrinks=shrinks)
    scaled = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = (side, side) if recipe.resize_mode is ResizeMode.BORDER else scaled
    return Geometry(box=(0, 0, width, height), scaled=scaled, canvas=canvas, shrinks=shrinks)
