"""One thumbnail is read without the others, and a file that is not ours shows nothing."""

import io
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.thumbnails import read_thumbnail, thumbnail_path
from shared.records import THUMBNAILS
from shared.storage.memory import MemoryStore

KEY = "thumbnails/r000-000000.parquet"
JPEG = b"\xff\xd8\xff"


def picture(row: int) -> bytes:
    return JPEG + row.to_bytes(4, "big") + bytes(20_000)


def file_of(rows: range, make: Callable[[int], bytes] = picture, *, group: int = 20) -> bytes:
    table = pa.table({"row": rows, "stored_sha256": ["0"] * len(rows), "thumbnail": list(map(make, rows))}, THUMBNAILS)
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group, compression="none", use_dictionary=False)
    return sink.getvalue()


class CountingStore(MemoryStore):
    """Counts what is read."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body
        self.read_bytes = 0

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        found = await super().get(key, offset=offset, length=length)
        self.read_bytes += len(found)
        return found


async def store_of(body: bytes) -> CountingStore:
    store = CountingStore(body)
    await store.create(KEY, body, content_type="x/y", sha256="0" * 64)
    return store


@pytest.mark.parametrize("row", [1000, 1019, 1020, 1250, 1499])
async def test_a_row_is_found_by_reading_its_group_alone(row: int) -> None:
    store = await store_of(file_of(range(1000, 1500)))

    assert await read_thumbnail(store, KEY, row) == picture(row)
    assert store.read_bytes < 600_000 < len(store.body)


@pytest.mark.parametrize("row", [0, 999, 1500])
async def test_a_row_that_is_not_there_has_none(row: int) -> None:
    assert await read_thumbnail(await store_of(file_of(range(1000, 1500))), KEY, row) is None


async def test_a_small_file_is_read() -> None:
    store = await store_of(file_of(range(5), lambda row: JPEG + bytes([row])))

    assert await read_thumbnail(store, KEY, 3) == JPEG + bytes([3])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"PAR1",
        b"nothing of ours" * 9000,
        file_of(range(9))[:-9],
        file_of(range(9), lambda _: b"<script>"),
        file_of(range(9), lambda _: JPEG + bytes(1_100_000)),
        file_of(range(500), lambda _: JPEG + bytes(200_000), group=500),
    ],
    ids=["empty", "short", "foreign", "cut", "no jpeg", "large picture", "large group"],
)
async def test_what_is_not_as_it_was_stored_shows_nothing(body: bytes) -> None:
    assert await read_thumbnail(await store_of(body), KEY, 3) is None


async def test_a_file_that_is_gone_shows_nothing() -> None:
    assert await read_thumbnail(MemoryStore(), KEY, 3) is None


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (KEY, KEY),
        ("thumbnails/r001-000012-0123456789abcdef.parquet", "thumbnails/r001-000012-0123456789abcdef.parquet"),
        (None, None),
        ("../../etc/passwd", None),
        ("data/r000-000000.parquet", None),
    ],
)
def test_only_a_file_of_thumbnails_is_looked_into(path: str | None, named: str | None) -> None:
    index = pa.table({"row": [7], "thumbnail_path": pa.array([path], pa.string())})

    assert thumbnail_path(index, 7) == named
    assert thumbnail_path(index, 8) is None
