"""The walk over a WebP: the RIFF container, its chunks, and the frames of an animated one."""

from dataclasses import dataclass, field

from shared.recipe import ImageKind
from validator.walk.exif import orientation_of
from validator.walk.picture import (
    Body,
    Limits,
    Picture,
    Role,
    Span,
    Spans,
    corrupt,
    cut,
    is_profile,
    starts_with,
    u16le,
    u24le,
    u32le,
)

ANIMATED = 0x02
_ALPHA = 0x10
_PICTURE = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"})
#: Chunks of which a file has one at most, and their length where it is fixed.
_SINGLE = {b"VP8X": 10, b"ANIM": 6, b"ALPH": None}
#: What a frame of an animation is made of: transparency and a picture.
_FRAME_CHUNKS = ((b"VP8 ",), (b"VP8L",), (b"ALPH", b"VP8 "))
_FRAME_HEAD = 16
_KEY_FRAME = b"\x9d\x01\x2a"


@dataclass(slots=True)
class _Found:
    spans: Spans = field(default_factory=Spans)
    canvas: tuple[int, int] | None = None
    bitstream: tuple[int, int] | None = None
    flags: int = 0
    frames: int = 0
    has_alpha: bool = False
    exif: Span | None = None
    seen: set[bytes] = field(default_factory=set)


def walk_webp(body: Body, limits: Limits) -> Picture:
    """The picture in a file that starts with RIFF....WEBP. Raises RefusedError, IndexError or struct.error."""
    end = 8 + u32le(body, 4)
    if end > len(body):
        raise cut()
    found = _Found()
    found.spans.add(0, 12, Role.PICTURE)
    at, parts = 12, 0
    while at + 8 <= end:
        limits.check_parts(parts := parts + 1, len(body))
        name, content, stop = _chunk(body, at, end)
        _check_single(name, content, found)
        is_first_exif = name == b"EXIF" and found.exif is None
        _read_chunk(body, name, content, found, limits)
        found.spans.add(at, stop, Role.EXIF if is_first_exif else _role(body, name, content))
        at = stop
    if at != end:
        raise corrupt("the chunks do not fill the file")
    return _finish(body, found, end, limits)


def _chunk(body: Body, at: int, end: int) -> tuple[bytes, Span, int]:
    """A chunk's name, its content and where the next one starts (sizes are made even)."""
    length = u32le(body, at + 4)
    content = Span(at + 8, at + 8 + length, Role.METADATA)
    stop = content.end + (length & 1)
    if stop > end:
        raise corrupt("a chunk is longer than the file")
    return bytes(body[at : at + 4]), content, stop


def _check_single(name: bytes, content: Span, found: _Found) -> None:
    """A second chunk of these, or a longer one, would be shown to nobody and stored for everybody."""
    if name not in _SINGLE:
        return
    if name in found.seen or _SINGLE[name] not in (None, content.end - content.start):
        raise corrupt("a chunk that is doubled or of the wrong length")
    found.seen.add(name)


def _read_chunk(body: Body, name: bytes, content: Span, found: _Found, limits: Limits) -> None:
    if name == b"VP8X":
        found.flags = body[content.start]
        found.has_alpha = bool(found.flags & _ALPHA)
        found.canvas = (1 + u24le(body, content.start + 4), 1 + u24le(body, content.start + 7))
        limits.check_size(*found.canvas)
    elif name in (b"VP8 ", b"VP8L"):
        if found.bitstream is not None:
            raise corrupt("two pictures")
        found.bitstream = _bitstream_size(body, name, content)
        found.has_alpha |= name == b"VP8L" and bool(body[content.start + 4] & 0x10)
        limits.check_size(*found.bitstream)
    elif name == b"ANMF":
        found.frames += 1
        limits.check_frames(found.frames)
        _read_frame(body, content, found, limits)
    elif name == b"EXIF":
        found.exif = found.exif or _tiff_block(body, content)


def _bitstream_size(body: Body, name: bytes, content: Span) -> tuple[int, int]:
    at = content.start
    if content.end - at < 10 and name == b"VP8 ":
        raise cut()
    if name == b"VP8 ":
        if body[at] & 1 or body[at + 3 : at + 6] != _KEY_FRAME:
            raise corrupt("the picture does not start with a key frame")
        return u16le(body, at + 6) & 0x3FFF, u16le(body, at + 8) & 0x3FFF
    if body[at] != 0x2F:
        raise corrupt("the lossless signature is missing")
    bits = u32le(body, at + 1)
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


def _read_frame(body: Body, content: Span, found: _Found, limits: Limits) -> None:
    if found.canvas is None:
        raise corrupt("a frame before the canvas")
    left, top, width, height = (u24le(body, content.start + place) for place in (0, 3, 6, 9))
    right, bottom = 2 * left + width + 1, 2 * top + height + 1
    limits.check_size(right, bottom)
    if right > found.canvas[0] or bottom > found.canvas[1]:
        raise corrupt("a frame outside its canvas")
    if _names_in_frame(body, content) not in _FRAME_CHUNKS:
        raise corrupt("a frame that is not one picture")


def _names_in_frame(body: Body, content: Span) -> tuple[bytes, ...]:
    names: list[bytes] = []
    at = content.start + _FRAME_HEAD
    while at < content.end and len(names) < 3:
        name, _, at = _chunk(body, at, content.end)
        names.append(name)
    return tuple(names)


def _tiff_block(body: Body, content: Span) -> Span:
    """The EXIF chunk without the JPEG prefix that some writers leave in it."""
    skipped = 6 if starts_with(body, content.start, (b"Exif\0\0",)) else 0
    return Span(content.start + skipped, content.end, Role.METADATA)


def _role(body: Body, name: bytes, content: Span) -> Role:
    if name in _PICTURE:
        return Role.PICTURE
    if name == b"ICCP" and is_profile(body, content.start):
        return Role.PROFILE
    return Role.TEXT if name == b"XMP " else Role.METADATA


def _finish(body: Body, found: _Found, end: int, limits: Limits) -> Picture:
    if found.bitstream is None and not found.frames:
        raise corrupt("no picture in the container")
    if found.canvas is not None and found.bitstream is not None and found.canvas != found.bitstream:
        raise corrupt("the canvas and the picture differ in size")
    width, height = found.canvas or found.bitstream or (0, 0)
    exif = found.exif if found.canvas is not None else None  # readers look for it in extended files only
    limits.check_size(width, height)
    return Picture(
        kind=ImageKind.WEBP,
        width=width,
        height=height,
        frames=max(1, found.frames),
        scans=1,
        depth=8,
        channels=4 if found.has_alpha else 3,
        end=end,
        spans=found.spans.all(),
        exif=exif,
        orientation=1 if exif is None else orientation_of(body[exif.start : exif.end]),
    )
