"""The one place where an image's bytes are rewritten.

`strip` is lossless: it ends the file where the picture ends and leaves out what only speaks about it.
`render` makes new pixels: upright, resized, in sRGB with eight bits, in the format the recipe asks for.
The same bytes and recipe always give the same bytes.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from shared.reasons import Reason
from shared.recipe import ImageFormat, ImageKind, Recipe
from validator.colour import to_srgb
from validator.geometry import Geometry
from validator.metadata import clean_block, is_harmless
from validator.pixels import Pixels, over_white
from validator.walk import Body, Picture, Rejection, Role, Span
from validator.walk.exif import minimal_block

#: Bytes of an ICC profile worth keeping.
_MAX_PROFILE = 1 << 20
#: WebP keeps sides in 14 bits, and zero is not used.
_MAX_WEBP_SIDE = 16_383
_WHITE: dict[str, int | tuple[int, ...]] = {
    "L": 255,
    "LA": (255, 255),
    "RGB": (255, 255, 255),
    "RGBA": (255, 255, 255, 255),
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TARGETS = {ImageFormat.JPEG: ImageKind.JPEG, ImageFormat.PNG: ImageKind.PNG, ImageFormat.WEBP: ImageKind.WEBP}


@dataclass(frozen=True, slots=True)
class Rendered:
    """An image made by us."""

    body: bytes
    kind: ImageKind
    image: Image.Image  #: the pixels that were encoded, in sRGB

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size


def stored_kind(picture: Picture, recipe: Recipe, geometry: Geometry | None) -> ImageKind:
    """The format the picture is stored in."""
    target = _TARGETS.get(recipe.stored_format, picture.kind)
    return ImageKind.PNG if target is ImageKind.GIF and geometry is not None else target


def upright_size(picture: Picture) -> tuple[int, int]:
    """Width and height as a viewer shows it."""
    if picture.orientation >= 5:
        return picture.height, picture.width
    return picture.width, picture.height


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as a viewer shows it."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def strip(body: Body, picture: Picture, *, keep_metadata: bool) -> Body | bytes:
    """The image without its tail and its metadata. A slice of `body` where that is enough.

    An orientation other than 1 stays in an EXIF block of its own, or the picture would lie on its side. If
    metadata is kept, so are the harmless tags of the block and harmless texts.
    """
    kept = _kept(body, picture, keep_metadata=keep_metadata)
    if len(kept) == len(picture.spans):
        return body[: picture.end]
    pieces = _joined(body, kept)
    block = _block_to_store(body, picture, keep_metadata=keep_metadata)
    if block:
        pieces = _with_exif(pieces, picture.kind, block)
    return _finish_webp(pieces) if picture.kind is ImageKind.WEBP else pieces


def render(
    pixels: Pixels, picture: Picture, recipe: Recipe, geometry: Geometry | None, exif: bytes
) -> Rendered | Rejection:
    """The picture with new pixels. `exif` is the block of the original, kept if the recipe keeps metadata."""
    assert pixels.image is not None, "decoded with needs_image"
    kind = stored_kind(picture, recipe, geometry)
    size = geometry.canvas if geometry else upright_size(picture)
    too_large = _check_target(size, kind, recipe)
    if too_large is not None:
        return too_large
    image = upright(pixels.image, picture.orientation)
    if geometry is not None:
        image = _resized(image, geometry, upright_size(picture))
    image = to_srgb(image, pixels.profile)
    if geometry is not None and geometry.canvas != image.size:
        image = _padded(image, geometry)
    block = clean_block(memoryview(exif), 1) if recipe.keep_metadata else b""
    return Rendered(_encoded(image, kind, recipe.encode_quality, block), kind, image)


def _kept(body: Body, picture: Picture, *, keep_metadata: bool) -> Sequence[Span]:
    profile_size = sum(span.end - span.start for span in picture.spans if span.role is Role.PROFILE)
    roles = {Role.PICTURE} if profile_size > _MAX_PROFILE else {Role.PICTURE, Role.PROFILE}
    if not keep_metadata:
        return [span for span in picture.spans if span.role in roles]
    return [
        span
        for span in picture.spans
        if span.role in roles or (span.role is Role.TEXT and is_harmless(body[span.start : span.end]))
    ]


def _block_to_store(body: Body, picture: Picture, *, keep_metadata: bool) -> bytes:
    """The EXIF block of the stored image; empty when it needs none."""
    kept = b""
    if keep_metadata and picture.exif is not None:
        kept = clean_block(body[picture.exif.start : picture.exif.end], picture.orientation)
    if kept or picture.orientation == 1:
        return kept
    return minimal_block(picture.orientation)


def _joined(body: Body, spans: Sequence[Span]) -> bytes:
    return b"".join(body[span.start : span.end] for span in spans)


def _with_exif(stripped: bytes, kind: ImageKind, block: bytes) -> bytes:
    if kind is ImageKind.JPEG:
        at = _after_jfif(stripped)
        content = b"Exif\0\0" + block
        return stripped[:at] + struct.pack(">BBH", 0xFF, 0xE1, len(content) + 2) + content + stripped[at:]
    if kind is ImageKind.PNG:
        at = 8 + 25  # signature and header chunk
        chunk = struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
        return stripped[:at] + chunk + stripped[at:]
    return stripped + b"EXIF" + struct.pack("<I", len(block)) + block + bytes(len(block) & 1)


def _after_jfif(stripped: bytes) -> int:
    """JFIF demands the first place after SOI."""
    if stripped[2:4] != b"\xff\xe0":
        return 2
    length: int = struct.unpack_from(">H", stripped, 4)[0]
    return 4 + length


def _finish_webp(stripped: bytes) -> bytes:
    """Corrects the size of the container and the flags that announce what was left out."""
    fixed = bytearray(stripped)
    struct.pack_into("<I", fixed, 4, len(fixed) - 8)
    if fixed[12:16] == b"VP8X":
        announced = {0x20: b"ICCP", 0x08: b"EXIF", 0x04: b"XMP "}
        present = set(_webp_chunks(stripped))
        for flag, name in announced.items():
            fixed[20] = fixed[20] | flag if name in present else fixed[20] & ~flag
    return bytes(fixed)


def _webp_chunks(stripped: bytes) -> Sequence[bytes]:
    names, at = [], 12
    while at + 8 <= len(stripped):
        length = struct.unpack_from("<I", stripped, at + 4)[0]
        names.append(stripped[at : at + 4])
        at += 8 + length + (length & 1)
    return names


def _check_target(size: tuple[int, int], kind: ImageKind, recipe: Recipe) -> Rejection | None:
    width, height = size
    if width * height > recipe.max_pixels:
        return Rejection(Reason.TOO_MANY_PIXELS, f"resized to {width} x {height} pixels")
    if kind is ImageKind.WEBP and max(size) > _MAX_WEBP_SIDE:
        return Rejection(Reason.TOO_LARGE, f"a WebP's side has at most {_MAX_WEBP_SIDE} pixels")
    return None


def _resized(image: Image.Image, geometry: Geometry, size: tuple[int, int]) -> Image.Image:
    """`size`: what the picture has; the image may have been decoded smaller."""
    # BOX averages the area of each new pixel, as img2dataset's "area"; LANCZOS is its choice for enlarging.
    method = Image.Resampling.BOX if geometry.shrinks else Image.Resampling.LANCZOS
    across, down = image.width / size[0], image.height / size[1]
    left, top, right, bottom = geometry.box
    box = (left * across, top * down, min(right * across, image.width), min(bottom * down, image.height))
    return image.resize(geometry.scaled, method, box=box)


def _padded(image: Image.Image, geometry: Geometry) -> Image.Image:
    canvas = Image.new(image.mode, geometry.canvas, _WHITE[image.mode])
    left = (geometry.canvas[0] - image.width) // 2
    top = (geometry.canvas[1] - image.height) // 2
    canvas.paste(image, (left, top))
    return canvas


def _encoded(image: Image.Image, kind: ImageKind, quality: int, exif: bytes) -> bytes:
    sink = io.BytesIO()
    if kind is ImageKind.JPEG:
        solid = over_white(image) if image.mode in ("LA", "RGBA") else image
        solid.info.clear()  # encoders would write what the original's header said
        solid.save(sink, "JPEG", quality=quality, exif=b"Exif\0\0" + exif if exif else b"")
        return sink.getvalue()
    image.info.clear()
    if kind is ImageKind.WEBP:
        image.save(sink, "WEBP", quality=quality, method=4, exif=exif)
    else:
        image.save(sink, "PNG", exif=exif)
    return sink.getvalue()
