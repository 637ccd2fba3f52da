"""A header walk of our own: what an image file claims to be, read under limits before any decoder sees it.

Pure Python over a view of the bytes, one pass, linear in their number. Whatever the bytes, the answer is a
`Picture` or a `Rejection`.
"""

import re
import struct
from collections.abc import Mapping

from shared.reasons import Reason
from shared.recipe import ImageKind
from validator.walk.gif import walk_gif
from validator.walk.jpeg import walk_jpeg
from validator.walk.picture import CUT, Body, Limits, Picture, RefusedError, Rejection, Role, Span, Walk, starts_with
from validator.walk.png import SIGNATURE, walk_png
from validator.walk.webp import walk_webp

__all__ = ["Body", "Picture", "Rejection", "Role", "Span", "kind_of", "walk"]

_WALKS: Mapping[ImageKind, Walk] = {
    ImageKind.JPEG: walk_jpeg,
    ImageKind.PNG: walk_png,
    ImageKind.GIF: walk_gif,
    ImageKind.WEBP: walk_webp,
}

#: Images that are known and not read: place of the signature, signature, name.
_OTHER_IMAGES = (
    (0, b"BM", "bmp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (4, b"ftypavif", "avif"),
    (4, b"ftypavis", "avif"),
    (4, b"ftypheic", "heic"),
    (4, b"ftypheix", "heic"),
    (4, b"ftypmif1", "heif"),
    (0, b"\0\0\1\0", "ico"),
    (0, b"8BPS", "psd"),
    (0, b"\xff\x0a", "jxl"),
    (0, b"\0\0\0\x0cJXL ", "jxl"),
    (0, b"\0\0\0\x0cjP  ", "jp2"),
)
_SVG = re.compile(rb"<svg[\s>]", re.IGNORECASE)
_TEXT = re.compile(rb"[\s\xef\xbb\xbf]*([<{\[])")
_HEAD = 1024


def kind_of(body: Body) -> ImageKind | Rejection:
    """The format by its signature, whatever the file was called."""
    if not len(body):
        return Rejection(Reason.EMPTY_BODY, "no bytes")
    if starts_with(body, 0, (b"\xff\xd8\xff",)):
        return ImageKind.JPEG
    if starts_with(body, 0, (SIGNATURE,)):
        return ImageKind.PNG
    if starts_with(body, 0, (b"GIF87a", b"GIF89a")):
        return ImageKind.GIF
    if starts_with(body, 0, (b"RIFF",)) and starts_with(body, 8, (b"WEBP",)):
        return ImageKind.WEBP
    return _unknown(body)


def walk(body: Body, kind: ImageKind, *, max_pixels: int) -> Picture | Rejection:
    """What the file claims, or why it is refused before it is decoded. `body` is the file and its tail, if any."""
    try:
        return _WALKS[kind](body, Limits(max_pixels))
    except RefusedError as refused:
        return refused.rejection
    except (IndexError, struct.error):
        return Rejection(Reason.CORRUPT_IMAGE, CUT)


def _unknown(body: Body) -> Rejection:
    for at, signature, name in _OTHER_IMAGES:
        if starts_with(body, at, (signature,)):
            return Rejection(Reason.FORMAT_NOT_ALLOWED, f"{name} is not read")
    head = bytes(body[:_HEAD])
    if _SVG.search(head):
        return Rejection(Reason.FORMAT_NOT_ALLOWED, "svg is not read")
    opening = _TEXT.match(head)
    if opening:
        return Rejection(Reason.NOT_AN_IMAGE, "markup" if opening[1] == b"<" else "json")
    return Rejection(Reason.NOT_AN_IMAGE, "no known signature")
