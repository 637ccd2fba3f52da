"""One thumbnail out of a chunk's file of them: its end, which says what lies where, and one group of rows are read."""

import asyncio
import io
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.index import THUMBNAILS_KEY
from shared.storage.base import ObjectStore

#: Of the file's end that is read at once, bytes; the table of contents of 500 thumbnails takes a tenth of it.
_END = 64 * 1024
#: Of a group and of a picture; both lie at a place that is not ours alone.
_MOST_GROUP_BYTES, _MOST_BYTES = 8 * 1024 * 1024, 1024 * 1024
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class _Piece:
    """Bytes of the file, and where they begin."""

    start: int
    body: bytes


def thumbnail_path(index: pa.Table, row: int) -> str | None:
    """The object that holds the row's thumbnail; None when it has none, or the index has no such row."""
    found = index.filter(pc.equal(index["row"], row))["thumbnail_path"].to_pylist()
    path: str | None = found[0] if found else None
    # The index lies at a place that is not ours alone.
    return path if path is not None and THUMBNAILS_KEY.fullmatch(path) else None


async def read_thumbnail(store: ObjectStore, key: str, row: int) -> bytes | None:
    """The row's small JPEG; None when the file has none, or is not as it was stored.

    Raises StoreUnavailable, StoreRefused.
    """
    stored = await store.stat(key)
    if stored is None:
        return None
    try:
        return await _read(store, key, row, stored.size_bytes)
    except (KeyError, ValueError, OSError):  # pyarrow's errors are these
        return None


async def _read(store: ObjectStore, key: str, row: int, size_bytes: int) -> bytes | None:
    start = max(0, size_bytes - _END)
    end = _Piece(start, await store.get(key, offset=start, length=size_bytes - start))
    found = await asyncio.to_thread(_group_of, row, size_bytes, end)
    if found is None:
        return None
    number, first, behind = found
    group = _Piece(first, await store.get(key, offset=first, length=behind - first))
    return await asyncio.to_thread(_picture, row, size_bytes, number, (group, end))


def _group_of(row: int, size_bytes: int, end: _Piece) -> tuple[int, int, int] | None:
    """The number of the group with that row, and from where to where it lies."""
    with pq.ParquetFile(_file(size_bytes, (end,))) as file:
        contents = file.metadata
    for number in range(contents.num_row_groups):
        group = contents.row_group(number)
        columns = [group.column(place) for place in range(group.num_columns)]
        bounds = columns[0].statistics
        if bounds is None or not bounds.has_min_max or not bounds.min <= row <= bounds.max:
            continue
        first = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
        behind = max(
            (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size
            for column in columns
        )
        size = sum(column.total_uncompressed_size for column in columns)
        fits = 0 <= first <= behind <= size_bytes and max(size, behind - first) <= _MOST_GROUP_BYTES
        return (number, first, behind) if fits else None
    return None


def _picture(row: int, size_bytes: int, number: int, pieces: tuple[_Piece, ...]) -> bytes | None:
    with pq.ParquetFile(_file(size_bytes, pieces)) as file:
        group = file.read_row_group(number, columns=["row", "thumbnail"])
    rows = group["row"].to_pylist()
    if row not in rows:
        return None
    picture: bytes = group["thumbnail"][rows.index(row)].as_py()
    return picture if len(picture) <= _MOST_BYTES and picture.startswith(_JPEG) else None


def _file(size_bytes: int, pieces: tuple[_Piece, ...]) -> pa.PythonFile:
    return pa.PythonFile(_Pieces(size_bytes, pieces), mode="r")


class _Pieces(io.RawIOBase):
    """A file of which only some pieces are at hand. Raises OSError for the rest."""

    def __init__(self, size_bytes: int, pieces: tuple[_Piece, ...]) -> None:
        super().__init__()
        self._size = size_bytes
        self._pieces = pieces
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        behind = self._size if size < 0 else min(self._size, self._at + size)
        for piece in self._pieces:
            if piece.start <= self._at and behind <= piece.start + len(piece.body):
                found = piece.body[self._at - piece.start : behind - piece.start]
                self._at = behind
                return found
        raise OSError("the file's contents name a place that was not read")
