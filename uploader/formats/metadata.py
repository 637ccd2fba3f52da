"""The file beside a chunk's loose images: `file_name`, caption, the client's columns and what is known of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shared.index import Record
from uploader.formats.parquet import CAPTION_FIELD, FACT_FIELDS, GROUP_ROWS, read_columns

#: What `imagefolder` calls the column that names the image.
FILE_NAME = "file_name"


def metadata_of(held: Mapping[int, Record], records: Mapping[int, Record], saved: Sequence[pa.Field]) -> bytes:
    """A Parquet file with a row for each held row; equal rows give equal bytes."""
    kept = [field for field in saved if not _holds_file_name(field.type)]
    fields = [pa.field(FILE_NAME, pa.string()), CAPTION_FIELD, *kept, *FACT_FIELDS]
    rows = [
        {**records[row], **facts, FILE_NAME: facts["path"].rpartition("/")[2]} for row, facts in sorted(held.items())
    ]
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in fields]
    table = pa.table(columns, names=[_harmless(field.name) for field in fields])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=GROUP_ROWS, compression="zstd")
    written: bytes = sink.getvalue().to_pybytes()
    return written


def read_metadata(path: Path) -> list[Record]:
    """The rows of a metadata file. Raises ValueError when it is none of ours."""
    return read_columns(path, [FILE_NAME, *(field.name for field in FACT_FIELDS)])


def _harmless(name: str) -> str:
    """`imagefolder` takes every column called `*_file_name` for an image of its own and fails to open it."""
    return f"{name}_" if name.endswith(("_file_name", "_file_names")) else name


def _holds_file_name(kind: pa.DataType) -> bool:
    """Whether a nested column would be mistaken likewise, inside; such a column stays in the index only."""
    if pa.types.is_struct(kind):
        return any(field.name.endswith(("file_name", "file_names")) or _holds_file_name(field.type) for field in kind)
    return pa.types.is_nested(kind) and any(
        _holds_file_name(kind.field(place).type) for place in range(kind.num_fields)
    )
