"""What stands in a shard, a Parquet file and the metadata beside loose files."""

import io
import json
import tarfile
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.card_types import shard_features
from shared.index import SHARD_COLUMNS
from shared.recipe import ImageFormat, OutputFormat, Recipe
from tests.upload_bench import Bench, jpeg, missing, png
from uploader.formats.json_values import never_null

TAR = Recipe(output_format=OutputFormat.WEBDATASET)
ROWS = [jpeg(11, caption="a cat"), missing(), jpeg(12)]


async def tar_of(bench: Bench) -> list[tuple[tarfile.TarInfo, bytes]]:
    await (await bench.chunk(ROWS, recipe=TAR, saved=[pa.field("tags", pa.list_(pa.int8()))])).upload()
    body = bench.memory.objects["data/r000-000000.tar"].body
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return [(member, _body(tar, member)) for member in tar]


async def test_a_shard_holds_each_row_in_order_as_image_json_and_text(bench: Bench) -> None:
    members = await tar_of(bench)

    names = [member.name for member, _ in members]
    assert names == [f"{row:09d}.{suffix}" for row in (0, 2) for suffix in ("jpg", "json", "txt")]
    assert members[0][1] == ROWS[0].body
    assert [body for _, body in members[2::3]] == [b"a cat", b""]


async def test_a_shards_members_carry_no_times_and_no_owners(bench: Bench) -> None:
    members = await tar_of(bench)

    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m, _ in members} == {(0, 0, 0, "", "", 0o644)}


async def test_a_shard_ends_as_tar_asks(bench: Bench) -> None:
    await tar_of(bench)

    body = bench.memory.objects["data/r000-000000.tar"].body

    assert len(body) % tarfile.RECORDSIZE == 0
    assert not any(body[-2 * tarfile.BLOCKSIZE :])
    assert body[257:263] == b"ustar\x00"


async def test_every_json_has_every_key_and_no_null(bench: Bench) -> None:
    members = await tar_of(bench)

    records = [json.loads(body) for member, body in members if member.name.endswith(".json")]

    assert [list(record) for record in records] == [["tags", *SHARD_COLUMNS]] * 2
    assert [value for record in records for value in record.values() if value is None] == []
    assert (records[1]["caption"], records[1]["tags"], records[1]["error_message"]) == ("", [], "")


async def test_a_shard_tells_nothing_that_another_fetch_would_tell_otherwise(bench: Bench) -> None:
    members = await tar_of(bench)

    record = json.loads(members[1][1])

    assert not set(record) & {"fetch_ms", "fetched_at", "attempts", "etag", "last_modified", "final_url", "path"}


@pytest.mark.parametrize(
    ("kind", "value", "empty"),
    [
        (pa.string(), "x", ""),
        (pa.int8(), 3, 0),
        (pa.uint64(), 2**63, 0),
        (pa.float32(), 0.5, 0.0),
        (pa.bool_(), True, False),
        (pa.list_(pa.int32()), [1, 2], []),
        (pa.list_(pa.float64(), 2), [1.0, 0.0], []),
        (pa.struct([("a", pa.int8()), ("b", pa.string())]), {"a": 1, "b": "x"}, {"a": 0, "b": ""}),
        (pa.list_(pa.struct([("a", pa.int8())])), [{"a": 1}], []),
    ],
)
def test_values_that_json_knows_keep_their_type(kind: pa.DataType, value: Any, empty: Any) -> None:
    assert never_null(value, kind) == value
    assert never_null(None, kind) == empty
    assert type(never_null(None, kind)) is type(never_null(value, kind))


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (pa.date32(), date(2026, 1, 2), "2026-01-02"),
        (pa.timestamp("ms", tz="UTC"), datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (pa.decimal128(5, 2), Decimal("1.50"), "1.50"),
        (pa.binary(), b"\x00\xff", "AP8="),
    ],
)
def test_values_that_json_does_not_know_become_text(kind: pa.DataType, value: Any, text: str) -> None:
    assert never_null(value, kind) == text
    assert never_null(None, kind) == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_cannot_say_become_zero(value: float) -> None:
    assert never_null(value, pa.float64()) == 0.0


def test_nulls_inside_lists_and_structs_are_filled_too() -> None:
    assert never_null([1, None], pa.list_(pa.int8())) == [1, 0]
    assert never_null({"a": None}, pa.struct([("a", pa.list_(pa.string()))])) == {"a": []}


def test_the_card_declares_what_the_json_says() -> None:
    saved = [
        pa.field("n", pa.int8()),
        pa.field("big", pa.uint64()),
        pa.field("day", pa.date32()),
        pa.field("boxes", pa.list_(pa.list_(pa.float32()))),
        pa.field("faces", pa.list_(pa.struct([("x", pa.int16())]))),
        pa.field("place", pa.struct([("ok", pa.bool_())])),
    ]

    features = shard_features(saved, suffix="png")

    assert [feature["name"] for feature in features] == ["png", "json", "txt", "__key__", "__url__"]
    assert features[1]["struct"][: len(saved)] == [
        {"name": "n", "dtype": "int64"},
        {"name": "big", "dtype": "uint64"},
        {"name": "day", "dtype": "string"},
        {"name": "boxes", "list": {"list": "float64"}},
        {"name": "faces", "list": [{"name": "x", "dtype": "int64"}]},
        {"name": "place", "struct": [{"name": "ok", "dtype": "bool"}]},
    ]


async def test_parquet_holds_typed_images_in_groups_of_a_hundred(bench: Bench) -> None:
    rows = [jpeg(16 + place % 7, caption=str(place)) for place in range(205)]
    how = Recipe(output_format=OutputFormat.PARQUET, deduplicate=False)

    await (await bench.chunk(rows, recipe=how)).upload()

    file = pq.ParquetFile(io.BytesIO(bench.memory.objects["data/r000-000000.parquet"].body))
    assert [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)] == [100, 100, 5]
    first = file.read_row_group(0).to_pylist()[0]
    assert first["image"] == {"bytes": rows[0].body, "path": "000000000.jpg"}
    assert (first["caption"], first["key"], first["width"], first["height"]) == ("0", "000000000", 10, 20)
    features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}}


async def test_metadata_names_the_files_and_never_a_second_image(bench: Bench) -> None:
    saved = [
        pa.field("mask_file_name", pa.string()),
        pa.field("deep", pa.list_(pa.struct([("file_name", pa.string())]))),
    ]
    rows = [jpeg(11, saved={"mask_file_name": "x.png"}), png(12, saved={"deep": [{"file_name": "y"}]})]

    how = Recipe(image_format=ImageFormat.ORIGINAL)
    await (await bench.chunk(rows, recipe=how, saved=saved)).upload()

    body = bench.memory.objects["data/r000-000000/metadata.parquet"].body
    table = pq.read_table(io.BytesIO(body))
    assert table.column_names[:3] == ["file_name", "caption", "mask_file_name_"]
    assert table["file_name"].to_pylist() == ["000000000.jpg", "000000001.png"]
    assert "deep" not in table.column_names
    assert (await bench.index_table()).schema.names[:2] == ["mask_file_name", "deep"]


def _body(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()
