"""From a list to a *part* of a job's plan: chunks of 500 rows, each an Arrow stream of its own, one after the other.

    list ──▶ slice of 500 rows ──▶ row numbers in front ──▶ Arrow stream ──┐
                                                                 part file: [chunk 0][chunk 1]…[chunk n]

The scheduler stores the part in the spool and inserts a row for each chunk, with its byte range; a stage then
reads its chunk by one ranged get. No database here, and no event loop: run it in a thread.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from shared.manifest import Cursor, ListReader
from shared.pipeline import CHUNK_ROWS
from shared.records import SOURCE, to_stream

#: The first part is small, so that the first chunk is fetched soon after a job was submitted.
FIRST_PART_CHUNKS = 4
#: 50,000 rows: some megabytes to store at once, and few enough rows to insert in one statement.
PART_CHUNKS = 100


@dataclass(frozen=True, kw_only=True)
class PlannedChunk:
    """A chunk and where its rows lie in the part."""

    ordinal: int
    first_row: int
    rows: int
    offset: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """A planned stretch of the list. Planning it again from the same cursor gives the same bytes."""

    path: Path
    size_bytes: int
    sha256: str
    chunks: tuple[PlannedChunk, ...]
    #: Where the next part begins.
    cursor: Cursor
    #: Whether the list ends with this part.
    is_last: bool
    #: Of rows taken again: how many there are, by the reason they had. None: the rows are new ones.
    replaced: Mapping[str, int] | None = None
    #: Of rows that are refreshed: the ids of the chunks they are in so far, one for each chunk here.
    renews: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        return sum(chunk.rows for chunk in self.chunks)


def part_chunks(first_ordinal: int) -> int:
    """How many chunks the part that begins with this ordinal should have."""
    return FIRST_PART_CHUNKS if first_ordinal == 0 else PART_CHUNKS


def plan_slice(
    reader: ListReader, cursor: Cursor | None, *, first_row: int, first_ordinal: int, max_chunks: int, path: Path
) -> Part:
    """Plans up to `max_chunks` chunks from a cursor on (None: the beginning) and writes them to `path`.

    `first_row` is the dataset-wide number of the first of them, `first_ordinal` its chunk's place in the job. The
    caller owns the file, also when this raises: BadSource where the list cannot be read on, OSError for the file.
    """

    def tables() -> Iterator[pa.Table]:
        row = first_row
        for table in islice(reader.slices(CHUNK_ROWS, after=cursor), max_chunks):
            yield numbered(table, row)
            row += table.num_rows

    written = write_part(tables(), first_ordinal=first_ordinal, path=path)
    return Part(
        path=path,
        size_bytes=written.size_bytes,
        sha256=written.sha256,
        chunks=written.chunks,
        cursor=reader.cursor,
        is_last=reader.is_exhausted(),
    )


@dataclass(frozen=True, kw_only=True)
class WrittenPart:
    """A part's file."""

    size_bytes: int
    sha256: str
    chunks: tuple[PlannedChunk, ...]


def write_part(tables: Iterable[pa.Table], *, first_ordinal: int, path: Path) -> WrittenPart:
    """Writes chunks, each a table like `records.SOURCE` and the saved columns, one after the other."""
    chunks: list[PlannedChunk] = []
    digest = hashlib.sha256()
    offset = 0
    with path.open("wb") as file:
        for table in tables:
            stream = to_stream(table)
            file.write(stream)
            digest.update(stream)
            chunks.append(
                PlannedChunk(
                    ordinal=first_ordinal + len(chunks),
                    first_row=table["row"][0].as_py(),
                    rows=table.num_rows,
                    offset=offset,
                    length=len(stream),
                )
            )
            offset += len(stream)
    return WrittenPart(size_bytes=offset, sha256=digest.hexdigest(), chunks=tuple(chunks))


def plan(reader: ListReader, *, first_row: int, folder: Path) -> Iterator[Part]:
    """All parts of a list, one file each: what the scheduler does in slices, in one go."""
    cursor: Cursor | None = None
    ordinal = 0
    is_last = False
    while not is_last:
        part = plan_slice(
            reader,
            cursor,
            first_row=first_row,
            first_ordinal=ordinal,
            max_chunks=part_chunks(ordinal),
            path=folder / f"{ordinal:08d}.arrow",
        )
        yield part
        cursor, is_last = part.cursor, part.is_last
        first_row, ordinal = first_row + part.rows, ordinal + len(part.chunks)


def numbered(table: pa.Table, first_row: int) -> pa.Table:
    """The slice as `records.SOURCE` and the saved columns."""
    rows = pa.array(range(first_row, first_row + table.num_rows), pa.int64())
    schema = pa.schema([*SOURCE, *(table.schema.field(name) for name in table.column_names[2:])])
    return pa.table([rows, *table.columns], schema=schema)
