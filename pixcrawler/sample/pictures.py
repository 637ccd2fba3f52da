"""Draws photo-like pictures from a number: crops of a few noise landscapes with shapes of their own.

The same number, seed and library versions give the same bytes. A landscape costs about 0.1 s and is kept;
a picture costs 1 to 8 ms.
"""

import io
import random
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image, ImageDraw

_WIDTH, _HEIGHT = 1536, 1152
_LANDSCAPES = 4
#: Grid points across a landscape, coarse to fine, and how strongly each is seen: roughly 1/f, as in photos.
_OCTAVES = ((3, 44.0), (7, 26.0), (19, 17.0), (53, 12.0), (149, 9.0), (401, 7.5), (1536, 11.0))
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """What to draw: the format as its file extension, and the size in pixels as it is stored."""

    number: int
    kind: str
    width: int
    height: int
    #: EXIF's 1 to 8; 6 means that the viewer has to turn it to the right.
    orientation: int = 1

    @cached_property
    def is_progressive(self) -> bool:
        # Few, since writing one costs five times as much.
        return self.number % 10 == 0


def render(picture: Picture, seed: int) -> bytes:
    """The picture's file."""
    choice = random.Random(f"{seed}/picture/{picture.number}")
    source = _indexed_landscape(seed, choice.randrange(_LANDSCAPES)) if picture.kind == "gif" else None
    if source is None:
        source = _landscape(seed, choice.randrange(_LANDSCAPES))
    left = choice.randrange(_WIDTH - picture.width + 1)
    top = choice.randrange(_HEIGHT - picture.height + 1)
    image = source.crop((left, top, left + picture.width, top + picture.height))
    if choice.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    _draw_shapes(image, choice)
    return _encode(image, picture, quality=choice.randrange(78, 91))


def _draw_shapes(image: Image.Image, choice: random.Random) -> None:
    draw = ImageDraw.Draw(image)
    for _ in range(choice.randrange(2, 7)):
        width, height = (max(1, int(side * choice.uniform(0.05, 0.35))) for side in image.size)
        left, top = choice.randrange(image.width), choice.randrange(image.height)
        colour: tuple[int, ...] | int = tuple(choice.randrange(20, 236) for _ in range(3))
        if image.mode == "P":
            colour = choice.randrange(64)
        shape = draw.ellipse if choice.random() < 0.6 else draw.rectangle
        shape((left, top, left + width, top + height), fill=colour)


def _encode(image: Image.Image, picture: Picture, *, quality: int) -> bytes:
    file = io.BytesIO()
    match picture.kind:
        case "jpg":
            exif = Image.Exif()
            if picture.orientation != 1:
                exif[_EXIF_ORIENTATION] = picture.orientation
            image.save(file, "JPEG", quality=quality, progressive=picture.is_progressive, exif=exif)
        case "png":
            image.save(file, "PNG", compress_level=1)
        case "webp":
            image.save(file, "WEBP", quality=quality, method=0)
        case "gif":
            image.save(file, "GIF", optimize=False)
        case other:
            raise ValueError(f"no such kind: {other}")
    return file.getvalue()


@lru_cache(maxsize=_LANDSCAPES)
def _landscape(seed: int, number: int) -> Image.Image:
    """One large RGB picture: noise in octaves, each colour a little its own way."""
    rng = np.random.default_rng([seed, number])
    light = np.full((_HEIGHT, _WIDTH), 122.0, np.float32)
    for points, strength in _OCTAVES:
        light += strength * _noise(rng, points)
    colours = [light + 22.0 * _noise(rng, 5) + 6.0 * _noise(rng, 61) for _ in range(3)]
    return Image.fromarray(np.clip(np.stack(colours, axis=-1), 0, 255).astype(np.uint8))


@lru_cache(maxsize=_LANDSCAPES)
def _indexed_landscape(seed: int, number: int) -> Image.Image:
    """The same with 64 colours, so that a GIF costs no search for its colours."""
    return _landscape(seed, number).quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def _noise(rng: np.random.Generator, points: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    grid = rng.standard_normal((max(2, points * _HEIGHT // _WIDTH), points), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((_WIDTH, _HEIGHT), Image.Resampling.BILINEAR))
