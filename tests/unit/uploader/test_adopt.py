"""What a rerun finds at its keys stays there, and the index says what really lies in the destination."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.chunk import NewObject
from shared.errors import ChunkError
from shared.index import counts_of, index_key
from shared.recipe import ImageFormat, OutputFormat, Recipe
from shared.storage.memory import Held, MemoryStore
from tests.upload_bench import Bench, Row, jpeg, missing, png, webp
from uploader.adopt import fetch, find

FORMATS = list(OutputFormat)
#: The first attempt, and what the origin says at the second: row 1 is gone, row 2 has come, row 3 is another image.
FIRST = [jpeg(11), jpeg(12), missing(), jpeg(13)]
SECOND = [jpeg(11), missing(), jpeg(22), jpeg(23)]


def recipe(output: OutputFormat, image: ImageFormat = ImageFormat.JPEG, **more: bool) -> Recipe:
    return Recipe(output_format=output, image_format=image, **more)


async def crashed(bench: Bench, rows: Sequence[Row], how: Recipe, *, without: str = "index/") -> None:
    """A first attempt that died before it stored its last objects."""
    await (await bench.chunk(rows, recipe=how)).upload()
    for key in [key for key in bench.memory.objects if without in key or key.startswith("index/")]:
        del bench.memory.objects[key]
    bench.objects.clear()


@pytest.mark.parametrize("output", FORMATS)
async def test_the_same_bytes_are_as_good_as_stored(bench: Bench, output: OutputFormat) -> None:
    await crashed(bench, FIRST, recipe(output))
    before = dict(bench.memory.objects)
    chunk = await bench.chunk(FIRST, recipe=recipe(output))

    with capture_logs() as logs:
        result = await chunk.upload()

    assert result.passed == 3
    assert {key: bench.memory.objects[key] for key in before} == before
    assert logs == []
    assert all((row["http_status"] or 404) in (200, 404) for row in await bench.index())


@pytest.mark.parametrize("output", FORMATS)
async def test_other_bytes_stay_and_the_index_says_what_they_hold(bench: Bench, output: OutputFormat) -> None:
    await crashed(bench, FIRST, recipe(output))
    before = dict(bench.memory.objects)

    with capture_logs() as logs:
        result = await (await bench.chunk(SECOND, recipe=recipe(output))).upload()

    index = await bench.index()
    assert {key: bench.memory.objects[key] for key in before} == before
    assert [row["reason"] for row in index] == [None, None, "superseded", None]
    assert [row["stored_sha256"] for row in index] == [_sha(FIRST[0]), _sha(FIRST[1]), None, _sha(FIRST[3])]
    assert [row["sha256"] for row in index] == [_sha(FIRST[0]), _sha(FIRST[1]), _sha(SECOND[2]), _sha(FIRST[3])]
    assert [row["path"] is not None for row in index] == [True, True, False, True]
    assert (result.passed, result.rejected) == (3, {"superseded": 1}) == counts_of(await bench.index_table())
    (conflict,) = logs
    assert (conflict["event"], conflict["adopted"], conflict["superseded"]) == ("object_conflict", 2, 1)


@pytest.mark.parametrize("output", FORMATS)
async def test_what_a_fetch_said_is_not_told_of_another_fetchs_image(bench: Bench, output: OutputFormat) -> None:
    await crashed(bench, FIRST, recipe(output))

    await (await bench.chunk(SECOND, recipe=recipe(output))).upload()

    assert [row["http_status"] for row in await bench.index()] == [200, None, 200, None]


@pytest.mark.parametrize("output", FORMATS)
async def test_the_digests_of_what_is_stored_are_claimed_after_a_conflict(bench: Bench, output: OutputFormat) -> None:
    await crashed(bench, FIRST, recipe(output))

    await (await bench.chunk(SECOND, recipe=recipe(output))).upload()

    assert bench.fingerprints == {_sha(FIRST[0]): 0, _sha(FIRST[1]): 1, _sha(FIRST[3]): 3}


@pytest.mark.parametrize("output", FORMATS)
async def test_objects_are_recorded_with_the_hash_that_lies_there(bench: Bench, output: OutputFormat) -> None:
    await crashed(bench, FIRST, recipe(output))

    await (await bench.chunk(SECOND, recipe=recipe(output))).upload()

    assert all(
        bench.memory.objects[key].sha256 == item.sha256
        and hashlib.sha256(bench.memory.objects[key].body).hexdigest() == item.sha256
        for key, item in bench.objects.items()
    )


async def test_loose_files_without_metadata_are_kept_and_named_by_it(bench: Bench) -> None:
    how = recipe(OutputFormat.FILES, ImageFormat.ORIGINAL)
    await crashed(bench, FIRST, how, without="metadata")

    await (await bench.chunk([*SECOND[:2], jpeg(22), png(33)], recipe=how)).upload()

    index = await bench.index()
    assert [row["reason"] for row in index] == [None, None, None, None]
    assert [row["path"] and row["path"][-3:] for row in index] == ["jpg", "jpg", "jpg", "jpg"]
    assert index[3]["stored_sha256"] == _sha(FIRST[3])
    assert {key.rpartition("/")[2] for key in bench.memory.objects if key.startswith("data/")} == {
        *(f"{row:09d}.jpg" for row in range(4)),
        "metadata.parquet",
    }


async def test_a_kept_format_moves_no_row_into_a_second_shard(bench: Bench) -> None:
    how = recipe(OutputFormat.WEBDATASET, ImageFormat.ORIGINAL)
    await crashed(bench, [jpeg(11), png(12), webp(13)], how)
    del bench.memory.objects["data/webp/r000-000000.tar"]

    await (await bench.chunk([png(21), png(12), webp(13)], recipe=how)).upload()

    index = await bench.index()
    assert [row["path"].split("/")[1] for row in index] == ["jpg", "png", "webp"]
    assert [row["stored_sha256"] for row in index] == [_sha(jpeg(11)), _sha(png(12)), _sha(webp(13))]


async def test_a_row_that_changed_its_format_stays_in_the_shard_that_holds_it(bench: Bench) -> None:
    how = recipe(OutputFormat.WEBDATASET, ImageFormat.ORIGINAL)
    await crashed(bench, [png(12), webp(13)], how)

    await (await bench.chunk([jpeg(11), webp(13)], recipe=how)).upload()

    shards = {key for key in bench.memory.objects if key.endswith(".tar")}
    assert shards == {"data/png/r000-000000.tar", "data/webp/r000-000000.tar"}
    assert [row["stored_sha256"] for row in await bench.index()] == [_sha(png(12)), _sha(webp(13))]


async def test_a_duplicate_of_a_superseded_row_says_that_its_winner_is_lost(bench: Bench) -> None:
    how = recipe(OutputFormat.PARQUET)
    await crashed(bench, [jpeg(11), missing(), missing()], how)

    await (await bench.chunk([jpeg(11), jpeg(22), jpeg(22)], recipe=how)).upload()

    assert [row["reason"] for row in await bench.index()] == [None, "superseded", "duplicate_of_lost"]


@pytest.mark.parametrize("output", FORMATS)
async def test_a_worker_that_lost_its_claim_and_was_faster_has_decided(bench: Bench, output: OutputFormat) -> None:
    """The other worker stores its whole chunk at the moment this one is about to create its first object."""
    other = Bench(bench.area._root / "other")
    await (await other.chunk(FIRST, recipe=recipe(output))).upload()

    def overtaken(operation: str, key: str) -> None:
        if operation == "create":
            for stored, held in other.memory.objects.items():
                bench.memory.objects.setdefault(stored, held)

    bench.store = MemoryStore(before=overtaken)

    result = await (await bench.chunk(SECOND, recipe=recipe(output))).upload()

    assert (result.passed, result.rejected) == (3, {"http_not_found": 1})
    assert await bench.index() == await other.index()
    loose_of_ours = {"data/r000-000000/000000002.jpg"} if output is OutputFormat.FILES else set()
    assert set(bench.memory.objects) - set(other.memory.objects) <= loose_of_ours


@pytest.mark.parametrize(
    ("output", "key"),
    [
        (OutputFormat.WEBDATASET, "data/r000-000000.tar"),
        (OutputFormat.PARQUET, "data/r000-000000.parquet"),
        (OutputFormat.FILES, "data/r000-000000/metadata.parquet"),
        (OutputFormat.FILES, index_key(0, 0, 0)),
    ],
)
async def test_somebody_elses_object_is_an_error_and_stays(bench: Bench, output: OutputFormat, key: str) -> None:
    foreign = Held(body=b"not ours", content_type="text/plain", sha256=hashlib.sha256(b"not ours").hexdigest())
    bench.memory.objects[key] = foreign

    with pytest.raises(ChunkError):
        await (await bench.chunk(FIRST, recipe=recipe(output))).upload()

    assert bench.memory.objects[key] is foreign


@pytest.mark.parametrize("output", FORMATS)
async def test_another_datasets_rows_are_refused(bench: Bench, output: OutputFormat) -> None:
    how = recipe(output)
    await (await bench.chunk(FIRST, recipe=how, first_row=1000)).upload()

    with pytest.raises(ChunkError):
        await (await bench.chunk(FIRST, recipe=how)).upload()
    del bench.memory.objects[index_key(0, 0, 0)]
    if output is not OutputFormat.FILES:
        with pytest.raises(ChunkError):
            await (await bench.chunk(SECOND, recipe=how)).upload()


async def test_a_hash_that_nobody_recorded_is_computed(tmp_path: Path) -> None:
    body = bytes(range(256)) * 70_000
    store = _Forgetful()
    await store.create("a", body, content_type="x/y", sha256="")

    found = await find(store, "a")
    assert found is not None
    await fetch(store, found, tmp_path / "copy")

    assert found == NewObject(key="a", size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
    assert (tmp_path / "copy").read_bytes() == body


class _Forgetful(MemoryStore):
    """A store whose objects were copied there by something that records no hashes."""

    async def _hold(self, body: bytes | memoryview | Path, content_type: str, sha256: str) -> Held:
        held = await super()._hold(body, content_type, sha256)
        return Held(body=held.body, content_type=content_type, sha256="")


def _sha(row: Row) -> str:
    return hashlib.sha256(row.body).hexdigest()
