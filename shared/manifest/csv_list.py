"""Lists as csv and tsv: a header, then records whose quoted cells may hold line feeds.

A quote that is never closed would swallow the rest of the list. So a record ends at the limit at the latest:
its first line is given up as one unreadable row, and reading goes on with the second.
"""

import csv
from collections import deque
from collections.abc import Iterator

from shared.errors import BadSource
from shared.manifest.cells import MAX_CELL_BYTES
from shared.manifest.columns import Columns
from shared.manifest.lines import Line, lines
from shared.manifest.stream import ByteStream
from shared.manifest.text import Row, TextReader


class _Unreadable(Exception):
    """The lines taken make no record."""


class _Feed:
    """Gives lines to `csv.reader` and remembers which of them the present record took."""

    def __init__(self, source: Iterator[Line]) -> None:
        self._source = source
        self._returned: deque[Line] = deque()
        self._size_bytes = 0
        self.taken: list[Line] = []

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._source, None)
        if line is None:
            if self.taken:
                raise _Unreadable("the list ends within quotes")
            raise StopIteration
        self.taken.append(line)
        return self._text(line[1])

    def begin_record(self) -> None:
        self.taken.clear()
        self._size_bytes = 0

    def give_back_all_but_first(self) -> int:
        """Ends the record after its first line and returns where that line ends."""
        self._returned.extendleft(reversed(self.taken[1:]))
        return self.taken[0][0]

    def _text(self, line: bytes | None) -> str:
        if line is None:
            raise _Unreadable("a line is too long")
        self._size_bytes += len(line)
        if self._size_bytes > MAX_CELL_BYTES:
            raise _Unreadable("a record is too long")
        try:
            return line.decode() + "\n"
        except UnicodeDecodeError:
            raise _Unreadable("a line is not UTF-8") from None


class CsvReader(TextReader):
    """A list in delimited text with a header. Empty cells are null; cells beyond the header are ignored."""

    def __init__(self, stream: ByteStream, columns: Columns, *, delimiter: str) -> None:
        super().__init__(stream, columns)
        self._delimiter = delimiter
        header, self._start = self._header()
        columns.check(header)
        self._places = [header.index(name) for name in columns.wanted]

    def _rows(self, offset: int) -> Iterator[Row]:
        places, enough = self._places, max(self._places) + 1
        for end, cells in self._records(offset):
            if cells is None:
                yield end, self._unreadable
            elif len(cells) >= enough:
                yield end, [cells[place] or None for place in places]
            else:
                yield end, [(cells[place] or None) if place < len(cells) else None for place in places]

    def _records(self, offset: int) -> Iterator[tuple[int, list[str] | None]]:
        feed = _Feed(lines(self._stream, offset))
        records = csv.reader(feed, delimiter=self._delimiter)
        while True:
            feed.begin_record()
            try:
                cells = next(records, None)
            except (_Unreadable, csv.Error):
                yield feed.give_back_all_but_first(), None
                records = csv.reader(feed, delimiter=self._delimiter)
                continue
            if cells is None:
                return
            if cells:
                yield feed.taken[-1][0], cells

    def _header(self) -> tuple[list[str], int]:
        first = next(self._records(self._start), None)
        if first is None:
            raise BadSource("the list has no rows")
        end, cells = first
        if cells is None:
            raise BadSource(
                f"the list's header is no line of UTF-8 text of at most {MAX_CELL_BYTES // 1024} KiB with closed quotes"
            )
        return [cell.strip() for cell in cells], end
