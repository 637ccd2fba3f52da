"""What a header walk finds, and what it refuses: the words that the four format walks share."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from shared.reasons import Reason
from shared.recipe import ImageKind

#: Pixels; above it decoders and viewers begin to differ, whatever the area.
MAX_SIDE = 20_000
#: A photo has about ten; each one costs a pass over the whole picture.
MAX_SCANS = 100
MAX_FRAMES = 100
#: Segments or chunks that any file may have, and one more for each `BYTES_PER_PART` of a larger file.
MAX_PARTS = 4096
BYTES_PER_PART = 4096

#: Of the longest pictures: pixels times scans. Twenty scans over 64 million pixels take a second or two.
MAX_SCANNED = 20 * 64_000_000

# Details that say more than their reason does, and are asked for elsewhere.
CUT = "the file is cut"
NO_AREA = "the picture has no area"
TOO_MANY_SCANS = "too many scans"
TOO_MANY_PARTS = "too many segments"

Body = memoryview


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an image is not accepted. `detail` is for people: no address, no text from the image."""

    reason: Reason
    detail: str


class RefusedError(Exception):
    """Carries a rejection out of a walk; never leaves the package."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.rejection = Rejection(reason, detail)


class Role(Enum):
    """What a stretch of an image file is for."""

    PICTURE = "picture"  #: needed to show it
    PROFILE = "profile"  #: its colours (ICC)
    EXIF = "exif"  #: the block that readers take the orientation from
    TEXT = "text"  #: comments and XMP
    METADATA = "metadata"  #: all else that says something about it; never stored


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `end` (exclusive) of the file."""

    start: int
    end: int
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image file as its header tells it. Nothing has been decoded.

    `width` and `height` are as stored, before the orientation is applied. `spans` follow each other without
    gap and cover the file from 0 to `end`; what comes after `end` does not belong to the picture.
    """

    kind: ImageKind
    width: int
    height: int
    frames: int
    scans: int
    depth: int  #: bits of one channel
    channels: int
    end: int
    spans: tuple[Span, ...]
    exif: Span | None = None  #: the TIFF block of the EXIF data
    orientation: int = 1  #: EXIF, 1 to 8

    @property
    def has_profile(self) -> bool:
        return any(span.role is Role.PROFILE for span in self.spans)

    @property
    def pixels(self) -> int:
        return self.width * self.height


class Spans:
    """Collects spans in file order; neighbours of one role become one, except texts, which are judged each."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def add(self, start: int, end: int, role: Role) -> None:
        last = self._spans[-1] if self._spans else None
        if last is not None and last.role is role is not Role.TEXT and last.end == start:
            self._spans[-1] = Span(last.start, end, role)
        else:
            self._spans.append(Span(start, end, role))

    def all(self) -> tuple[Span, ...]:
        return tuple(self._spans)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may claim before anything is decoded."""

    max_pixels: int

    def check_size(self, width: int, height: int) -> None:
        """Refuses a picture without area or with too much of it."""
        if width < 1 or height < 1:
            raise corrupt(NO_AREA)
        if width > MAX_SIDE or height > MAX_SIDE or width * height > self.max_pixels:
            raise RefusedError(Reason.TOO_MANY_PIXELS, f"{width} x {height} pixels")

    def check_frames(self, frames: int) -> None:
        if frames > MAX_FRAMES:
            raise RefusedError(Reason.TOO_MANY_FRAMES, f"more than {MAX_FRAMES} frames")

    def check_scans(self, scans: int, pixels: int) -> None:
        """`pixels` is the area that each scan goes over."""
        if scans > MAX_SCANS or scans * pixels > MAX_SCANNED:
            raise RefusedError(Reason.TOO_COMPLEX, TOO_MANY_SCANS)

    def check_parts(self, parts: int, size: int) -> None:
        """`size` is the length of the file in bytes."""
        if parts > MAX_PARTS + size // BYTES_PER_PART:
            raise RefusedError(Reason.TOO_COMPLEX, TOO_MANY_PARTS)


def corrupt(detail: str) -> RefusedError:
    """A refusal of a damaged file."""
    return RefusedError(Reason.CORRUPT_IMAGE, detail)


def cut() -> RefusedError:
    """A refusal of a file that ends too early."""
    return corrupt(CUT)


def u16be(body: Body, at: int) -> int:
    value: int = struct.unpack_from(">H", body, at)[0]
    return value


def u32be(body: Body, at: int) -> int:
    value: int = struct.unpack_from(">I", body, at)[0]
    return value


def u16le(body: Body, at: int) -> int:
    value: int = struct.unpack_from("<H", body, at)[0]
    return value


def u24le(body: Body, at: int) -> int:
    return u16le(body, at) | body[at + 2] << 16


def u32le(body: Body, at: int) -> int:
    value: int = struct.unpack_from("<I", body, at)[0]
    return value


def starts_with(body: Body, at: int, prefixes: Sequence[bytes]) -> bool:
    """Whether the bytes at `at` begin with one of the prefixes."""
    return any(body[at : at + len(prefix)] == prefix for prefix in prefixes)


def is_profile(body: Body | bytes, at: int = 0) -> bool:
    """Whether an ICC profile starts there; what is none would be kept for nobody's good."""
    return body[at + 36 : at + 40] == b"acsp"


Walk = Callable[[Body, Limits], Picture]
