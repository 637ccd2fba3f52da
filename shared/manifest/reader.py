"""The interface of a list being read, whatever its format."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import pyarrow as pa

from shared.manifest.columns import Columns
from shared.pipeline import CHUNK_ROWS

#: A place between two rows: whole numbers by name, so that it can be kept as JSON. Opaque to everybody else.
Cursor = Mapping[str, int]


class ListReader(ABC):
    """An open list. Not to be used by two threads at once; close it, it may own a temporary file."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """`url`, `caption`, then the saved columns; the same for every table of this list."""

    @property
    @abstractmethod
    def cursor(self) -> Cursor:
        """Where the next table begins."""

    @property
    @abstractmethod
    def total_rows(self) -> int | None:
        """Rows in the whole list, where the format tells it."""

    @property
    def row_ends(self) -> Sequence[int] | None:
        """Where each row of the table read last ends in the unpacked text; None for a format without lines."""
        return None

    @abstractmethod
    def is_exhausted(self) -> bool:
        """Whether no row follows the cursor. May read ahead; raises BadSource as reading does."""

    @abstractmethod
    def seek(self, cursor: Cursor | None) -> None:
        """Goes to a place that `cursor` once gave; None is the beginning."""

    @abstractmethod
    def read(self, rows: int) -> pa.Table:
        """The next rows, exactly as many unless the list ends. Raises BadSource where it cannot be read on."""

    @abstractmethod
    def close(self) -> None:
        """Closes the list and removes what was unpacked. May be repeated."""

    def slices(self, rows: int = CHUNK_ROWS, *, after: Cursor | None = None) -> Iterator[pa.Table]:
        """Tables of exactly `rows` rows, the last one shorter, from a place on (None: from the beginning).

        When a table is yielded, `cursor` is the place behind it.
        """
        if after != self.cursor:
            self.seek(after)
        while not self.is_exhausted():
            yield self.read(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
