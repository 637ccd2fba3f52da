"""Stray objects: noted when they are seen, removed when they stay and the operator wishes it, and nothing else goes."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scheduler.leadership import Leadership
from scheduler.settings import SchedulerSettings
from scheduler.strays import Strays
from shared.chunk import Claim
from shared.db import calendar
from shared.db.calendar import Run
from shared.db.leader import NotLeader, Term
from shared.db.session import transaction
from shared.index import index_key, index_of_open_rows, to_parquet
from shared.pipeline import UPLOAD
from shared.reasons import Reason
from shared.records import SOURCE
from shared.resources import Resources, open_resources
from tests.contract.stores import S3_KEY_ID, S3_SECRET
from tests.core import Board, board_at, scheduler_settings

ROWS = 4
NAMED = {"data/r000-000000/000000000.jpg", "data/r000-000000/metadata.parquet", index_key(0, 0, 0)}
STRAYS = {
    "data/r000-000000/000000001.jpg",
    "data/r000-000000/000000002.png",
    "thumbnails/r000-000000.parquet",
}
#: A later chunk's, one whose name begins alike, the papers, and somebody's own.
OTHERS = {"data/r000-000001/000000004.jpg", "data/r000-0000001.tar", "dataset.json", "notes/r000-000000/mine.txt"}
STAYED = "UPDATE strays SET seen_at = now() - interval '8 days'"

#: What happens, and what ends it.
SOMEBODY_MAY_WRITE = (
    # A worker has the chunk in hand, or may be given it again, or is only frozen.
    ("UPDATE chunks SET state = 'uploading'", "UPDATE chunks SET state = 'completed'"),
    ("UPDATE chunks SET state = 'failed'", "UPDATE chunks SET state = 'completed'"),
    ("UPDATE chunks SET ended_at = now()", "UPDATE chunks SET ended_at = now() - interval '2 days'"),
    # A purge writes its shards anew, or is about to.
    ("UPDATE chunks SET purged_to = -1", "UPDATE chunks SET purged_to = 0"),
    (
        "INSERT INTO blocked (kind, value, purge_no, purge_asked_at) VALUES ('host', 'a.example', 1, now())",
        "UPDATE blocked SET purged_at = now()",
    ),
    # All of it goes anyway.
    ("UPDATE datasets SET delete_asked_at = now()", "UPDATE datasets SET delete_asked_at = NULL"),
)


class Scene:
    """A complete chunk in a store, with what its index names and what it does not."""

    def __init__(self, board: Board, resources: Resources, term: Term, claim: Claim) -> None:
        self.board = board
        self.resources = resources
        self.term = term
        self.claim = claim

    async def put(self, key: str, body: bytes = b"x") -> None:
        async with self.resources.stores.at(self.claim.destination, None) as store:
            digest = hashlib.sha256(body).hexdigest()
            await store.create(key, body, content_type="application/octet-stream", sha256=digest)

    async def keys(self) -> set[str]:
        async with self.resources.stores.at(self.claim.destination, None) as store:
            return {stored.key async for stored in store.list("")}

    async def noted(self) -> set[str]:
        return {row.key for row in await self.board.run("SELECT key FROM strays")}

    async def sweep(self, *, removes: bool = True, after: int = 0) -> int:
        """One run; from which chunk the next one goes on."""
        settings = self.resources.settings.model_copy(update={"remove_strays": removes})
        assert isinstance(settings, SchedulerSettings), "as `scene` opened them"
        async with transaction(self.board.engine) as connection:
            await calendar.provide(connection, {"sweep_strays": {"every_seconds": 3600}})
            now, _ = await calendar.entries(connection)
        run = Run(entry="sweep_strays", due_at=now, arguments={"after": after})
        await Strays(settings, self.resources).sweep(self.term, run)
        return int(await self.board.one("SELECT arguments ->> 'after' FROM calendar WHERE name = 'sweep_strays'"))

    async def sweep_twice(self) -> None:
        """Days lie between."""
        await self.sweep()
        await self.board.run(STAYED)
        await self.sweep()


@pytest.fixture(params=["folder", "s3"])
async def scene(
    request: pytest.FixtureRequest, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    place, more = str(tmp_path / "out"), dict[str, Any]()
    if request.param == "s3":
        place = f"s3://{request.getfixturevalue('s3_bucket')}/lake"
        server = request.getfixturevalue("s3_server")
        more = {"s3_endpoint": server, "s3_access_key_id": S3_KEY_ID, "s3_secret_access_key": S3_SECRET}
    settings = scheduler_settings(database_url, redis_url, tmp_path, **more)
    async with board_at(database_url) as board, open_resources(settings) as resources:
        claim = await complete_chunk(board, place)
        term = await Leadership(resources.engine).term()
        assert term is not None
        made = Scene(board, resources, term, claim)
        for key in (NAMED | STRAYS | OTHERS) - {index_key(0, 0, 0)}:
            await made.put(key)
        await made.put(index_key(0, 0, 0), index_naming("data/r000-000000/000000000.jpg"))
        yield made


async def complete_chunk(board: Board, place: str) -> Claim:
    (chunk,) = await board.chunks_of(await board.job(rows=ROWS, destination=place, recipe='{"thumbnails": 64}'))
    claim = await board.claimed(UPLOAD, chunk)
    await board.advance(UPLOAD, claim)
    await board.run("UPDATE chunks SET state = 'completed', ended_at = now() - interval '2 days'")
    return claim


def index_naming(path: str) -> bytes:
    """The index of a chunk whose first row lies at that path, and whose others were rejected."""
    rows = [{"row": number, "url": f"https://a.example/{number}", "caption": None} for number in range(ROWS)]
    index = index_of_open_rows(pa.Table.from_pylist(rows, schema=SOURCE), Reason.CHUNK_FAILED, revision=0)
    place = index.column_names.index("path")
    return to_parquet(index.set_column(place, "path", pa.array([path, *[None] * (ROWS - 1)], pa.string())))


async def test_what_no_index_names_is_noted_first_and_goes_when_it_stays(scene: Scene) -> None:
    await scene.sweep()
    assert await scene.noted() == STRAYS
    assert await scene.keys() == NAMED | STRAYS | OTHERS

    await scene.board.run(STAYED)
    await scene.sweep()

    assert await scene.keys() == NAMED | OTHERS
    assert await scene.noted() == set()


@pytest.mark.parametrize("scene", ["folder"], indirect=True)
async def test_unless_the_operator_wishes_it_nothing_goes(scene: Scene) -> None:
    await scene.sweep(removes=False)
    await scene.board.run(STAYED)
    await scene.sweep(removes=False)

    assert await scene.noted() == STRAYS
    assert await scene.keys() == NAMED | STRAYS | OTHERS


@pytest.mark.parametrize("scene", ["folder"], indirect=True)
async def test_while_somebody_may_write_nothing_goes(scene: Scene) -> None:
    await scene.sweep()
    await scene.board.run(STAYED)

    for meanwhile, afterwards in SOMEBODY_MAY_WRITE:
        await scene.board.run(meanwhile)
        await scene.sweep()
        assert await scene.keys() == NAMED | STRAYS | OTHERS, meanwhile
        await scene.board.run(afterwards)

    await scene.sweep()
    assert await scene.keys() == NAMED | OTHERS


@pytest.mark.parametrize("scene", ["folder"], indirect=True)
async def test_what_is_named_in_the_meantime_is_no_stray_any_more(scene: Scene) -> None:
    await scene.sweep()
    await scene.board.run(STAYED)
    named = sorted(STRAYS)[0]
    async with scene.resources.stores.at(scene.claim.destination, None) as store:
        body = index_naming(named)
        await store.replace(index_key(0, 0, 0), body, content_type="x/y", sha256=hashlib.sha256(body).hexdigest())

    await scene.sweep()

    assert named in await scene.keys()


@pytest.mark.parametrize("scene", ["folder"], indirect=True)
async def test_without_the_chunks_own_index_nothing_is_a_stray(scene: Scene) -> None:
    """The place may hold another's dataset by now."""
    async with scene.resources.stores.at(scene.claim.destination, None) as store:
        await store.delete(index_key(0, 0, 0))

    await scene.sweep_twice()

    assert await scene.keys() > STRAYS
    assert await scene.noted() == set()


@pytest.mark.parametrize("scene", ["folder"], indirect=True)
async def test_a_walk_goes_on_where_the_run_before_ended_and_begins_anew_at_the_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.strays._MOST", 1)

    following = await scene.sweep()
    assert following == scene.claim.chunk_id

    assert await scene.sweep(after=following) == 0


@pytest.mark.parametrize("scene", ["folder"], indirect=True)
async def test_who_leads_no_more_removes_nothing(scene: Scene) -> None:
    await scene.sweep()
    await scene.board.run(STAYED)
    await scene.board.run("UPDATE leader SET term = term + 1")

    with pytest.raises(NotLeader):
        await scene.sweep()

    assert await scene.keys() == NAMED | STRAYS | OTHERS
