"""Decodes images: the one place where bytes of strangers meet C decoders, always inside a decode child.

One decode serves verification, perceptual hash and resize. How much is decoded follows from the depth:

    structure  nothing
    standard   JPEG: every coefficient, at an eighth of the size; other formats: up to SMALL_PIXELS
    full       every pixel, of every frame

A JPEG that becomes much smaller is decoded at a half, a quarter or an eighth, unless the depth is full: every
coefficient is read all the same.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import simplejpeg
from PIL import Image

from shared.reasons import Reason
from shared.recipe import Depth, ImageKind
from validator.colour import eight_bit
from validator.fingerprint import SIDE, Grey, shrink
from validator.walk import Body, Picture, Rejection

#: PNG, WebP and GIF cost 10 to 40 ms a megapixel and their structure already shows truncation, so `standard`
#: decodes only those whose perceptual hash is cheap; the others have none.
SMALL_PIXELS = 512 * 512

#: The detail of a rejection for want of memory.
OUT_OF_MEMORY = "the decoder ran out of memory"

_NAMES = {ImageKind.JPEG: "JPEG", ImageKind.PNG: "PNG", ImageKind.WEBP: "WEBP", ImageKind.GIF: "GIF"}
_MAX_DETAIL = 120
#: Rows of pixels that are laid over white at once.
_STRIP = 256

warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Pixels:
    """What decoding gave. `grey` is the first frame at some size; `image` the whole first frame if asked for, perhaps
    smaller than the file says."""

    grey: Grey | None = None
    image: Image.Image | None = None
    profile: bytes | None = None  #: ICC of the image


def decode(
    body: Body | bytes, picture: Picture, depth: Depth, *, needs_image: bool, ample: tuple[int, int] | None = None
) -> Pixels | Rejection:
    """Decodes as deep as asked. `body` is the image without its metadata and tail, `picture` its header.

    `ample`: the width and height, as the file has them, that the image need not exceed; None: as it is.
    """
    try:
        return _decoder_for(picture, depth, needs_image=needs_image, ample=ample)(body)
    except MemoryError:
        return _out_of_memory()
    except Exception as error:  # decoders raise whatever they like on hostile bytes
        if "memory" in str(error).lower():
            return _out_of_memory()
        return Rejection(Reason.CORRUPT_IMAGE, _one_line(f"{type(error).__name__}: {error}"))


def makes_pixels(picture: Picture, depth: Depth) -> bool:
    """Whether that depth decodes the picture such that a smaller one may come of the same decode at little cost."""
    if picture.kind is ImageKind.JPEG:
        return depth is Depth.STANDARD and picture.channels != 4
    return depth is Depth.FULL or (depth is Depth.STANDARD and picture.pixels <= SMALL_PIXELS)


def preview(body: Body | bytes, picture: Picture, ample: tuple[int, int]) -> Pixels | None:
    """The first frame at about that size, for its looks alone; None for what cannot be decoded."""
    try:
        if picture.kind is not ImageKind.JPEG:
            return _first_frame(body, kind=picture.kind)
        opened = _open(body, ImageKind.JPEG)
        opened.draft(None, ample)
        opened.load()
        return Pixels(image=opened, profile=opened.info.get("icc_profile"))
    except Exception:  # as above; nothing hangs on it
        return None


def _decoder_for(
    picture: Picture, depth: Depth, *, needs_image: bool, ample: tuple[int, int] | None
) -> Callable[[Body | bytes], Pixels]:
    if picture.kind is ImageKind.JPEG:
        if needs_image:
            enough = (0, 0) if ample is None or depth is Depth.FULL else ample
            return partial(_jpeg_image, channels=picture.channels, enough=enough)
        return {Depth.STRUCTURE: _nothing, Depth.STANDARD: _jpeg_eighth, Depth.FULL: _jpeg_grey}[depth]
    if depth is Depth.FULL:
        return partial(_all_frames, kind=picture.kind, needs_image=needs_image)
    if needs_image or (depth is Depth.STANDARD and picture.pixels <= SMALL_PIXELS):
        return partial(_first_frame, kind=picture.kind)
    return _nothing


def _nothing(_body: Body | bytes) -> Pixels:
    return Pixels()


def _jpeg_eighth(body: Body | bytes) -> Pixels:
    grey = simplejpeg.decode_jpeg(body, colorspace="GRAY", min_height=SIDE, min_width=SIDE, strict=True)
    return Pixels(grey[:, :, 0])


def _jpeg_grey(body: Body | bytes) -> Pixels:
    return Pixels(simplejpeg.decode_jpeg(body, colorspace="GRAY", strict=True)[:, :, 0])


def _jpeg_image(body: Body | bytes, *, channels: int, enough: tuple[int, int]) -> Pixels:
    """`enough`: the sides to decode, or a little more of them; 0: all."""
    opened = _open(body, ImageKind.JPEG)
    if channels == 4:
        # Only Pillow knows whether the inks are inverted, and only simplejpeg is strict.
        grey = _jpeg_eighth(body).grey
        opened.load()
        return Pixels(grey, opened, opened.info.get("icc_profile"))
    space = "GRAY" if channels == 1 else "RGB"
    array = simplejpeg.decode_jpeg(body, colorspace=space, min_width=enough[0], min_height=enough[1], strict=True)
    image = Image.fromarray(array[:, :, 0] if channels == 1 else array)
    return Pixels(_grey_of(image), image, opened.info.get("icc_profile"))


def _first_frame(body: Body | bytes, *, kind: ImageKind) -> Pixels:
    opened = _open(body, kind)
    opened.load()
    image = eight_bit(opened)
    return Pixels(_grey_of(image), image, opened.info.get("icc_profile"))


def _all_frames(body: Body | bytes, *, kind: ImageKind, needs_image: bool) -> Pixels:
    first = _first_frame(body, kind=kind)
    if not needs_image:
        first = Pixels(first.grey)  # so that two whole pictures need not be held
    opened = _open(body, kind)
    for frame in range(1, getattr(opened, "n_frames", 1)):
        opened.seek(frame)
        opened.load()
    return first


def _open(body: Body | bytes, kind: ImageKind) -> Image.Image:
    return Image.open(io.BytesIO(body), formats=(_NAMES[kind],))


def _grey_of(image: Image.Image) -> Grey:
    """The picture in grey, shrunk if it is large, transparent parts over white."""
    small = shrink(image)
    if small.mode in ("RGBA", "LA", "PA"):
        small = over_white(small)
    return np.asarray(small.convert("L"))


def over_white(image: Image.Image) -> Image.Image:
    """The picture without its alpha channel, as it looks on white paper."""
    paper = Image.new("RGB", image.size, (255, 255, 255))
    for top in range(0, image.height, _STRIP):  # in strips, for whole copies of a large picture need too much memory
        strip = image.crop((0, top, image.width, min(image.height, top + _STRIP))).convert("RGBA")
        paper.paste(strip, (0, top), strip)
    return paper


def _out_of_memory() -> Rejection:
    return Rejection(Reason.DECODER_CRASHED, OUT_OF_MEMORY)


def _one_line(text: str) -> str:
    """A decoder's own words, cut to printable ASCII: they may repeat bytes of the file."""
    return "".join(letter for letter in text if " " <= letter <= "~")[:_MAX_DETAIL]
