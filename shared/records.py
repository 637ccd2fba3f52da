"""The tables that pass from stage to stage, and the index that stays: their columns, types and meaning.

    SOURCE    planned once, a row for each input row            scheduler  ──▶ all stages
    FETCHED   beside the pack of bodies, a row for each row     downloader ──▶ validator, uploader
    VERDICTS  a row for each row                                validator  ──▶ uploader
    INDEX     in the destination, a row for each row, for ever  uploader   ──▶ clients

All four are Arrow tables with the rows of one chunk in input order. `row` is the dataset-wide number.
A null `reason` means: still accepted.
"""

from collections.abc import Sequence

import pyarrow as pa

#: What is planned for each row; the columns the client asked to save follow these, under their own names.
SOURCE = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("url", pa.string()),  # as in the list; null or nonsense is judged by the downloader
        pa.field("caption", pa.string()),
    ]
)

FETCHED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),  # for people; never an address, a query or a secret
        pa.field("offset", pa.int64()),  # of the body in the pack; null when there is none
        pa.field("length", pa.int64()),  # of the body in the pack, bytes
        pa.field("http_status", pa.int16()),
        pa.field("final_url", pa.string()),
        pa.field("content_type", pa.string()),  # as claimed by the host
        pa.field("etag", pa.string()),
        pa.field("last_modified", pa.string()),
        pa.field("opt_out", pa.string()),  # the directive that refused, as sent
        pa.field("attempts", pa.int16(), nullable=False),
        pa.field("fetch_ms", pa.int32()),  # of the last attempt, redirects included
        pa.field("fetched_at", pa.timestamp("ms", tz="UTC")),
    ]
)

VERDICTS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("format", pa.string()),  # of the fetched bytes: an ImageKind
        pa.field("original_width", pa.int32()),  # as fetched, before orientation and resize
        pa.field("original_height", pa.int32()),
        pa.field("orientation", pa.int8()),  # EXIF 1..8 as fetched; 1 when absent
        pa.field("frames", pa.int32()),
        pa.field("sha256", pa.string()),  # of the fetched bytes, hex
        pa.field("phash", pa.string()),  # 64 bits of the upright picture, 16 hex digits
        pa.field("exif", pa.string()),  # JSON object without GPS, "{}" when none
        pa.field("duplicate_of", pa.int64()),  # row with the same bytes (or nearly the same picture)
        pa.field("derived", pa.bool_()),  # stored bytes lie in the derived pack, not in the fetched one
        pa.field("offset", pa.int64()),  # of the stored bytes in their pack
        pa.field("length", pa.int64()),
        pa.field("stored_format", pa.string()),  # an ImageKind
        pa.field("stored_sha256", pa.string()),
        pa.field("width", pa.int32()),  # of the stored picture
        pa.field("height", pa.int32()),
        pa.field("thumbnail_offset", pa.int64()),  # in the derived pack; null when there is none
        pa.field("thumbnail_length", pa.int64()),
    ]
)

#: Every img2dataset column under its name and type, then ours. Saved columns stand before these.
INDEX = pa.schema(
    [
        pa.field("caption", pa.string()),
        pa.field("url", pa.string()),
        pa.field("key", pa.string(), nullable=False),  # the row number, nine digits
        pa.field("status", pa.string(), nullable=False),
        pa.field("error_message", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("original_width", pa.int32()),
        pa.field("original_height", pa.int32()),
        pa.field("exif", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("path", pa.string()),  # the object that holds the image, relative to the destination
        pa.field("format", pa.string()),
        pa.field("stored_format", pa.string()),
        pa.field("bytes", pa.int64()),  # fetched
        pa.field("stored_bytes", pa.int64()),
        pa.field("stored_sha256", pa.string()),
        pa.field("phash", pa.string()),
        pa.field("duplicate_of", pa.int64()),
        pa.field("orientation", pa.int8()),
        pa.field("frames", pa.int32()),
        pa.field("http_status", pa.int16()),
        pa.field("final_url", pa.string()),
        pa.field("content_type", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("last_modified", pa.string()),
        pa.field("opt_out", pa.string()),
        pa.field("attempts", pa.int16()),
        pa.field("fetch_ms", pa.int32()),
        pa.field("fetched_at", pa.timestamp("ms", tz="UTC")),
        pa.field("thumbnail_path", pa.string()),  # the object that holds a small picture of it; null when there is none
    ]
)

#: Small pictures of a chunk's stored images, as JPEG; in the destination, beside the index.
THUMBNAILS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("stored_sha256", pa.string(), nullable=False),  # of the image that it shows
        pa.field("thumbnail", pa.binary(), nullable=False),
    ]
)

#: Columns that indexes of earlier versions do not have; there they read as null.
ADDED_LATER = frozenset({"thumbnail_path"})

#: Names a client's own columns may not take.
RESERVED_COLUMNS = frozenset(INDEX.names) | {"image", "txt", "json", "jpg", "png", "webp", "file_name", "_held"}

#: Last column of a planned table whose rows are refreshed: what is known of the picture that the dataset holds.
HELD = pa.field(
    "_held",
    pa.struct(
        [
            pa.field("sha256", pa.string()),  # of the fetched bytes
            pa.field("final_url", pa.string()),  # the only one that may be asked by the validators below
            pa.field("etag", pa.string()),
            pa.field("last_modified", pa.string()),
        ]
    ),
)

#: Files of a chunk in the work area.
PACK = "pack"
FETCHED_FILE = "fetched.arrow"
DERIVED_PACK = "derived"
VERDICTS_FILE = "verdicts.arrow"


def key_of(row: int) -> str:
    """The name of a row in keys, members and the index: nine digits sort ten million rows."""
    return f"{row:09d}"


def saved_columns(source: pa.Table) -> list[str]:
    """The client's own columns of a planned table."""
    return [name for name in source.column_names[len(SOURCE) :] if name != HELD.name]


def to_stream(table: pa.Table) -> bytes:
    """One table as a self-contained Arrow stream, zstd inside."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def from_stream(stream: bytes | pa.Buffer) -> pa.Table:
    """The table of an Arrow stream. Raises pyarrow.ArrowInvalid for anything else."""
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_all()


def table_of(rows: Sequence[dict[str, object]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of that schema; a missing key is null."""
    return pa.Table.from_pylist(list(rows), schema=schema)
