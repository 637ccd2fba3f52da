"""What one chunk leaves in its destination, and how its rows add up."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from shared.blocklist import Blocklist, Kind, LiveBlocklist, Version, normalised
from shared.errors import ChunkError, StoreUnavailable, WorkAreaGone
from shared.index import counts_of, index_key, to_parquet
from shared.papers import SUCCESS_KEY
from shared.reasons import Reason
from shared.recipe import ImageFormat, OutputFormat, Recipe
from shared.storage.local import LocalStore
from shared.storage.memory import MemoryStore
from tests.upload_bench import Bench, Row, gif, jpeg, missing, png, webp
from uploader.settings import UploaderSettings
from uploader.upload import open_uploader

FORMATS = list(OutputFormat)
MIXED = [jpeg(11, caption="a cat"), png(12), missing(), webp(13), jpeg(14, reason=Reason.TOO_SMALL), gif(15)]


def recipe(output: OutputFormat, **more: object) -> Recipe:
    return Recipe.model_validate({"output_format": output, "image_format": ImageFormat.ORIGINAL, **more})


@pytest.mark.parametrize("output", FORMATS)
async def test_every_row_is_accepted_or_rejected_once(bench: Bench, output: OutputFormat) -> None:
    chunk = await bench.chunk(MIXED, recipe=recipe(output))

    result = await chunk.upload()

    assert result.passed == 4
    assert result.rejected == {"http_not_found": 1, "too_small": 1}
    assert counts_of(await bench.index_table()) == (4, dict(result.rejected))


@pytest.mark.parametrize("output", FORMATS)
async def test_the_index_names_the_object_that_holds_each_accepted_row(bench: Bench, output: OutputFormat) -> None:
    await (await bench.chunk(MIXED, recipe=recipe(output))).upload()

    index = await bench.index()

    assert {row["path"] is None for row in index if row["reason"] is None} == {False}
    assert {row["path"] for row in index if row["reason"] is not None} == {None}
    assert {row["path"] for row in index if row["path"]} <= set(bench.memory.objects)


@pytest.mark.parametrize("output", FORMATS)
async def test_two_runs_over_the_same_origin_store_the_same_bytes(bench: Bench, output: OutputFormat) -> None:
    other = Bench(bench.area._root / "other")
    await (await bench.chunk(MIXED, recipe=recipe(output))).upload()
    late = datetime(2027, 1, 1, microsecond=7, tzinfo=UTC)
    await (await other.chunk(MIXED, recipe=recipe(output), fetched_at=late)).upload(puts=1)

    def data(each: Bench) -> dict[str, str]:
        return {key: held.sha256 for key, held in each.memory.objects.items() if key.startswith("data/")}

    assert data(bench)
    assert data(bench) == data(other)


@pytest.mark.parametrize("output", FORMATS)
async def test_a_redone_chunk_adopts_its_finished_index(bench: Bench, output: OutputFormat) -> None:
    chunk = await bench.chunk(MIXED, recipe=recipe(output))
    first = await chunk.upload()
    before = dict(bench.memory.objects)

    redone = await bench.chunk([missing()] * len(MIXED), recipe=recipe(output))
    second = await redone.upload()

    assert second == first
    assert bench.memory.objects == before
    assert sorted(item.key for item in redone.recorded) == sorted(item.key for item in chunk.recorded)
    assert redone.settled == chunk.settled


@pytest.mark.parametrize("output", FORMATS)
async def test_a_chunk_without_a_single_image_stores_only_its_index(bench: Bench, output: OutputFormat) -> None:
    result = await (await bench.chunk([missing(), missing()], recipe=recipe(output))).upload()

    assert result.passed == 0
    assert set(bench.memory.objects) == {index_key(0, 0, 0)}


@pytest.mark.parametrize("output", FORMATS)
async def test_a_store_that_goes_away_at_any_moment_is_made_good_by_the_next_attempt(
    bench: Bench, output: OutputFormat
) -> None:
    calls = 0
    limit = 0

    def fail(operation: str, key: str) -> None:
        nonlocal calls
        calls += 1
        if calls > limit:
            raise StoreUnavailable("away")

    bench.store = MemoryStore(before=fail)
    chunk = await bench.chunk(MIXED, recipe=recipe(output))

    while True:
        calls, limit = 0, limit + 1
        try:
            result = await chunk.upload(puts=1)
            break
        except StoreUnavailable:
            chunk = chunk.again()

    limit = 1000
    undisturbed = Bench(bench.area._root / "undisturbed")
    await (await undisturbed.chunk(MIXED, recipe=recipe(output))).upload()
    assert result.passed == 4
    assert {key: held.sha256 for key, held in bench.memory.objects.items()} == {
        key: held.sha256 for key, held in undisturbed.memory.objects.items()
    }


@pytest.mark.parametrize("output", FORMATS)
async def test_a_folder_that_keeps_no_hashes_serves_as_well(bench: Bench, output: OutputFormat, tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    bench.store = LocalStore(folder)
    chunk = await bench.chunk(MIXED, recipe=recipe(output))

    first = await chunk.upload()
    adopted = await chunk.again().upload()
    await bench.store.delete(index_key(0, 0, 0))
    redone = chunk.again()
    with capture_logs() as logs:
        repeated = await redone.upload()
    await bench.store.close()

    assert first == adopted == repeated
    assert redone.recorded == chunk.recorded
    assert logs == []


async def test_the_index_is_stored_after_everything_else(bench: Bench) -> None:
    created: list[str] = []
    bench.store = MemoryStore(before=lambda operation, key: created.append(key) if operation == "create" else None)

    await (await bench.chunk(MIXED, recipe=recipe(OutputFormat.FILES))).upload()

    assert created[-2:] == ["data/r000-000000/metadata.parquet", index_key(0, 0, 0)]


async def test_equal_images_stay_at_the_lowest_row(bench: Bench) -> None:
    await (await bench.chunk([jpeg(11), jpeg(12)], recipe=recipe(OutputFormat.FILES))).upload()
    later = await bench.chunk([jpeg(13), jpeg(12), jpeg(13)], recipe=recipe(OutputFormat.FILES), first_row=2, ordinal=1)

    result = await later.upload()

    assert result.rejected == {"duplicate": 2}
    assert [row["duplicate_of"] for row in await bench.index(1)] == [None, 1, 2]


async def test_duplicates_are_kept_on_request_and_still_settled(bench: Bench) -> None:
    chunk = await bench.chunk([jpeg(11), jpeg(11)], recipe=recipe(OutputFormat.FILES, deduplicate=False))

    result = await chunk.upload()

    assert result.passed == 2
    assert chunk.settled == [{}]


async def test_rewritten_images_come_from_the_derived_pack(bench: Bench) -> None:
    rows = [jpeg(11), png(12, derived=b"rewritten"), jpeg(13)]

    await (await bench.chunk(rows, recipe=recipe(OutputFormat.FILES))).upload()

    bodies = [bench.memory.objects[row["path"]].body for row in await bench.index()]
    assert bodies == [rows[0].body, b"rewritten", rows[2].body]


async def test_images_are_stored_under_their_own_content_type(bench: Bench) -> None:
    await (await bench.chunk(MIXED, recipe=recipe(OutputFormat.FILES))).upload()

    types = {held.content_type for key, held in bench.memory.objects.items() if key.startswith("data/")}

    parquet = "application/vnd.apache.parquet"
    assert types == {"image/jpeg", "image/png", "image/webp", "image/gif", parquet}


async def test_only_numbers_reach_keys_whatever_a_caption_says(bench: Bench) -> None:
    captions = ["../../x", '=HYPERLINK("http://x")', "a\r\nb", "\x1b[31mred", "x" * 5000]
    rows = [jpeg(11 + place, caption=caption) for place, caption in enumerate(captions)]

    await (await bench.chunk(rows, recipe=recipe(OutputFormat.FILES))).upload()

    files = sorted(key for key in bench.memory.objects if key.endswith(".jpg"))
    assert files == [f"data/r000-000000/{row:09d}.jpg" for row in range(5)]
    assert [row["caption"] for row in await bench.index()] == captions


async def test_saved_columns_keep_their_types(bench: Bench) -> None:
    saved = [pa.field("score", pa.float32()), pa.field("tags", pa.list_(pa.string())), pa.field("day", pa.date32())]
    day = datetime(2026, 1, 2, tzinfo=UTC).date()
    rows = [jpeg(11, saved={"score": 0.5, "tags": ["a"], "day": day}), missing(saved={"score": 2.0})]

    await (await bench.chunk(rows, recipe=recipe(OutputFormat.FILES), saved=saved)).upload()

    table = await bench.index_table()
    assert list(table.schema)[:3] == saved
    assert table.select(["score", "tags", "day"]).to_pylist() == [
        {"score": 0.5, "tags": ["a"], "day": day},
        {"score": 2.0, "tags": None, "day": None},
    ]


async def test_progress_grows_to_all_rows(bench: Bench) -> None:
    chunk = await bench.chunk(MIXED, recipe=recipe(OutputFormat.FILES))

    result = await chunk.upload()

    assert [report[0] for report in chunk.reports] == [3, 4, 5, 6, 6]
    assert chunk.reports[-1] == (6, 4, result.size_bytes)


@pytest.mark.parametrize("output", FORMATS)
async def test_the_stored_size_is_what_lies_in_the_destination(bench: Bench, output: OutputFormat) -> None:
    result = await (await bench.chunk(MIXED, recipe=recipe(output))).upload()

    assert result.size_bytes == sum(len(held.body) for held in bench.memory.objects.values())


@pytest.mark.parametrize("output", FORMATS)
async def test_the_draft_is_left_empty(bench: Bench, output: OutputFormat) -> None:
    chunk = await bench.chunk(MIXED, recipe=recipe(output))

    await chunk.upload()

    left = [path for path in bench.area._root.rglob("*") if path.is_file() and f"f{chunk.claim.fence}" in str(path)]
    assert left == []


async def test_a_work_area_that_is_gone_is_said_so(bench: Bench) -> None:
    chunk = await bench.chunk(MIXED, recipe=recipe(OutputFormat.FILES))
    await bench.area.remove(chunk.claim.job_id, chunk.claim.ordinal)

    with pytest.raises(WorkAreaGone):
        await chunk.upload()


async def test_an_image_outside_its_pack_is_an_error_of_the_chunk(bench: Bench) -> None:
    chunk = await bench.chunk([Row(body=b"")], recipe=recipe(OutputFormat.FILES))

    with pytest.raises(ChunkError):
        await chunk.upload()


@pytest.mark.parametrize("output", FORMATS)
async def test_what_was_taken_down_is_stored_nowhere_and_its_twin_neither(bench: Bench, output: OutputFormat) -> None:
    taken = jpeg(11, caption="a cat")
    rows = [taken, png(12), taken]
    digest = hashlib.sha256(taken.body).hexdigest()
    chunk = await bench.chunk(rows, recipe=recipe(output))

    result = await chunk.upload(blocked=Blocklist([(Kind.SHA256, digest)]))

    assert (result.passed, result.rejected) == (1, {"taken_down": 2})
    assert [row["reason"] for row in await bench.index()] == ["taken_down", None, "taken_down"]
    assert digest not in bench.fingerprints
    data = [held.body for key, held in bench.memory.objects.items() if key.startswith("data/")]
    assert not any(taken.body in body for body in data)


@pytest.mark.parametrize(("kind", "value"), [(Kind.URL, "https://ORIGIN.test/0"), (Kind.HOST, "test")])
async def test_an_address_taken_down_after_the_fetch_is_not_stored(bench: Bench, kind: Kind, value: str) -> None:
    chunk = await bench.chunk([jpeg(11)], recipe=recipe(OutputFormat.FILES))

    result = await chunk.upload(blocked=Blocklist([(kind, normalised(kind, value))]))

    assert (result.passed, result.rejected) == (0, {"taken_down": 1})


async def test_the_service_opens_its_verb_from_its_settings(bench: Bench) -> None:
    chunk = await bench.chunk(MIXED, recipe=recipe(OutputFormat.PARQUET))

    async def read(_known: Version | None) -> tuple[Version, Blocklist]:
        return (1,), Blocklist([(Kind.SHA256, hashlib.sha256(MIXED[0].body).hexdigest())])

    async with open_uploader(UploaderSettings(puts=2), LiveBlocklist(read)) as verb:
        result = await verb(chunk)

    assert (result.passed, result.rejected[Reason.TAKEN_DOWN]) == (3, 1)


async def test_a_redriven_chunk_leaves_one_index_and_adopts_what_lies_there(bench: Bench) -> None:
    rows = [jpeg(11), missing(), jpeg(12)]
    await (await bench.chunk(rows, recipe=Recipe())).upload()
    await bench.store.replace(SUCCESS_KEY, b"0", content_type="text/plain", sha256="")
    data = {key: held for key, held in bench.memory.objects.items() if key.startswith("data/")}
    again = (await bench.chunk(rows, recipe=Recipe())).in_round(2)

    result = await again.upload()

    assert set(bench.memory.objects) == {*data, index_key(0, 0, 2)}, "and the dataset is not whole until it says so"
    assert {key: bench.memory.objects[key] for key in data} == data
    assert (result.passed, result.rejected) == counts_of(await bench.index_table(round=2))


async def test_a_redriven_chunk_cut_off_between_its_two_indexes_keeps_the_newer_one(bench: Bench) -> None:
    first = await bench.chunk([jpeg(11)], recipe=Recipe())
    await first.upload()
    again = (await bench.chunk([jpeg(11)], recipe=Recipe())).in_round(1)
    await again.upload()
    newer = bench.memory.objects[index_key(0, 0, 1)]
    bench.memory.objects[index_key(0, 0, 0)] = newer

    await again.again().upload()

    assert bench.memory.objects[index_key(0, 0, 1)] is newer
    assert index_key(0, 0, 0) not in bench.memory.objects


async def test_a_shard_that_a_purge_wrote_anew_goes_with_the_round_that_named_it(bench: Bench) -> None:
    shards = Recipe(output_format=OutputFormat.WEBDATASET)
    first = await bench.chunk([jpeg(11), jpeg(12)], recipe=shards)
    await first.upload()
    index, purged = await bench.index_table(), "data/r000-000000-0123456789abcdef.tar"
    held = bench.memory.objects.pop("data/r000-000000.tar")
    bench.memory.objects[purged] = held
    paths = pa.array([purged] * len(index), pa.string())
    body = to_parquet(index.set_column(index.column_names.index("path"), "path", paths))
    await bench.store.replace("index/r000-000000.parquet", body, content_type="x/y", sha256="0" * 64)

    await (await bench.chunk([jpeg(11), jpeg(12)], recipe=shards)).in_round(1).upload()

    assert sorted(bench.memory.objects) == ["data/r000-000000.tar", "index/r000-000000-1.parquet"]
