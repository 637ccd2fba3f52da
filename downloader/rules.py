"""The rules of one robots.txt, matched so that no file, however large, holds up the event loop.

Parsing goes to a thread, and so does matching against a file beyond `_INLINE_BYTES`; one match at a time, as
more threads would only share one interpreter. Where most files are small, the loop matches them itself.
"""

import asyncio
import zlib

from protego import Protego

from downloader.opt_out import PRODUCT

#: How much of a robots.txt is read, as the RFC asks for at least.
MAX_ROBOTS_BYTES = 512 * 1024
#: Longer wishes are cut to this.
MAX_CRAWL_DELAY_SECONDS = 10.0
#: The costliest file of this size takes a millisecond or two for the longest URL; one of 512 KiB takes 200 ms.
_INLINE_BYTES = 16 * 1024
#: Rules longer, or with more stars, cost more to match than any honest site needs; they are dropped.
_MAX_LINE = 1024
_MAX_STARS = 8


class Rules:
    """What one robots.txt allows. Belongs to the event loop in which `read_rules` made it."""

    def __init__(self, parsed: Protego, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        delay = parsed.crawl_delay(PRODUCT)
        #: Pause between requests that the host asks for, at most MAX_CRAWL_DELAY_SECONDS; 0 for none.
        self.crawl_delay_seconds = min(float(delay or 0.0), MAX_CRAWL_DELAY_SECONDS)
        self._parsed = parsed
        self._turn = asyncio.Lock()

    async def allow(self, url: str) -> bool:
        if self.size_bytes <= _INLINE_BYTES:
            return self._parsed.can_fetch(url, PRODUCT)
        async with self._turn:
            return await asyncio.to_thread(self._parsed.can_fetch, url, PRODUCT)


async def read_rules(compressed: bytes) -> Rules | None:
    """The rules in a zlib-compressed robots.txt; None when it is none."""
    return await asyncio.to_thread(_parse, compressed)


def _parse(compressed: bytes) -> Rules | None:
    try:
        text = zlib.decompressobj().decompress(compressed, MAX_ROBOTS_BYTES)
    except zlib.error:
        return None
    lines = (
        line
        for line in text.decode("utf-8", "replace").splitlines()
        if len(line) <= _MAX_LINE and line.count("*") <= _MAX_STARS
    )
    parsed = Protego.parse("\n".join(lines))
    parsed.can_fetch("/", PRODUCT)  # sorts its rules with the first match; that belongs in the thread, too
    return Rules(parsed, len(text))
