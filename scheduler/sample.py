"""Tries a few rows of a list that is checked: are there images, how large, and what would all of it take?

At most sixteen rows, one at a time of each host, robots.txt heeded, through the guard and, as all that the scheduler
asks of the web, by https on port 443 alone: where the list says http, the same address is asked by https, and a host
that does not answer so is not held against the list. What is fetched is measured and thrown away.
"""

import asyncio
import io
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean
from urllib.robotparser import RobotFileParser

from scheduler.surveyor import Drawn
from shared.egress import Egress
from shared.errors import PlaceRefused, PlaceUnavailable
from shared.manifest.report import Estimate, ListReport, Trial, Tried

_AT_ONCE = 8
_SECONDS_A_ROW = 10.0
#: For all of them; rows that were not tried by then say so.
_LONGEST_SECONDS = 60.0
_MOST_BYTES = 16 * 1024**2
_MOST_ROBOTS_BYTES = 512 * 1024
#: As two cores build datasets with others beside them (docs/reference/capacity.md), and as a host is asked by default.
_ROWS_A_SECOND = 100.0
_HOST_ROWS_A_SECOND = 10.0
#: How the formats begin that datasets are made of.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")


class Sampler:
    """Tries rows, with threads of its own."""

    def __init__(self, egress: Egress, *, agent: str) -> None:
        self._egress = egress
        self._agent = agent

    async def tried(self, rows: Sequence[Drawn]) -> list[Tried]:
        """What became of each row, in their order."""
        ends_at = time.monotonic() + _LONGEST_SECONDS
        by_host: dict[str, list[Drawn]] = {}
        as_listed: set[str] = set()
        found: dict[int, Tried] = {}
        for each in rows:
            try:
                url = self._askable(each.url)
                by_host.setdefault(self._egress.check(url).origin, []).append(Drawn(row=each.row, url=url))
                if url == each.url:
                    as_listed.add(url)
            except PlaceRefused as refused:
                found[each.row] = Tried(row=each.row, trial=Trial.NOT_TRIED, detail=str(refused))
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sample") as threads:
            loop = asyncio.get_running_loop()
            asked = [loop.run_in_executor(threads, self._of_host, some, ends_at) for some in by_host.values()]
            for one in await asyncio.gather(*asked):
                found.update(one)
        return [_fairly(found[each.row], is_as_listed=each.url in as_listed) for each in rows]

    def _askable(self, url: str) -> str:
        """The URL, or the same by https. Raises PlaceRefused."""
        try:
            self._egress.check(url, only_tls=True)
        except PlaceRefused:
            scheme, _, rest = url.partition("://")
            if scheme.lower() != "http":
                raise
            self._egress.check(f"https://{rest}", only_tls=True)
            return f"https://{rest}"
        return url

    def _of_host(self, rows: Sequence[Drawn], ends_at: float) -> Mapping[int, Tried]:
        robots = self._robots(self._egress.check(rows[0].url).origin)
        return {each.row: self._one(each, robots, ends_at) for each in rows}

    def _one(self, drawn: Drawn, robots: RobotFileParser | None, ends_at: float) -> Tried:
        left = min(_SECONDS_A_ROW, ends_at - time.monotonic())
        if left <= 0:
            return Tried(row=drawn.row, trial=Trial.NOT_TRIED, detail="there was no time left")
        if robots is not None and not robots.can_fetch(self._agent, drawn.url):
            return Tried(row=drawn.row, trial=Trial.REFUSED, detail="robots.txt forbids it")
        body, began = io.BytesIO(), time.monotonic()
        try:
            size = self._egress.download(drawn.url, body, most_bytes=_MOST_BYTES, seconds=left, only_tls=True)
        except PlaceRefused as refused:
            return Tried(row=drawn.row, trial=Trial.REFUSED, detail=str(refused))
        except PlaceUnavailable as unavailable:
            return Tried(row=drawn.row, trial=Trial.FAILED, detail=str(unavailable))
        if not is_image(body.getvalue()[:12]):
            return Tried(row=drawn.row, trial=Trial.REFUSED, detail="what lies there is no image", size_bytes=size)
        seconds = round(time.monotonic() - began, 3)
        return Tried(row=drawn.row, trial=Trial.IMAGE, detail="", size_bytes=size, seconds=seconds)

    def _robots(self, origin: str) -> RobotFileParser | None:
        """None where the host has none, or does not say."""
        text = io.BytesIO()
        try:
            self._egress.download(
                f"{origin}/robots.txt", text, most_bytes=_MOST_ROBOTS_BYTES, seconds=_SECONDS_A_ROW, only_tls=True
            )
        except (PlaceRefused, PlaceUnavailable):
            return None
        rules = RobotFileParser()
        rules.parse(text.getvalue().decode(errors="replace").splitlines())
        return rules


def _fairly(tried: Tried, *, is_as_listed: bool) -> Tried:
    """A host that was asked by https, though the list says http, may not speak it."""
    if is_as_listed or tried.trial is not Trial.FAILED:
        return tried
    return Tried(row=tried.row, trial=Trial.NOT_TRIED, detail="it does not answer by https, as checks ask")


def is_image(head: bytes) -> bool:
    """Whether a file that begins so is of a format that datasets are made of."""
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def estimate(report: ListReport, tried: Sequence[Tried]) -> Estimate | None:
    """What the whole list would give and take, by what was tried; None when nothing was."""
    counted = [each for each in tried if each.trial is not Trial.NOT_TRIED]
    if not counted:
        return None
    sizes = [each.size_bytes for each in counted if each.trial is Trial.IMAGE and each.size_bytes is not None]
    rows = report.rows - report.bad_rows - report.duplicates
    images = round(rows * len(sizes) / len(counted))
    slowest_host = max((each.rows for each in report.top_hosts), default=0) / _HOST_ROWS_A_SECOND
    return Estimate(
        images=images,
        size_bytes=round(images * fmean(sizes)) if sizes else 0,
        seconds=math.ceil(max(rows / _ROWS_A_SECOND, slowest_host)),
    )
