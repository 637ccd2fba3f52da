"""The walk over a GIF: every block to the trailer, and the frames on the way."""

from dataclasses import dataclass, field

from shared.reasons import Reason
from shared.recipe import ImageKind
from validator.walk.picture import TOO_MANY_PARTS, Body, Limits, Picture, RefusedError, Role, Spans, corrupt, u16le

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL, _APPLICATION, _COMMENT = 0xF9, 0xFF, 0xFE
#: Bytes of these blocks when they hold what they should and nothing else.
_GRAPHIC_CONTROL_SIZE, _LOOP_SIZE = 8, 19
#: Applications that say how often an animation repeats.
_LOOPS = frozenset({b"NETSCAPE2.0", b"ANIMEXTS1.0"})
#: Sub-blocks hold 255 bytes; a file made of much smaller ones only costs time.
_MAX_SUB_BLOCKS = 4096
_BYTES_PER_SUB_BLOCK = 32


@dataclass(slots=True)
class _Found:
    width: int
    height: int
    spans: Spans = field(default_factory=Spans)
    frames: int = 0
    sub_blocks: int = 0


def walk_gif(body: Body, limits: Limits) -> Picture:
    """The picture in a file that starts with a GIF signature. Raises RefusedError or IndexError."""
    found = _Found(u16le(body, 6), u16le(body, 8))
    at = 13 + _table_size(body[10])
    found.spans.add(0, at, Role.PICTURE)
    parts = 0
    while (kind := body[at]) != _TRAILER:
        limits.check_parts(parts := parts + 1, len(body))
        if kind == _IMAGE:
            stop = _frame_end(body, at, found, limits)
            found.spans.add(at, stop, Role.PICTURE)
        elif kind == _EXTENSION:
            stop = _skip_sub_blocks(body, at + 2, found)
            found.spans.add(at, stop, _role(body, at, stop))
        else:
            raise corrupt("an unknown block")
        at = stop
    found.spans.add(at, at + 1, Role.PICTURE)
    return _finish(found, at + 1, limits)


def _table_size(flags: int) -> int:
    """Bytes of a colour table that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _frame_end(body: Body, at: int, found: _Found, limits: Limits) -> int:
    left, top, width, height = (u16le(body, at + place) for place in (1, 3, 5, 7))
    found.frames += 1
    limits.check_frames(found.frames)
    limits.check_size(left + width, top + height)
    found.width, found.height = max(found.width, left + width), max(found.height, top + height)
    data_at = at + 10 + _table_size(body[at + 9])
    if not 1 <= body[data_at] <= 11:
        raise corrupt("a frame's code size makes no sense")
    return _skip_sub_blocks(body, data_at + 1, found)


def _skip_sub_blocks(body: Body, at: int, found: _Found) -> int:
    """Where the block ends whose sub-blocks start at `at`."""
    most = _MAX_SUB_BLOCKS + len(body) // _BYTES_PER_SUB_BLOCK
    while length := body[at]:
        at += 1 + length
        found.sub_blocks += 1
        if found.sub_blocks > most:
            raise RefusedError(Reason.TOO_COMPLEX, TOO_MANY_PARTS)
    return at + 1


def _role(body: Body, at: int, stop: int) -> Role:
    label, size = body[at + 1], stop - at
    if label == _GRAPHIC_CONTROL and size == _GRAPHIC_CONTROL_SIZE:
        return Role.PICTURE
    if label == _APPLICATION and size == _LOOP_SIZE and bytes(body[at + 3 : at + 14]) in _LOOPS:
        return Role.PICTURE
    return Role.TEXT if label == _COMMENT else Role.METADATA


def _finish(found: _Found, end: int, limits: Limits) -> Picture:
    limits.check_size(found.width, found.height)
    if not found.frames:
        raise corrupt("no frame before the end")
    return Picture(
        kind=ImageKind.GIF,
        width=found.width,
        height=found.height,
        frames=found.frames,
        scans=1,
        depth=8,
        channels=1,
        end=end,
        spans=found.spans.all(),
    )
