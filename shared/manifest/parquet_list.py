"""Lists as Parquet: only the wanted columns are read, in small batches, with their types kept.

Parquet lets a kilobyte say "a hundred megabytes, a million times": by a dictionary whose one value all rows
repeat. So the dictionaries of a row group are looked at first; where one holds a text that is too long, that group is
read as dictionaries, and such texts go before they are multiplied. (Not everywhere: pyarrow then keeps every
different text of a row group, measured at 30 times the time and 60 times the memory.)
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.errors import BadSource
from shared.manifest.cells import MAX_CELL_BYTES, url_column, valid_text
from shared.manifest.columns import Columns
from shared.manifest.reader import Cursor, ListReader
from shared.manifest.stream import MAX_RATIO, RATIO_FREE_BYTES

MAGIC = b"PAR1"
#: A footer describes row groups and columns; an honest one of ten thousand groups has a few megabytes.
MAX_FOOTER_BYTES = 16 * 1024**2
MAX_ROW_GROUPS = 10_000
#: Rows decoded at once: four chunks; 128 MB a column if every cell has the longest text there may be.
BATCH_ROWS = 2_000
#: Read pages through a window of this size instead of loading a row group.
BUFFER_BYTES = 1024**2


class ParquetReader(ListReader):
    """A list in one Parquet file. Its cursor is a row group and the rows of it that were read."""

    def __init__(self, path: Path, columns: Columns, *, owned: Path | None = None) -> None:
        """`owned` is a temporary file to remove at the end."""
        super().__init__(columns)
        self._owned = owned
        try:
            self._file, self._careful, self._texts = _opened(path, columns)
        except BaseException:
            self._remove_owned()
            raise
        self._types = _output_types(self._file.schema_arrow, columns)
        self._groups: int = self._file.metadata.num_row_groups
        self._group = self._row = 0
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.Table = self.schema.empty_table()
        self.seek(None)

    @property
    def schema(self) -> pa.Schema:
        types = {"url": pa.string(), "caption": pa.string(), **self._types}
        return pa.schema([pa.field(name, kind) for name, kind in types.items()])

    @property
    def cursor(self) -> Cursor:
        return {"group": self._group, "row": self._row}

    @property
    def total_rows(self) -> int | None:
        rows: int = self._file.metadata.num_rows
        return rows

    def is_exhausted(self) -> bool:
        self._skip_finished_groups()
        return self._group >= self._groups

    def seek(self, cursor: Cursor | None) -> None:
        self._group, self._row = (cursor["group"], cursor["row"]) if cursor else (0, 0)
        self._open_group(skip=self._row)

    def read(self, rows: int) -> pa.Table:
        taken = []
        while rows and not self.is_exhausted():
            part = self._take(rows)
            taken.append(part)
            rows -= part.num_rows
        return pa.concat_tables(taken) if taken else self.schema.empty_table()

    def close(self) -> None:
        self._batches, self._rest = iter(()), self.schema.empty_table()
        self._file.close()
        self._careful.close()
        self._remove_owned()

    def _take(self, rows: int) -> pa.Table:
        if not self._rest.num_rows:
            self._rest = self._next_batch()
        part = self._rest.slice(0, rows)
        self._rest = self._rest.slice(part.num_rows)
        self._row += part.num_rows
        return part

    def _skip_finished_groups(self) -> None:
        while self._group < self._groups and self._row >= self._rows_of_group():
            self._group, self._row = self._group + 1, 0
            self._open_group(skip=0)

    def _rows_of_group(self) -> int:
        rows: int = self._file.metadata.row_group(self._group).num_rows
        return rows

    def _open_group(self, *, skip: int) -> None:
        self._rest = self.schema.empty_table()
        if self._group >= self._groups:
            return
        try:
            file = self._careful if self._has_long_texts() else self._file
            self._batches = _batches(file, self._group, self.columns.wanted, BATCH_ROWS)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        while skip:
            batch = self._next_batch()
            self._rest = batch.slice(skip)
            skip -= min(skip, batch.num_rows)

    def _next_batch(self) -> pa.Table:
        try:
            batch = next(self._batches, None)
            if batch is not None:
                return self._converted(batch)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        raise BadSource(f"row group {self._group} of the parquet list has fewer rows than its footer says")

    def _damaged(self, error: Exception) -> BadSource:
        return BadSource(f"row group {self._group} of the parquet list is damaged: {_first_line(error)}")

    def _has_long_texts(self) -> bool:
        """Whether a dictionary of this row group holds a text that no cell may have."""
        suspects = _large_dictionaries(self._file.metadata, self._group, self._texts)
        if not suspects or not self._rows_of_group():
            return False
        first = next(_batches(self._careful, self._group, suspects, 1))
        longest = [pc.max(pc.binary_length(first.column(name).dictionary)).as_py() or 0 for name in suspects]
        return max(longest) > MAX_CELL_BYTES

    def _converted(self, batch: pa.RecordBatch) -> pa.Table:
        caption = self.columns.caption
        found = [
            url_column(_text(batch.column(self.columns.url))),
            pa.nulls(batch.num_rows, pa.string()) if caption is None else _text(batch.column(caption)),
        ]
        for name, kind in self._types.items():
            column = batch.column(name)
            found.append(_text(column) if kind == pa.string() else _plain(column).cast(kind))
        return pa.table(found, schema=self.schema)

    def _remove_owned(self) -> None:
        if self._owned is not None:
            self._owned.unlink(missing_ok=True)


def _opened(path: Path, columns: Columns) -> tuple[pq.ParquetFile, pq.ParquetFile, list[str]]:
    """The file, the same file giving texts as dictionaries, and which columns hold text."""
    _check_footer(path)
    try:
        file = pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)
        texts = _check_columns(file.schema_arrow, columns)
        _check_groups(file.metadata)
        careful = pq.ParquetFile(
            path, metadata=file.metadata, buffer_size=BUFFER_BYTES, pre_buffer=False, read_dictionary=texts
        )
    except (pa.ArrowException, OSError) as error:
        raise BadSource(f"the list is no readable parquet: {_first_line(error)}") from error
    return file, careful, texts


def _batches(file: pq.ParquetFile, group: int, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    found: Iterator[pa.RecordBatch] = file.iter_batches(
        rows, row_groups=[group], columns=list(dict.fromkeys(columns)), use_threads=False
    )
    return found


def _check_groups(metadata: pq.FileMetaData) -> None:
    if metadata.num_row_groups > MAX_ROW_GROUPS:
        raise BadSource(
            f"the parquet list has {metadata.num_row_groups:,} row groups; at most {MAX_ROW_GROUPS:,} are read"
        )


def _large_dictionaries(metadata: pq.FileMetaData, group: int, texts: list[str]) -> list[str]:
    """Text columns whose dictionary might hold a text that is too long. Raises BadSource for one packed like a bomb."""
    found = []
    described = metadata.row_group(group)
    for chunk in (described.column(place) for place in range(described.num_columns)):
        if chunk.path_in_schema not in texts:
            continue
        unpacked = chunk.total_uncompressed_size
        if unpacked > RATIO_FREE_BYTES and unpacked > MAX_RATIO * chunk.total_compressed_size:
            raise BadSource(
                f"the column '{chunk.path_in_schema}' unpacks too far; at most {MAX_RATIO} times is accepted"
            )
        if chunk.has_dictionary_page and unpacked > MAX_CELL_BYTES:
            found.append(chunk.path_in_schema)
    return found


def _check_footer(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
    if len(tail) < 8 or tail[4:] != MAGIC:
        raise BadSource("the list is not parquet or is cut: it does not end with PAR1")
    if struct.unpack("<I", tail[:4])[0] > min(size, MAX_FOOTER_BYTES):
        raise BadSource(f"the parquet list's footer is damaged or larger than {MAX_FOOTER_BYTES // 1024**2} MiB")


def _check_columns(schema: pa.Schema, columns: Columns) -> list[str]:
    """Checks names and types and returns those columns that hold text."""
    columns.check(schema.names)
    for name in filter(None, (columns.url, columns.caption)):
        kind = _value_type(schema.field(name).type)
        if not (_is_text(kind) or pa.types.is_null(kind)):
            raise BadSource(f"the column '{name}' holds {kind}, not text")
    for name in columns.saved:
        _check_saved(name, _value_type(schema.field(name).type))
    return [name for name in columns.wanted if _is_text(schema.field(name).type)]


def _check_saved(name: str, kind: pa.DataType) -> None:
    if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
        raise BadSource(
            f"the column '{name}' is nested ({kind}) and cannot be saved; flatten it, or write it as JSON text"
        )
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        raise BadSource(f"the column '{name}' holds bytes and cannot be saved; save text or numbers")


def _output_types(schema: pa.Schema, columns: Columns) -> dict[str, pa.DataType]:
    kinds = {name: _value_type(schema.field(name).type) for name in columns.saved}
    return {name: pa.string() if _is_text(kind) or pa.types.is_null(kind) else kind for name, kind in kinds.items()}


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    """Old writers leave the mark off that tells texts from bytes."""
    return kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    if pa.types.is_dictionary(column.type):
        too_long = pc.greater(pc.binary_length(column.dictionary), MAX_CELL_BYTES)
        if pc.any(too_long).as_py():
            values = pc.if_else(too_long, None, column.dictionary)
            return valid_text(values.take(column.indices))
    return valid_text(_plain(column))


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
