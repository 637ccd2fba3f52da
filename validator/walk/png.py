"""The walk over a PNG: every chunk, its checksum, and the frames of an animated one."""

import zlib
from dataclasses import dataclass, field

from shared.recipe import ImageKind
from validator.walk.exif import orientation_of
from validator.walk.picture import Body, Limits, Picture, Role, Span, Spans, corrupt, cut, is_profile, u32be

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: A colour profile that inflates beyond this is dropped, not stored; in bytes.
MAX_PROFILE = 1 << 20

_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
#: Ancillary chunks that change how the picture looks, and the most bytes each may hold; a longer one hides something.
_LOOKS = {
    b"tRNS": 256,
    b"gAMA": 4,
    b"cHRM": 32,
    b"sRGB": 1,
    b"sBIT": 4,
    b"bKGD": 6,
    b"pHYs": 9,
    b"cICP": 4,
    b"mDCV": 24,
    b"cLLI": 8,
    b"acTL": 8,
    b"fcTL": 26,
    b"fdAT": 1 << 31,
}
#: Texts that are not packed; packed ones may inflate to anything and are never stored.
_TEXTS = frozenset({b"tEXt", b"iTXt"})
_MAX_PALETTE = 3 * 256
#: Packed pixels may be longer than bare ones by this factor and so many bytes; beyond lies what no decoder unpacks.
_PACKING_LOSS = 1.25
_PACKING_ROOM = 64 * 1024
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}


@dataclass(slots=True)
class _Found:
    spans: Spans = field(default_factory=Spans)
    width: int = 0
    height: int = 0
    depth: int = 0
    colour: int = 0
    frames: int = 0
    has_palette: bool = False
    packed_bytes: int = 0  #: of the first frame's pixels
    has_pixels: bool = False
    last: bytes = b""
    exif: Span | None = None


def walk_png(body: Body, limits: Limits) -> Picture:
    """The picture in a file that starts with the PNG signature. Raises RefusedError, IndexError or struct.error."""
    found = _Found()
    found.spans.add(0, len(SIGNATURE), Role.PICTURE)
    at, parts = len(SIGNATURE), 0
    while found.last != b"IEND":
        limits.check_parts(parts := parts + 1, len(body))
        length, name = u32be(body, at), bytes(body[at + 4 : at + 8])
        stop = at + 12 + length
        if stop > len(body):
            raise cut()
        if zlib.crc32(body[at + 4 : stop - 4]) != u32be(body, stop - 4):
            raise corrupt("a chunk's checksum is wrong")
        _read_chunk(body, name, Span(at + 8, stop - 4, Role.METADATA), found, limits)
        found.spans.add(at, stop, _role(body, name, at + 8, stop - 4, found))
        found.last, at = name, stop
    return _finish(body, found, at)


def _read_chunk(body: Body, name: bytes, content: Span, found: _Found, limits: Limits) -> None:
    if (name == b"IHDR") != (found.last == b""):
        raise corrupt("the header chunk is not the first")
    if name == b"IHDR":
        _read_header(body, content, found, limits)
    elif name == b"PLTE":
        if content.end - content.start > _MAX_PALETTE:
            raise corrupt("a palette of more than 256 colours")
        found.has_palette = True
    elif name == b"IEND" and content.end != content.start:
        raise corrupt("the end chunk is not empty")
    elif name == b"IDAT":
        if found.has_pixels and found.last != b"IDAT":
            raise corrupt("pixel chunks are not together")
        found.has_pixels = True
        found.packed_bytes += content.end - content.start
    elif name == b"acTL":
        limits.check_frames(u32be(body, content.start))
    elif name == b"fcTL":
        limits.check_size(u32be(body, content.start + 4), u32be(body, content.start + 8))
        found.frames += 1
        limits.check_frames(found.frames)
    elif name == b"eXIf":
        found.exif = found.exif or Span(content.start, content.end, Role.EXIF)
    elif name not in _CRITICAL and not name[0] & 0x20:
        raise corrupt("an unknown critical chunk")


def _read_header(body: Body, content: Span, found: _Found, limits: Limits) -> None:
    if content.end - content.start != 13:
        raise corrupt("a header chunk of the wrong length")
    at = content.start
    found.width, found.height = u32be(body, at), u32be(body, at + 4)
    found.depth, found.colour, packing, filters, interlace = body[at + 8 : at + 13]
    if found.depth not in _DEPTHS.get(found.colour, ()) or packing or filters or interlace > 1:
        raise corrupt("the header chunk makes no sense")
    limits.check_size(found.width, found.height)


def _role(body: Body, name: bytes, start: int, end: int, found: _Found) -> Role:
    if name in _CRITICAL or end - start <= _LOOKS.get(name, -1):
        return Role.PICTURE
    if name == b"eXIf" and found.exif == Span(start, end, Role.EXIF):
        return Role.EXIF  # readers take the first one
    if name in _TEXTS and not _is_packed(name, body[start:end]):
        return Role.TEXT
    if name == b"iCCP" and _is_small_profile(body[start:end]):
        return Role.PROFILE
    return Role.METADATA


def _is_packed(name: bytes, content: Body) -> bool:
    """Whether an iTXt chunk says that its text is deflated; the flag stands behind the keyword."""
    keyword_end = bytes(content[:80]).find(b"\0")
    return name == b"iTXt" and bytes(content[keyword_end + 1 : keyword_end + 2]) != b"\0"


def _is_small_profile(content: Body) -> bool:
    """Whether the chunk is a profile of at most `MAX_PROFILE` bytes and nothing else."""
    name_end = bytes(content[:80]).find(b"\0")
    if name_end < 1 or len(content) > MAX_PROFILE:
        return False
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(content[name_end + 2 :], MAX_PROFILE)
    except zlib.error:
        return False
    return inflater.eof and not inflater.unused_data and is_profile(profile)


def _bare_bytes(found: _Found) -> int:
    """Bytes of the unpacked pixels, with the filter's byte in each line."""
    return found.height * (1 + (found.width * found.depth * _CHANNELS[found.colour] + 7) // 8)


def _finish(body: Body, found: _Found, end: int) -> Picture:
    if not found.has_pixels:
        raise corrupt("no pixels before the end chunk")
    if found.packed_bytes > _PACKING_LOSS * _bare_bytes(found) + _PACKING_ROOM:
        raise corrupt("more pixels than the picture has")
    if found.colour == 3 and not found.has_palette:
        raise corrupt("no palette")
    return Picture(
        kind=ImageKind.PNG,
        width=found.width,
        height=found.height,
        frames=max(1, found.frames),
        scans=1,
        depth=found.depth,
        channels=_CHANNELS[found.colour],
        end=end,
        spans=found.spans.all(),
        exif=found.exif,
        orientation=1 if found.exif is None else orientation_of(body[found.exif.start : found.exif.end]),
    )
