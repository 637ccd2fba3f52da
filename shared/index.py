"""The index of a chunk: one row for every input row, for ever, so that `rows = accepted + Σ rejected`.

    SOURCE ─┐
    FETCHED ┼─▶ records_of ─▶ (the uploader settles each record) ─▶ index_of ─▶ to_parquet ─▶ index/r000-000012.parquet
    VERDICTS┘

A *record* is one row of the index as a dict. Rejecting or accepting makes a new record; nothing is counted
apart from the rows themselves.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.errors import ChunkError
from shared.reasons import ELSEWHERE, REASONS, Reason, status_of
from shared.records import ADDED_LATER, INDEX, SOURCE, key_of, saved_columns

Record = dict[str, Any]

#: The file beside a chunk's loose images, by the name that Hugging Face's `imagefolder` looks for.
METADATA_NAME = "metadata.parquet"
#: Below it, an object a chunk with small pictures of its images.
THUMBNAILS_FOLDER = "thumbnails/"
THUMBNAILS_KEY = re.compile(r"thumbnails/r\d{3,}-\d{6,}(-[0-9a-f]{16})?\.parquet")
_CONTAINERS = (".tar", ".parquet")

#: Rows in a row group, as img2dataset has it: a page of the gallery reads one group.
_GROUP_ROWS = 100

#: What the newest fetch said, whatever the picture.
OF_FETCH = (
    "http_status",
    "final_url",
    "content_type",
    "etag",
    "last_modified",
    "opt_out",
    "attempts",
    "fetch_ms",
    "fetched_at",
)
_OF_FETCHED_BYTES = (
    "format",
    "original_width",
    "original_height",
    "orientation",
    "frames",
    "sha256",
    "phash",
    "exif",
)
_OF_STORED_BYTES = ("stored_format", "stored_bytes", "stored_sha256", "width", "height")

#: What is true of an image wherever it is stored, and stays true whenever it is fetched again.
PICTURE_FACTS = (*_OF_FETCHED_BYTES, "bytes", *_OF_STORED_BYTES)

#: What stands in the JSON beside an image in a tar shard, after the client's own columns.
SHARD_COLUMNS = ("caption", "url", "key", "status", "error_message", "row", *PICTURE_FACTS)


def chunk_name(revision: int, ordinal: int) -> str:
    """What a chunk is called in every key it makes."""
    return f"r{revision:03d}-{ordinal:06d}"


def index_key(revision: int, ordinal: int, round: int) -> str:
    """Where a chunk's index lies in the destination; a chunk that was redriven writes a new one in each round."""
    again = f"-{round}" if round else ""
    return f"index/{chunk_name(revision, ordinal)}{again}.parquet"


def thumbnails_key(revision: int, ordinal: int) -> str:
    """Where a chunk's thumbnails lie, in all its rounds; a purge that takes some of them out writes another name."""
    return f"{THUMBNAILS_FOLDER}{chunk_name(revision, ordinal)}.parquet"


def object_keys(index: pa.Table) -> list[str]:
    """The objects to remember of a finished chunk: those that hold its images, or name its loose image files, or hold
    its thumbnails."""
    paths = {path for path in index["path"].to_pylist() if path is not None}
    thumbnails = {path for path in index["thumbnail_path"].to_pylist() if path is not None}
    return sorted({path if path.endswith(_CONTAINERS) else _metadata_beside(path) for path in paths} | thumbnails)


def records_of(
    source: pa.Table, fetched: pa.Table | None = None, verdicts: pa.Table | None = None, *, revision: int
) -> list[Record]:
    """What is known of each row, in input order. A null reason means: not rejected so far.

    Raises ChunkError when the tables do not speak of the same rows.
    """
    for table in (fetched, verdicts):
        if table is not None and table["row"].to_pylist() != source["row"].to_pylist():
            raise ChunkError("the chunk's tables do not speak of the same rows")
    blank: list[Record] = [{}] * len(source)
    fetches = fetched.to_pylist() if fetched is not None else blank
    judged = verdicts.to_pylist() if verdicts is not None else blank
    return [_record(*row, revision=revision) for row in zip(source.to_pylist(), fetches, judged, strict=True)]


def rejected(record: Record, reason: Reason, *, detail: str | None = None, duplicate_of: int | None = None) -> Record:
    """The record of the same row, not accepted."""
    return {
        **record,
        **dict.fromkeys(_OF_STORED_BYTES),
        "path": None,
        "thumbnail_path": None,
        "reason": reason.value,
        "status": status_of(reason).value,
        "error_message": detail or REASONS[reason].advice,
        "duplicate_of": record["duplicate_of"] if duplicate_of is None else duplicate_of,
    }


def accepted(record: Record, *, path: str) -> Record:
    """The record of the same row, its image stored in the object at `path`."""
    return {**record, "path": path}


def accepted_as_stored(record: Record, facts: Mapping[str, Any], *, path: str) -> Record:
    """The record of the same row when the destination holds its image already, perhaps other bytes than these.

    `facts` are the stored image's `PICTURE_FACTS`. What the fetch said is kept only if it brought the same bytes.
    """
    fetch: Record = {} if facts.get("sha256") == record["sha256"] else dict.fromkeys(OF_FETCH)
    return {
        **record,
        **fetch,
        **{name: facts.get(name) for name in PICTURE_FACTS},
        "path": path,
        "reason": None,
        "status": status_of(None).value,
        "error_message": None,
        "duplicate_of": None,
    }


def is_accepted(record: Record) -> bool:
    return record["reason"] is None


def index_of(records: Sequence[Record], source: pa.Table) -> pa.Table:
    """The records as an INDEX table, the client's own columns first and with their own types."""
    return pa.Table.from_pylist(list(records), schema=_schema(source))


def index_of_open_rows(
    source: pa.Table,
    reason: Reason,
    *,
    revision: int,
    fetched: pa.Table | None = None,
    verdicts: pa.Table | None = None,
) -> pa.Table:
    """The index of a chunk that stored nothing: rows not rejected before are rejected for `reason`."""
    records = records_of(source, fetched, verdicts, revision=revision)
    closed = [rejected(record, reason) if is_accepted(record) else record for record in records]
    return index_of(closed, source)


def counts_of(index: pa.Table) -> tuple[int, dict[str, int]]:
    """Accepted rows, and rejected rows by reason; together they are all rows."""
    counted = Counter(index["reason"].to_pylist())
    passed = counted.pop(None, 0)
    by_reason = {reason: counted[reason] for reason in sorted(counted)}
    assert passed + sum(by_reason.values()) == len(index), "every row is accepted or has one reason"
    return passed, by_reason


def standing(index: pa.Table) -> pa.Table:
    """The rows of which this index speaks; of the others, which a refresh looked at or replaced, another one does."""
    elsewhere = pc.is_in(index["reason"], value_set=pa.array([reason.value for reason in ELSEWHERE]))
    return index.filter(pc.invert(elsewhere))


def to_parquet(index: pa.Table) -> bytes:
    """The index as the bytes of a Parquet file; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(index, sink, row_group_size=_GROUP_ROWS, compression="zstd", store_schema=True)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def from_parquet(body: bytes) -> pa.Table:
    """The index in a Parquet file. Raises ValueError when it is no index."""
    index = pq.read_table(pa.BufferReader(body))
    missing = set(INDEX.names) - set(index.column_names)
    for name in missing & ADDED_LATER:
        index = index.append_column(INDEX.field(name), pa.nulls(len(index), INDEX.field(name).type))
    if missing - ADDED_LATER:
        raise ValueError(f"not an index: {len(missing - ADDED_LATER)} columns are missing")
    return index


def saved_fields(source: pa.Table) -> list[pa.Field]:
    """The client's own columns of a planned table, as fields."""
    return [source.schema.field(name).with_nullable(True) for name in saved_columns(source)]


def saved_fields_in(index: pa.Table) -> list[pa.Field]:
    """The client's own columns of an index, as fields."""
    return [field for field in index.schema if field.name not in INDEX.names]


def _schema(source: pa.Table) -> pa.Schema:
    return pa.schema([*saved_fields(source), *INDEX])


def _metadata_beside(path: str) -> str:
    return f"{path.rpartition('/')[0]}/{METADATA_NAME}"


def _record(planned: Record, fetch: Record, verdict: Record, *, revision: int) -> Record:
    row = planned["row"]
    record: Record = {
        **_pick(planned, (*(name for name in planned if name not in SOURCE.names), "caption", "url", "row")),
        **_pick(fetch, OF_FETCH),
        **_pick(verdict, _OF_FETCHED_BYTES),
        **_pick(verdict, ("stored_format", "stored_sha256", "width", "height", "duplicate_of")),
        "key": key_of(row),
        "revision": revision,
        "bytes": fetch.get("length"),
        "stored_bytes": verdict.get("length"),
        "path": None,
        "thumbnail_path": None,
        "reason": None,
        "status": status_of(None).value,
        "error_message": None,
    }
    for judge in (fetch, verdict):
        if judge.get("reason") is not None:
            return rejected(record, Reason(judge["reason"]), detail=judge["detail"])
    return record


def _pick(values: Record, names: Iterable[str]) -> Record:
    return {name: values.get(name) for name in names}
