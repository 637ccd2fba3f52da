"""A small picture of an accepted image, for people who leaf through a dataset.

It is made from pixels that are decoded anyway where there are some, else from a decode of its own, as small as the
format allows. It never decides over an image: what gives no thumbnail is accepted without one.
"""

import io

from PIL import Image

from validator.colour import to_srgb
from validator.pixels import over_white
from validator.rewrite import upright

#: Small and without visible faults at this size.
_QUALITY = 80


def fitting(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height within a square of that side, in the picture's proportions; never larger than it is."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def thumbnail(image: Image.Image, *, size: tuple[int, int], orientation: int, profile: bytes | None) -> bytes | None:
    """A JPEG; None when it cannot be made. `size` is meant before the picture is turned upright."""
    try:
        small = image.resize(size, Image.Resampling.BOX)
        small = to_srgb(upright(small, orientation), profile)
        if small.mode in ("LA", "RGBA"):
            small = over_white(small)
        small.info.clear()  # encoders would write what the original's header said
        sink = io.BytesIO()
        small.save(sink, "JPEG", quality=_QUALITY)
    except (MemoryError, OSError, ValueError):
        return None
    return sink.getvalue()
