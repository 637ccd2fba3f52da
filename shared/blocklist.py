"""What was taken down: URLs, hosts, bytes and pictures that are neither fetched nor stored any more.

Values in, verdicts out; `shared/db/blocked.py` keeps the entries. A list of 100,000 entries answers at once.
"""

import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import urljoin

from shared.guard import Refusal, Target, parsed

#: Perceptual hashes that differ in no more bits belong to the same picture, scaled or encoded anew.
NEAR_BITS = 4

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PHASH = re.compile(r"[0-9a-f]{16}")
_NOT_OF_A_HOST = re.compile(r"[/?#@\\\s]")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
#: Widths of the bands of a perceptual hash, 64 bits in all. One more band than bits may differ: two hashes that
#: near have at least one band in common, so only entries that share a band are compared.
_BANDS = (13, 13, 13, 13, 12)


#: Two lists of one version are equal.
Version = tuple[int, ...]

#: A worker may know a takedown this much later.
_FRESH_SECONDS = 30.0


class Kind(StrEnum):
    """By what a thing is taken down."""

    URL = "url"  #: that address, by http or https, also at the end of a redirect
    HOST = "host"  #: that name or address, with all names below it
    SHA256 = "sha256"  #: those bytes, as fetched or as stored
    PHASH = "phash"  #: that picture, also scaled or encoded anew


def normalised(kind: Kind, value: str) -> str:
    """The one spelling of an entry. Raises ValueError with a sentence when it is none of that kind."""
    text = value.strip()
    match kind:
        case Kind.URL:
            target = parsed(text)
            if isinstance(target, Refusal):
                raise ValueError("this is no http or https URL that could be fetched; give it whole")
            return target.url
        case Kind.HOST:
            return _host(text)
        case Kind.SHA256:
            return _hex(text, _SHA256, "a sha256 has 64 hex digits; the index has it as sha256 or stored_sha256")
        case Kind.PHASH:
            return _hex(text, _PHASH, "a perceptual hash has 16 hex digits; the index has it as phash")


class Blocklist:
    """The entries of one moment, ready to be asked."""

    def __init__(self, entries: Iterable[tuple[Kind, str]] = ()) -> None:
        values: dict[Kind, set[str]] = {kind: set() for kind in Kind}
        for kind, value in entries:
            values[kind].add(value)
        self._urls = {_address(value) for value in values[Kind.URL]}
        self._hosts = values[Kind.HOST]
        self._sha256 = values[Kind.SHA256]
        self._bands: dict[tuple[int, int], list[int]] = defaultdict(list)
        for value in values[Kind.PHASH]:
            for band in _bands(int(value, 16)):
                self._bands[band].append(int(value, 16))

    def holds_target(self, target: Target) -> bool:
        """Whether that address, its host or a name above it was taken down."""
        return self._holds_host(target.host) or (bool(self._urls) and _address(target.url) in self._urls)

    def holds_image(self, record: Mapping[str, Any]) -> bool:
        """Whether an index record speaks of bytes, a picture or an address that was taken down."""
        return (
            record["sha256"] in self._sha256
            or record["stored_sha256"] in self._sha256
            or self._holds_picture(record["phash"])
            or any(self._holds_url(record[name]) for name in ("url", "final_url"))
        )

    def _holds_url(self, url: str | None) -> bool:
        if not (self._urls or self._hosts):
            return False
        target = parsed(url)
        return isinstance(target, Target) and self.holds_target(target)

    def _holds_host(self, host: str) -> bool:
        if not self._hosts:
            return False
        labels = host.split(".")
        return any(".".join(labels[start:]) in self._hosts for start in range(len(labels)))

    def _holds_picture(self, phash: str | None) -> bool:
        if not phash or not self._bands:
            return False
        asked = int(phash, 16)
        return any(
            (asked ^ taken).bit_count() <= NEAR_BITS for band in _bands(asked) for taken in self._bands.get(band, ())
        )


#: Reads the list; None when it still has the version that is known.
Read = Callable[[Version | None], Awaitable[tuple[Version, Blocklist] | None]]


async def _nothing(_known: Version | None) -> None:
    """A list that stays empty."""


class LiveBlocklist:
    """A worker's copy of the list: as it was at most 30 s before `refresh` was last awaited, and empty until then."""

    def __init__(self, read: Read = _nothing, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._version: Version | None = None
        self._stale_at = float("-inf")
        self._held = Blocklist()

    def holds_target(self, target: Target) -> bool:
        return self._held.holds_target(target)

    async def refresh(self) -> Blocklist:
        """The list, read again if the copy is old. Raises what reading raises: then nothing may pass."""
        if self._clock() >= self._stale_at:
            newer = await self._read(self._version)
            if newer is not None:
                self._version, self._held = newer
            self._stale_at = self._clock() + _FRESH_SECONDS
        return self._held


def _host(text: str) -> str:
    target = parsed(f"http://{text}/")
    if isinstance(target, Refusal) or _NOT_OF_A_HOST.search(text) or target.port != 80:
        raise ValueError("this is no host; give its name or address alone, an IPv6 address in brackets")
    return target.host


def _hex(text: str, form: re.Pattern[str], otherwise: str) -> str:
    digits = text.lower()
    if not form.fullmatch(digits):
        raise ValueError(otherwise)
    return digits


def _address(url: str) -> str:
    """What two spellings of a URL have in common: no scheme, no dot segments, no needless percent signs."""
    plain = _ESCAPE.sub(_unescaped, url).removesuffix("?").partition("://")[2]
    if "/." not in plain:
        return plain
    host, _, path = plain.partition("/")
    return urljoin(f"http://{host}/", f"/{path}").partition("://")[2]


def _unescaped(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()


def _bands(phash: int) -> Iterable[tuple[int, int]]:
    """Each band's number and bits."""
    for number, width in enumerate(_BANDS):
        yield number, phash & ((1 << width) - 1)
        phash >>= width
