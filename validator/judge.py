"""One image from its bytes to its verdict: the steps of validation, in order.

digest ▶ format ▶ header walk ▶ checks ▶ strip ▶ decode ▶ perceptual hash ▶ new pixels, thumbnail, if asked for
"""

from dataclasses import dataclass, field

from shared.reasons import Reason
from shared.recipe import ImageKind, Recipe
from validator.checks import check, has_enough_bytes, is_allowed_format
from validator.fingerprint import phash, sha256
from validator.geometry import Geometry, ample_size, plan_resize
from validator.pixels import OUT_OF_MEMORY, Pixels, decode, makes_pixels, preview
from validator.rewrite import render, stored_kind, strip, upright_size
from validator.thumbnail import fitting, thumbnail
from validator.walk import Body, Picture, Rejection, kind_of, walk
from validator.walk.exif import tags_of, to_json

#: The value of one column of `records.VERDICTS`.
Value = str | int | bool | None


@dataclass(slots=True)
class Verdict:
    """What is said of one image: columns of `records.VERDICTS`, and the bytes to store if it is accepted."""

    columns: dict[str, Value] = field(default_factory=dict)
    #: None when rejected; a view of the fetched bytes from their start when nothing but a tail goes.
    stored: Body | bytes | None = None
    #: A small JPEG of an accepted image, if one was asked for and could be made.
    thumbnail: bytes | None = None

    @property
    def is_accepted(self) -> bool:
        return self.stored is not None

    def reject(self, rejection: Rejection) -> "Verdict":
        self.columns |= {"reason": rejection.reason.value, "detail": rejection.detail}
        return self


def judge(body: Body, recipe: Recipe) -> Verdict:
    """The verdict on the bytes of one image. Costs what the recipe's depth costs; bounded by the caller."""
    verdict = Verdict({"sha256": sha256(body)})
    kind = kind_of(body)
    if isinstance(kind, Rejection):
        return verdict.reject(kind)
    verdict.columns["format"] = kind.value
    unwanted = is_allowed_format(kind, recipe) or has_enough_bytes(len(body), recipe)
    if unwanted is not None:
        return verdict.reject(unwanted)
    picture = walk(body, kind, max_pixels=recipe.max_pixels)
    if isinstance(picture, Rejection):
        return verdict.reject(picture)
    verdict.columns |= _header(body, picture)
    unfit = check(picture, recipe)
    if unfit is not None:
        return verdict.reject(unfit)
    return _derive(body, picture, recipe, verdict)


def _header(body: Body, picture: Picture) -> dict[str, Value]:
    tags = tags_of(body[picture.exif.start : picture.exif.end]) if picture.exif else {}
    return {
        "original_width": picture.width,
        "original_height": picture.height,
        "orientation": picture.orientation,
        "frames": picture.frames,
        "exif": to_json(tags),
    }


def _derive(body: Body, picture: Picture, recipe: Recipe, verdict: Verdict) -> Verdict:
    geometry = plan_resize(*upright_size(picture), recipe)
    is_made_anew = geometry is not None or stored_kind(picture, recipe, geometry) is not picture.kind
    # Decoders see the image without metadata: a text that inflates to gigabytes costs nobody the picture.
    bare = strip(body, picture, keep_metadata=False)
    small = None if is_made_anew else _small(picture, recipe)
    shows = small is not None and makes_pixels(picture, recipe.depth)
    ample = _ample(picture, geometry) if is_made_anew else small
    pixels = decode(bare, picture, recipe.depth, needs_image=is_made_anew or shows, ample=ample)
    if isinstance(pixels, Rejection):
        return verdict.reject(pixels)
    if pixels.grey is not None:
        verdict.columns["phash"] = phash(pixels.grey, picture.orientation)
    if is_made_anew:
        return _store_pixels(body, picture, recipe, verdict, pixels, geometry)
    if small is not None:
        verdict.thumbnail = _thumbnail(pixels if shows else preview(bare, picture, small), picture, small)
    stored = strip(body, picture, keep_metadata=True) if recipe.keep_metadata else bare
    return _store(verdict, body, stored, picture.kind, upright_size(picture))


def _ample(picture: Picture, geometry: Geometry | None) -> tuple[int, int] | None:
    """The pixels that resizing needs, as the file has them; None: all."""
    ample = ample_size(geometry, *upright_size(picture))
    return (ample[1], ample[0]) if ample is not None and picture.orientation >= 5 else ample


def _small(picture: Picture, recipe: Recipe) -> tuple[int, int] | None:
    """The size of its thumbnail, before it is turned upright; None: there is to be none."""
    return None if recipe.thumbnails is None else fitting((picture.width, picture.height), recipe.thumbnails)


def _thumbnail(pixels: Pixels | None, picture: Picture, size: tuple[int, int]) -> bytes | None:
    if pixels is None or pixels.image is None:
        return None
    return thumbnail(pixels.image, size=size, orientation=picture.orientation, profile=pixels.profile)


def _store_pixels(
    body: Body, picture: Picture, recipe: Recipe, verdict: Verdict, pixels: Pixels, geometry: Geometry | None
) -> Verdict:
    exif = bytes(body[picture.exif.start : picture.exif.end]) if picture.exif else b""
    try:
        rendered = render(pixels, picture, recipe, geometry, exif)
    except MemoryError:
        rendered = Rejection(Reason.DECODER_CRASHED, OUT_OF_MEMORY)
    if isinstance(rendered, Rejection):
        return verdict.reject(rendered)
    if recipe.thumbnails is not None:
        size = fitting(rendered.size, recipe.thumbnails)
        verdict.thumbnail = thumbnail(rendered.image, size=size, orientation=1, profile=None)
    return _store(verdict, body, rendered.body, rendered.kind, rendered.size)


def _store(verdict: Verdict, body: Body, stored: Body | bytes, kind: ImageKind, size: tuple[int, int]) -> Verdict:
    is_derived = isinstance(stored, bytes)
    is_untouched = not is_derived and len(stored) == len(body)
    verdict.stored = stored
    verdict.columns |= {
        "derived": is_derived,
        "length": len(stored),
        "stored_format": kind.value,
        "stored_sha256": verdict.columns["sha256"] if is_untouched else sha256(stored),
        "width": size[0],
        "height": size[1],
    }
    return verdict
