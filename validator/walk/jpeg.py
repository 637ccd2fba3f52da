"""The walk over a JPEG: marker by marker to the real end of the image.

    SOI  (APPn | COM | DQT | DHT | SOF | ...)*  (SOS  entropy-coded bytes)+  EOI

Within entropy-coded bytes FF stands only before 00, a restart marker or the next marker, so the end is found
by the markers and not by a search for FF D9, which thumbnails contain as well.
"""

import re
from dataclasses import dataclass, field

from shared.reasons import Reason
from shared.recipe import ImageKind
from validator.walk.exif import orientation_of
from validator.walk.picture import (
    Body,
    Limits,
    Picture,
    RefusedError,
    Role,
    Span,
    Spans,
    corrupt,
    cut,
    is_profile,
    starts_with,
    u16be,
)

_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_APP0, _APP1, _APP2, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Baseline, extended and progressive, by Huffman or arithmetic coding; the others are lossless or hierarchical.
_FRAMES_READ = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_STANDALONE = frozenset({0x00, 0x01, _SOI}) | frozenset(range(0xD0, 0xD8))
#: Bytes of a JFIF header without a thumbnail, and of Adobe's note on colours, markers included.
_PLAIN_JFIF = 18
_PLAIN_ADOBE = 16
_DNL = 0xDC
#: Markers without meaning in the kinds of JPEG that are read; decoders skip some of them with what they hold.
_MEANINGLESS = frozenset({_DNL}) | frozenset(range(0xF0, 0xFE))
_ICC = b"ICC_PROFILE\0"
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"

_FILL = re.compile(rb"\xff+")
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


@dataclass(slots=True)
class _Found:
    """What is known so far."""

    spans: Spans = field(default_factory=Spans)
    width: int = 0
    height: int = 0
    channels: int = 0
    scans: int = 0
    exif: Span | None = None
    has_profile: bool = False


def walk_jpeg(body: Body, limits: Limits) -> Picture:
    """The picture in a file that starts with SOI. Raises RefusedError, IndexError or struct.error."""
    found = _Found()
    found.spans.add(0, 2, Role.PICTURE)
    at, parts = 2, 0
    while True:
        limits.check_parts(parts := parts + 1, len(body))
        marker_at = _marker_at(body, at)
        if marker_at > at + 1:  # one FF belongs to the marker; the others fill, and may be megabytes
            found.spans.add(at, marker_at - 1, Role.METADATA)
            at = marker_at - 1
        marker = body[marker_at]
        if marker == _EOI:
            found.spans.add(at, marker_at + 1, Role.PICTURE)
            return _finish(body, found, marker_at + 1)
        stop = _segment_end(body, marker, marker_at)
        if marker == _SOS:
            stop = _scan_end(body, found, stop, limits)
        elif marker in _FRAMES:
            _read_frame(body, marker, marker_at + 3, found, limits)
        found.spans.add(at, stop, _settled(_role(body, marker, marker_at, stop), body, marker_at + 3, stop, found))
        at = stop


def _settled(role: Role, body: Body, name_at: int, stop: int, found: _Found) -> Role:
    """The role in view of what came before: readers take the first EXIF block, and a profile from its first part."""
    if role is Role.EXIF and found.exif is None:
        found.exif = Span(name_at + len(_EXIF), stop, role)
        return role
    if role is Role.PROFILE:
        found.has_profile |= body[name_at + len(_ICC)] == 1
    is_spare = role is Role.EXIF or (role is Role.PROFILE and not found.has_profile)
    return Role.METADATA if is_spare else role


def _marker_at(body: Body, at: int) -> int:
    """Where the marker's code stands, after any fill bytes."""
    fill = _FILL.match(body, at)
    if fill is None:
        raise cut() if at >= len(body) else corrupt("stray bytes between segments")
    return fill.end()


def _segment_end(body: Body, marker: int, marker_at: int) -> int:
    if marker in _STANDALONE:
        raise corrupt("a marker out of place")
    length = u16be(body, marker_at + 1)
    stop = marker_at + 1 + length
    if length < 2:
        raise corrupt("a segment without length")
    if stop > len(body):
        raise cut()
    return stop


def _scan_end(body: Body, found: _Found, start: int, limits: Limits) -> int:
    """Where the next marker after a scan stands."""
    if not found.channels:
        raise corrupt("a scan before the frame header")
    found.scans += 1
    limits.check_scans(found.scans, found.width * found.height)
    after = _MARKER.search(body, start)
    if after is None:
        raise cut()
    return after.start()


def _read_frame(body: Body, marker: int, at: int, found: _Found, limits: Limits) -> None:
    if found.channels:
        raise corrupt("two frame headers")
    depth, height, width, channels = body[at], u16be(body, at + 1), u16be(body, at + 3), body[at + 5]
    if marker not in _FRAMES_READ or depth != 8:
        raise RefusedError(Reason.FORMAT_NOT_ALLOWED, f"a JPEG of a kind that is not read ({depth} bits)")
    if channels not in (1, 3, 4):
        raise corrupt(f"{channels} colour channels")
    limits.check_size(width, height)
    found.width, found.height, found.channels = width, height, channels


def _role(body: Body, marker: int, marker_at: int, stop: int) -> Role:
    name_at, size = marker_at + 3, stop - marker_at + 1
    if marker == _APP0 and starts_with(body, name_at, (b"JFIF\0",)) and size <= _PLAIN_JFIF:
        return Role.PICTURE
    if marker == _APP14 and starts_with(body, name_at, (b"Adobe",)) and size == _PLAIN_ADOBE:
        return Role.PICTURE  # says whether colours are inverted or YCCK
    if marker == _APP2 and starts_with(body, name_at, (_ICC,)):
        return Role.PROFILE if _is_profile_part(body, name_at + len(_ICC)) else Role.METADATA
    if marker == _APP1 and starts_with(body, name_at, (_EXIF,)):
        return Role.EXIF
    if marker == _COM or (marker == _APP1 and starts_with(body, name_at, (_XMP,))):
        return Role.TEXT
    return Role.METADATA if _APP0 <= marker <= _APP15 or marker in _MEANINGLESS else Role.PICTURE


def _is_profile_part(body: Body, at: int) -> bool:
    """At `at` stand the part's number and how many there are, then the part; the first one must begin a profile."""
    return body[at] != 1 or is_profile(body, at + 2)


def _finish(body: Body, found: _Found, end: int) -> Picture:
    if not found.scans:
        raise corrupt("no picture before the end marker")
    return Picture(
        kind=ImageKind.JPEG,
        width=found.width,
        height=found.height,
        frames=1,
        scans=found.scans,
        depth=8,
        channels=found.channels,
        end=end,
        spans=found.spans.all(),
        exif=found.exif,
        orientation=1 if found.exif is None else orientation_of(body[found.exif.start : found.exif.end]),
    )
