"""Shards without some of their pictures: read member by member, written anew, the rest kept byte for byte."""

import tarfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.errors import StoreRefused
from shared.records import key_of
from shared.storage.base import ObjectStore

#: Read at once, bytes; bounds memory.
_PIECE = 8 * 1024 * 1024
Cut = TypeVar("Cut")
_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE


async def fetch(store: ObjectStore, key: str, path: Path) -> None:
    """Copies an object into a local file. Raises KeyError when there is none."""
    stored = await store.stat(key)
    if stored is None:
        raise KeyError(key)
    with path.open("wb") as file:
        for offset in range(0, stored.size_bytes, _PIECE):
            file.write(await store.get(key, offset=offset, length=min(_PIECE, stored.size_bytes - offset)))


def without_rows(key: str, old: Path, new: Path, rows: Collection[int]) -> bool:
    """Writes a shard without some rows. False: nothing would be in it. Raises StoreRefused when it is none of ours."""
    cut = _cut_tar if key.endswith(".tar") else _cut_parquet
    return _if_ours(key, lambda: cut(old, new, rows))


def without_rows_in_table(key: str, body: bytes, rows: Collection[int]) -> bytes | None:
    """A metadata file without some rows; None when none is left. Raises StoreRefused when it is none of ours."""

    def cut() -> bytes | None:
        with pq.ParquetFile(pa.BufferReader(body)) as source:
            table, options = source.read(), _as_written(source)
        kept = table.filter(_is_kept(table, rows))
        if len(kept) == len(table):
            return body
        if not len(kept):
            return None
        sink = pa.BufferOutputStream()
        pq.write_table(kept, sink, **options)
        written: bytes = sink.getvalue().to_pybytes()
        return written

    return _if_ours(key, cut)


def _if_ours(key: str, cut: Callable[[], Cut]) -> Cut:
    try:
        return cut()
    except (ValueError, KeyError, tarfile.TarError) as error:
        raise StoreRefused(f"{key} is not as it was stored; move it away") from error


def _cut_tar(old: Path, new: Path, rows: Collection[int]) -> bool:
    names = {key_of(row) for row in rows}
    with tarfile.open(old, "r:") as source, old.open("rb") as bytes_of, new.open("wb") as file:
        for member in source:
            if member.name.partition(".")[0] not in names:
                bytes_of.seek(member.offset)
                _copy(bytes_of.read, file.write, member.offset_data - member.offset + _padded(member.size))
        if not file.tell():
            return False
        file.write(bytes(2 * _BLOCK))
        file.write(bytes(-file.tell() % _RECORD))
    return True


def _padded(size_bytes: int) -> int:
    return size_bytes + -size_bytes % _BLOCK


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], int], size_bytes: int) -> None:
    while size_bytes:
        piece = read(min(_PIECE, size_bytes))
        if not piece:
            raise ValueError("the tar ends too early")
        size_bytes -= write(piece)


def _cut_parquet(old: Path, new: Path, rows: Collection[int]) -> bool:
    with pq.ParquetFile(old) as source:
        options = _as_written(source)
        options.pop("row_group_size")
        with pq.ParquetWriter(new, source.schema_arrow, **options) as writer:
            kept = [
                _write_group(source.read_row_group(number), writer, rows) for number in range(source.num_row_groups)
            ]
    return any(kept)


def _write_group(group: pa.Table, writer: pq.ParquetWriter, rows: Collection[int]) -> int:
    kept = group.filter(_is_kept(group, rows))
    if len(kept):
        writer.write_table(kept, row_group_size=len(kept))
    return len(kept)


def _is_kept(table: pa.Table, rows: Collection[int]) -> pa.Array:
    return pc.invert(pc.is_in(table["row"], value_set=pa.array(sorted(rows), pa.int64())))


def _as_written(source: pq.ParquetFile) -> dict[str, object]:
    """How the file's columns are stored, as pyarrow's writer takes it."""
    group = source.metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    codecs = {column.path_in_schema: column.compression.lower() for column in columns}
    return {
        "compression": {path: "none" if codec == "uncompressed" else codec for path, codec in codecs.items()},
        "use_dictionary": [column.path_in_schema for column in columns if column.has_dictionary_page],
        "write_statistics": [column.path_in_schema for column in columns if column.is_stats_set],
        "row_group_size": group.num_rows,
    }
