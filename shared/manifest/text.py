"""What all text formats share: rows as Python strings, gathered into tables; and the plainest of them, txt."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain, islice

import pyarrow as pa

from shared.errors import BadSource
from shared.manifest.cells import text_column, url_column
from shared.manifest.columns import Columns
from shared.manifest.lines import lines
from shared.manifest.reader import Cursor, ListReader
from shared.manifest.stream import ByteStream

#: Where a row ends in the stream, and its cells in the order of `Columns.wanted`.
Row = tuple[int, Sequence[str | None]]

UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class TextReader(ListReader):
    """A list whose rows are found one after the other. Its cursor is a byte offset in the unpacked text."""

    def __init__(self, stream: ByteStream, columns: Columns) -> None:
        super().__init__(columns)
        self._stream = stream
        self._start = self._offset = self._skip_mark()
        self._ahead: Row | None = None
        self._found: Iterator[Row] = iter(())
        self._ends: list[int] = []

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(name, pa.string()) for name in ("url", "caption", *self.columns.saved)])

    @property
    def cursor(self) -> Cursor:
        return {"offset": self._offset}

    @property
    def total_rows(self) -> int | None:
        return None

    @property
    def row_ends(self) -> Sequence[int]:
        return self._ends

    def is_exhausted(self) -> bool:
        if self._ahead is None:
            self._ahead = next(self._found, None)
        return self._ahead is None

    def seek(self, cursor: Cursor | None) -> None:
        self._offset = cursor["offset"] if cursor else self._start
        self._ahead = None
        self._found = self._rows(self._offset)

    def read(self, rows: int) -> pa.Table:
        if self.is_exhausted():
            return self.schema.empty_table()
        assert self._ahead is not None, "not exhausted"
        taken = list(islice(chain([self._ahead], self._found), rows))
        self._ahead = None
        self._ends = [end for end, _ in taken]
        self._offset = self._ends[-1]
        return self._table([cells for _, cells in taken])

    def close(self) -> None:
        self._stream.close()

    @abstractmethod
    def _rows(self, offset: int) -> Iterator[Row]:
        """Rows from an offset on; a row that cannot be read has only nulls."""

    @property
    def _unreadable(self) -> Sequence[str | None]:
        return (None,) * len(self.columns.wanted)

    def _table(self, rows: list[Sequence[str | None]]) -> pa.Table:
        found = [text_column(cells) for cells in zip(*rows, strict=True)]
        if self.columns.caption is None:
            found.insert(1, pa.nulls(len(rows), pa.string()))
        return pa.table([url_column(found[0]), *found[1:]], schema=self.schema)

    def _skip_mark(self) -> int:
        self._stream.seek(0)
        head = self._stream.read(3)
        if head[:2] in UTF16_MARKS:
            raise BadSource("the list is UTF-16 text; save it as UTF-8")
        return 3 if head == UTF8_MARK else 0


class TxtReader(TextReader):
    """One URL a line; blank lines are no rows."""

    def __init__(self, stream: ByteStream, columns: Columns) -> None:
        if columns.wanted != [columns.url]:
            raise BadSource("a txt list has no columns, only a URL a line; use csv or jsonl for captions and more")
        super().__init__(stream, columns)

    def _rows(self, offset: int) -> Iterator[Row]:
        for end, line in lines(self._stream, offset):
            if line is None:
                yield end, self._unreadable
            elif line and not line.isspace():
                yield end, (decoded(line),)


def decoded(line: bytes) -> str | None:
    """The text of a line; None when it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None
