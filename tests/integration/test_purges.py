"""Purges over real stores: what was taken down goes, everything else stays, and the counts still add up."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from scheduler.leadership import Leadership
from scheduler.purger import Purger
from shared.blocklist import Kind, normalised
from shared.chunk import StageResult
from shared.db import blocked, chunks, failed, purges
from shared.db.purges import Progress, Removal
from shared.db.session import transaction
from shared.index import from_parquet
from shared.papers import MANIFEST_KEY, SUCCESS_KEY
from shared.pipeline import JobState
from shared.recipe import ImageFormat, OutputFormat, Recipe
from shared.resources import Resources, Stores, open_resources
from shared.settings import StorageSettings
from shared.storage.base import ObjectStore
from shared.storage.destination import Destination
from shared.storage.local import LocalStore
from tests.contract.stores import S3_KEY_ID, S3_SECRET
from tests.core import Board, board_at, scheduler_settings
from tests.system import System, until
from tests.upload_bench import Bench, Row, jpeg, missing, png

ROWS = [
    jpeg(20, caption="Jane", small=jpeg(3).body),
    missing(caption="Jane too"),
    jpeg(24, small=jpeg(4).body),
    png(28),
    jpeg(32, small=jpeg(5).body),
]
INDEX = "index/r000-000000.parquet"
ORIGINAL = Recipe(output_format=OutputFormat.WEBDATASET, image_format=ImageFormat.ORIGINAL)
SMALL_TOO = Recipe(thumbnails=64)
RECIPES = [SMALL_TOO, ORIGINAL, Recipe(output_format=OutputFormat.PARQUET, thumbnails=64)]


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def resources(
    database_url: str, redis_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Resources]:
    more = {"s3_access_key_id": S3_KEY_ID, "s3_secret_access_key": S3_SECRET}
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path, **more)) as opened:
        yield opened


@dataclass(frozen=True)
class Stored:
    """A finished dataset of one chunk."""

    board: Board
    store: ObjectStore
    job: UUID
    chunk: int

    async def bodies(self) -> dict[str, bytes]:
        return {stored.key: await self.store.get(stored.key) async for stored in self.store.list("")}

    async def index(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = from_parquet(await self.store.get(INDEX)).to_pylist()
        return rows

    async def counts(self) -> Any:
        return await self.board.one("SELECT counts FROM jobs WHERE id = :job", job=self.job)

    async def is_consistent(self) -> None:
        """Rows, objects and papers say the same as the destination holds."""
        bodies, index = await self.bodies(), await self.index()
        counts = await self.counts()
        rejected = [row["reason"] for row in index if row["reason"]]
        assert counts == {
            "accepted": len(index) - len(rejected),
            "rejected": {reason: rejected.count(reason) for reason in sorted(set(rejected))},
        }
        chunk = await self.board.chunk(self.chunk)
        assert chunk.counts == counts
        recorded = await self.board.run("SELECT key, size_bytes FROM objects ORDER BY key")
        assert {row.key: row.size_bytes for row in recorded} == {
            key: len(body)
            for key, body in bodies.items()
            if key.startswith("index/") or key.endswith((".tar", ".parquet"))
        }
        in_data = sum(len(body) for key, body in bodies.items() if key.startswith(("data/", "index/", "thumbnails/")))
        assert chunk.stored_bytes == in_data
        assert await self.board.one("SELECT stored_bytes FROM jobs WHERE id = :job", job=self.job) == in_data
        manifest = json.loads(bodies[MANIFEST_KEY])
        assert manifest["totals"]["accepted"] == counts["accepted"]
        assert {item["key"]: item["bytes"] for item in manifest["objects"]} == {
            row.key: row.size_bytes for row in recorded
        }


async def stored(
    board: Board,
    resources: Resources,
    folder: Path,
    *,
    recipe: Recipe,
    rows: Sequence[Row] = ROWS,
    destination: str | None = None,
    endpoint: str = "",
) -> Stored:
    """A dataset as the services leave it, its plan removed since."""
    bench = Bench(folder / "bench")
    twin = await bench.chunk(rows, recipe=recipe)
    result = await twin.upload()
    place = destination or str(folder / "dataset")
    async with resources.stores.at(place, endpoint or None) as store:
        for key, held in bench.memory.objects.items():
            await store.create(key, held.body, content_type="x/y", sha256=held.sha256 or "")
        await store.create(SUCCESS_KEY, b"0\n", content_type="text/plain", sha256="")
    job = await board.job(rows=len(rows), destination=place, recipe=recipe.model_dump_json())
    await board.run("UPDATE datasets SET endpoint = :endpoint", endpoint=endpoint)
    (chunk,) = await board.chunks_of(job)
    await _ends(board, chunk, bench, result)
    await board.set_job(job, JobState.COMPLETED)
    return Stored(board, store, job, chunk)


async def _ends(board: Board, chunk: int, bench: Bench, result: StageResult) -> None:
    ended = await board.to_cleaning(chunk, **result.rejected)
    await board.run("UPDATE chunks SET stored_bytes = :bytes", bytes=result.size_bytes)
    async with transaction(board.engine) as connection:
        await chunks.record_objects(connection, ended.claim, list(bench.objects.values()))
    for digest, row in bench.fingerprints.items():
        await board.run(
            "INSERT INTO fingerprints SELECT id, :digest, :row FROM datasets", digest=bytes.fromhex(digest), row=row
        )
    assert await board.close(ended)


async def ordered(board: Board, kind: Kind, value: str) -> int:
    async with transaction(board.engine) as connection:
        takedown, _ = await blocked.add(connection, kind=kind, value=normalised(kind, value), note="")
        await purges.order(connection, takedown.id, asked_by="a-key")
    return takedown.id


async def progress_of(board: Board, takedown: int) -> Progress:
    async with transaction(board.engine) as connection:
        return (await purges.progress(connection, [takedown]))[takedown]


async def carried_out(resources: Resources) -> None:
    """Everything that is open is carried out, as the leading scheduler does."""
    leadership = Leadership(resources.engine)
    term = await leadership.term()
    assert term is not None
    purger = Purger(resources)
    while await purger.purge(term):
        pass
    await leadership.resign()


def image_of(body: bytes, bodies: dict[str, bytes]) -> list[str]:
    """The objects that hold an image; none of ours compresses one."""
    return sorted(key for key, held in bodies.items() if body in held)


@pytest.mark.parametrize("place", ["folder", "s3"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.output_format.value)
async def test_what_a_purge_names_goes_and_the_rest_stays(
    board: Board, resources: Resources, tmp_path: Path, recipe: Recipe, place: str, request: pytest.FixtureRequest
) -> None:
    target = {}
    if place == "s3":
        bucket = request.getfixturevalue("s3_bucket")
        target = {"destination": f"s3://{bucket}/cats", "endpoint": request.getfixturevalue("s3_server")}
    dataset = await stored(board, resources, tmp_path, recipe=recipe, **target)
    takedown = await ordered(board, Kind.URL, "http://origin.test/0")
    assert await progress_of(board, takedown) == Progress(chunks_left=1, images_removed=0)

    await carried_out(resources)

    bodies, index = await dataset.bodies(), await dataset.index()
    assert image_of(ROWS[0].body, bodies) == image_of(ROWS[0].small or b"", bodies) == []
    assert not any(b"Jane\n" in body or b"origin.test/0" in body for body in bodies.values())
    assert [row["reason"] for row in index] == ["taken_down", "http_not_found", None, None, None]
    assert [row["url"] for row in index] == [None, *(f"http://origin.test/{row}" for row in range(1, 5))]
    for row in index[2:]:
        assert image_of(ROWS[row["row"]].body, bodies) == [row["path"]], "the others lie where the index says"
        if recipe.thumbnails and (small := ROWS[row["row"]].small):
            assert image_of(small, bodies) == [row["thumbnail_path"]]
    await dataset.is_consistent()
    assert await progress_of(board, takedown) == Progress(chunks_left=0, images_removed=1)
    assert await board.one("SELECT purged_at IS NOT NULL FROM blocked")
    assert [tuple(row) for row in await board.run("SELECT row, takedown_id, kind, ordered_by FROM removals")] == [
        (0, takedown, "url", "a-key")
    ]
    assert [row.row for row in await board.run("SELECT row FROM fingerprints ORDER BY row")] == [2, 3, 4]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.output_format.value)
async def test_a_second_purge_may_take_all_that_is_left(
    board: Board, resources: Resources, tmp_path: Path, recipe: Recipe
) -> None:
    dataset = await stored(board, resources, tmp_path, recipe=recipe)
    await ordered(board, Kind.URL, "http://origin.test/2")
    await carried_out(resources)

    host = await ordered(board, Kind.HOST, "origin.test")
    await carried_out(resources)

    assert [row["reason"] for row in await dataset.index()] == ["taken_down"] * len(ROWS)
    assert [key for key in await dataset.bodies() if key.startswith(("data/", "thumbnails/"))] == []
    await dataset.is_consistent()
    assert (await progress_of(board, host)).images_removed == 3


async def test_a_takedown_without_a_purge_leaves_what_is_stored(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    dataset = await stored(board, resources, tmp_path, recipe=Recipe())
    before = await dataset.bodies()
    async with transaction(board.engine) as connection:
        await blocked.add(connection, kind=Kind.HOST, value="origin.test", note="")

    await carried_out(resources)

    assert await dataset.bodies() == before


async def test_a_purge_ordered_late_reaches_what_an_earlier_one_went_past(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    dataset = await stored(board, resources, tmp_path, recipe=Recipe())
    async with transaction(board.engine) as connection:
        old, _ = await blocked.add(connection, kind=Kind.URL, value="http://origin.test/0", note="")
    await ordered(board, Kind.URL, "http://origin.test/2")
    await carried_out(resources)

    assert await ordered(board, Kind.URL, "http://origin.test/0") == old.id
    await carried_out(resources)

    reasons = [row["reason"] for row in await dataset.index()]
    assert reasons == ["taken_down", "http_not_found", "taken_down", None, None]


async def test_leftovers_of_an_upload_that_failed_go_too(board: Board, resources: Resources, tmp_path: Path) -> None:
    dataset = await stored(board, resources, tmp_path, recipe=Recipe())
    orphan = "data/r000-000000/000000001.jpg"  # the index says of this row that there was nothing
    await dataset.store.create(orphan, b"somebody's picture", content_type="image/jpeg", sha256="")
    await ordered(board, Kind.URL, "http://origin.test/1")

    await carried_out(resources)

    assert orphan not in await dataset.bodies()


async def test_a_chunk_in_flight_keeps_the_purge_open_and_is_purged_when_it_ends(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    dataset = await stored(board, resources, tmp_path, recipe=Recipe())
    final = (await board.chunk(dataset.chunk)).state
    await board.run("UPDATE chunks SET state = 'uploading'")
    takedown = await ordered(board, Kind.URL, "http://origin.test/0")
    await carried_out(resources)
    assert await progress_of(board, takedown) == Progress(chunks_left=1, images_removed=0)
    assert not await board.one("SELECT purged_at IS NOT NULL FROM blocked")

    await board.run("UPDATE chunks SET state = :state", state=final)
    await carried_out(resources)

    assert image_of(ROWS[0].body, await dataset.bodies()) == []
    assert await progress_of(board, takedown) == Progress(chunks_left=0, images_removed=1)


async def test_a_destination_that_refuses_keeps_no_other_waiting(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    (chunk,) = await board.chunks_of(await board.job(destination=str(tmp_path / "file/out")))
    await board.close(await board.to_cleaning(chunk))
    dataset = await stored(board, resources, tmp_path, recipe=Recipe())
    takedown = await ordered(board, Kind.URL, "http://origin.test/0")

    await carried_out(resources)

    assert image_of(ROWS[0].body, await dataset.bodies()) == []
    assert await progress_of(board, takedown) == Progress(chunks_left=1, images_removed=1)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("recipe", [SMALL_TOO, ORIGINAL], ids=lambda recipe: recipe.output_format.value)
async def test_a_purge_interrupted_between_any_two_steps_ends_as_if_it_had_not_been(
    board: Board, resources: Resources, tmp_path: Path, database_url: str, redis_url: str, recipe: Recipe
) -> None:
    dataset = await stored(board, resources, tmp_path, recipe=recipe)
    takedown = await ordered(board, Kind.URL, "http://origin.test/0")
    system = System(database_url, redis_url, tmp_path, extra={"PIXCRAWLER_LEADER_LEASE_SECONDS": "2"})
    armed = {"PIXCRAWLER_FAILPOINTS_DIR": str(tmp_path)}

    for point in ("purge.noted", "purge.cut", "purge.indexed", "purge.dropped"):
        killed = system.start("scheduler", plain={**armed, "PIXCRAWLER_FAILPOINTS": f"{point}:die"})
        try:
            killed.process.wait(60)
        finally:
            killed.process.kill()
        assert (tmp_path / point).exists(), killed.said()
        assert (await progress_of(board, takedown)).images_removed == 0
    with system.running("scheduler"):
        await until("the purge has ended", lambda: board.one("SELECT purged_at IS NOT NULL FROM blocked"))

    assert image_of(ROWS[0].body, await dataset.bodies()) == []
    await dataset.is_consistent()
    assert await progress_of(board, takedown) == Progress(chunks_left=0, images_removed=1)
    assert await board.one("SELECT count(*) FROM removals") == 1


class SlowAtTheIndex(LocalStore):
    """A folder whose client stands still just before it exchanges an index."""

    meanwhile: Callable[[], Awaitable[None]]

    async def exchange(self, key: str, body: bytes, *, version: str, content_type: str, sha256: str) -> bool:
        if key == INDEX:
            await self.meanwhile()
        return await super().exchange(key, body, version=version, content_type=content_type, sha256=sha256)


@pytest.mark.parametrize("recipe", [Recipe(), ORIGINAL], ids=lambda recipe: recipe.output_format.value)
async def test_a_leader_that_stood_still_in_a_purge_undoes_nothing_of_its_successors(
    board: Board, resources: Resources, tmp_path: Path, recipe: Recipe
) -> None:
    dataset = await stored(board, resources, tmp_path, recipe=recipe)
    await ordered(board, Kind.URL, "http://origin.test/0")
    leadership = Leadership(resources.engine)
    term = await leadership.term()
    assert term is not None

    async def another_leads() -> None:
        await board.run("UPDATE leader SET expires_at = clock_timestamp() - interval '1 s'")
        await ordered(board, Kind.URL, "http://origin.test/2")
        await carried_out(resources)

    async def slow(destination: Destination, settings: StorageSettings) -> ObjectStore:
        store = await SlowAtTheIndex.open(destination)
        store.meanwhile = another_leads
        return store

    stores = Stores(resources.settings, opener=slow)
    try:
        await Purger(copy_with(resources, stores)).purge(term)
    finally:
        await stores.close()

    reasons = [row["reason"] for row in await dataset.index()]
    assert reasons == ["taken_down", "http_not_found", "taken_down", None, None]
    bodies = await dataset.bodies()
    assert image_of(ROWS[2].body, bodies) == []
    for row in (3, 4):
        assert len(image_of(ROWS[row].body, bodies)) == 1
    await dataset.is_consistent()


def copy_with(resources: Resources, stores: Stores) -> Resources:
    """The same, with other ways to destinations."""
    return Resources(resources.settings, resources.engine, resources.redis, resources.spool, resources.area, stores)


async def test_a_chunk_is_not_redriven_while_it_is_purged(board: Board, resources: Resources, tmp_path: Path) -> None:
    dataset = await stored(board, resources, tmp_path, recipe=Recipe())
    await board.run("UPDATE chunks SET state = 'failed', redrive_asked_at = clock_timestamp()")
    await ordered(board, Kind.URL, "http://origin.test/0")
    async with transaction(board.engine) as connection:
        (purge,) = await purges.open_purges(connection)
        (chunk,) = await purges.unpurged(connection, purge, after=0, without=[], limit=9)
        begun = await purges.note_removals(connection, chunk, [Removal(row=0, purge=purge, was_stored=True)])
    assert begun

    async with transaction(board.engine) as connection:
        granted = await failed.grant_redrives(connection)
    await carried_out(resources)
    async with transaction(board.engine) as connection:
        granted_after = await failed.grant_redrives(connection)
        late = await purges.note_removals(connection, chunk, [Removal(row=0, purge=purge, was_stored=True)])

    assert (granted, granted_after, late) == (0, 1, False)
    assert await board.state(dataset.chunk) == "pending"
