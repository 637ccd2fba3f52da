"""What a list holds, found by reading all of it once and fetching nothing.

Bad is a row whose URL is missing, unreadable or may not be fetched, by the guard that will judge it again. Rows
are numbered as in the dataset, from 0; lines as an editor numbers them, from 1.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from shared.guard import Guard, Refusal
from shared.manifest.lines import BLOCK_BYTES
from shared.manifest.reader import ListReader
from shared.manifest.repeats import Repeats
from shared.manifest.stream import ByteStream

#: Rows read at once.
_SLICE = 2000
#: Bad rows that are named; all are counted.
MOST_NAMED = 100
#: Different hosts that are counted; rows of further ones are not told apart.
MOST_HOSTS = 200_000
SAMPLE_ROWS = 16


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that will be rejected unfetched."""

    row: int
    reason: str
    #: What the guard said, or that there is no URL.
    detail: str
    #: Where it ends in the unpacked text; None where the format has no lines.
    end: int | None = None
    line: int | None = None


@dataclass(frozen=True)
class Wanted:
    """A row that would be fetched."""

    row: int
    url: str


@dataclass
class Survey:
    """The sums."""

    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    bad: list[BadRow] = field(default_factory=list)
    duplicates: int = 0
    duplicates_are_exact: bool = True
    hosts: Counter[str] = field(default_factory=Counter)
    hosts_are_exact: bool = True
    #: Drawn evenly from the rows that are not bad, in their order.
    sample: list[Wanted] = field(default_factory=list)

    @property
    def bad_rows(self) -> int:
        return self.rejected.total()


def survey(reader: ListReader, guard: Guard, *, scratch: Path) -> Survey:
    """Reads the list to its end. Raises BadSource where it cannot be read on, OSError when the disk is full."""
    found = Survey()
    draw = _Draw(SAMPLE_ROWS)
    with Repeats(scratch) as repeats:
        for table in reader.slices(_SLICE):
            good = list(_judged(table, reader.row_ends, guard, found))
            repeats.add(each.url for each in good)
            draw.add(good)
            found.rows += table.num_rows
        found.duplicates, found.duplicates_are_exact = repeats.count(), repeats.is_exact
    found.sample = sorted(draw.drawn, key=lambda each: each.row)
    return found


def with_lines(path: Path, bad: Sequence[BadRow]) -> list[BadRow]:
    """The same rows with their lines; reads the list again, to the last of them."""
    ends = [each.end for each in bad if each.end is not None]
    lines = dict(zip(ends, line_numbers(path, ends), strict=True))
    return [
        BadRow(row=each.row, reason=each.reason, detail=each.detail, line=None if each.end is None else lines[each.end])
        for each in bad
    ]


def line_numbers(path: Path, ends: Sequence[int]) -> list[int]:
    """The numbers of the lines on which rows end that end there, in rising order."""
    found: list[int] = []
    line, position = 1, 0
    stream = ByteStream(path)
    try:
        for end in ends:
            while missing := end - 1 - position:
                block = stream.read(min(BLOCK_BYTES, missing))
                if not block:
                    break
                line, position = line + block.count(b"\n"), position + len(block)
            found.append(line)
    finally:
        stream.close()
    return found


def _judged(table: pa.Table, ends: Sequence[int] | None, guard: Guard, found: Survey) -> Iterator[Wanted]:
    for place, url in enumerate(table.column("url").to_pylist()):
        target = guard.check_url(url)
        if isinstance(target, Refusal):
            found.rejected[target.reason.value] += 1
            if len(found.bad) < MOST_NAMED:
                detail = "no URL" if url is None else target.detail
                end = None if ends is None else ends[place]
                found.bad.append(BadRow(row=found.rows + place, reason=target.reason.value, detail=detail, end=end))
            continue
        _count_host(found, target.host)
        yield Wanted(found.rows + place, url)


def _count_host(found: Survey, host: str) -> None:
    if host in found.hosts or len(found.hosts) < MOST_HOSTS:
        found.hosts[host] += 1
    else:
        found.hosts_are_exact = False


class _Draw:
    """Draws so many of however many come, each as likely as the others, and the same from the same list."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._chance = random.Random(0)
        self._seen = 0
        self.drawn: list[Wanted] = []

    def add(self, some: Sequence[Wanted]) -> None:
        for each in some:
            self._seen += 1
            if len(self.drawn) < self._size:
                self.drawn.append(each)
            elif (place := self._chance.randrange(self._seen)) < self._size:
                self.drawn[place] = each
