"""Ending chunks and jobs whatever their destination does: refuses, hangs, is away, holds something strange."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scheduler.finisher import Finisher
from scheduler.leadership import Leadership
from shared import closing
from shared.chunk import NewObject
from shared.closing import close_all, close_chunk
from shared.db import cells, chunks, failed, jobs, lifecycle, sweeps
from shared.db.chunks import Ended
from shared.db.failed import Choice
from shared.db.session import transaction
from shared.errors import StoreUnavailable
from shared.pipeline import DOWNLOAD, ChunkState, JobState, Outcome
from shared.records import SOURCE, to_stream
from shared.resources import Resources, open_resources
from tests.core import ROOMY, Board, board_at, scheduler_settings
from tests.system import until

ROWS = 4


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def resources(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path)) as opened:
        yield opened


async def _failed(board: Board, resources: Resources, destination: Path, *, has_plan: bool = True) -> Ended:
    """A chunk that failed while it was downloaded."""
    rows = [{"row": number, "url": f"https://a.example/{number}", "caption": None} for number in range(ROWS)]
    plan = to_stream(pa.Table.from_pylist(rows, schema=SOURCE))
    if has_plan:
        await resources.spool.create("plans/none", plan, content_type="x/y", sha256="0" * 64)
    (chunk,) = await board.chunks_of(await board.job(rows=ROWS, destination=str(destination)))
    await board.run("UPDATE chunks SET part_length = :length", length=len(plan))
    claim = await board.claimed(DOWNLOAD, chunk)
    async with transaction(board.engine) as connection:
        await chunks.end(connection, DOWNLOAD, claim, Outcome.FAILED, error_code="chunk_error", error="mine")
        (ended,) = await chunks.ended(connection, chunk_id=chunk)
    return ended


async def _counts(board: Board) -> Any:
    return await board.one("SELECT counts FROM jobs")


async def test_a_failed_chunk_leaves_an_index_with_every_row(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    ended = await _failed(board, resources, tmp_path / "out")

    assert await close_chunk(resources, ended, actor="test")

    index = pq.read_table(tmp_path / "out/index/r000-000000.parquet")
    assert index["reason"].to_pylist() == ["chunk_failed"] * ROWS
    assert await _counts(board) == {"accepted": 0, "rejected": {"chunk_failed": ROWS}}
    assert await board.state(ended.claim.chunk_id) is ChunkState.FAILED
    assert (await board.chunk(ended.claim.chunk_id)).error == "mine"
    assert await board.held_slots() == set()
    assert [row.key for row in await board.run("SELECT key FROM objects")] == ["index/r000-000000.parquet"]


async def test_a_failed_chunk_of_a_refresh_leaves_its_rows_as_they_were(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    ended = await _failed(board, resources, tmp_path / "out")
    await board.run("""UPDATE jobs SET source = source || '{"gone": "drop"}'""")
    async with transaction(board.engine) as connection:
        (ended,) = await chunks.ended(connection, chunk_id=ended.claim.chunk_id)

    assert await close_chunk(resources, ended, actor="test")

    index = pq.read_table(tmp_path / "out/index/r000-000000.parquet")
    assert index["reason"].to_pylist() == ["kept"] * ROWS
    assert await _counts(board) == {"accepted": 0, "rejected": {"kept": ROWS}}
    assert await board.state(ended.claim.chunk_id) is ChunkState.FAILED


async def test_closing_again_changes_nothing(board: Board, resources: Resources, tmp_path: Path) -> None:
    ended = await _failed(board, resources, tmp_path / "out")
    await close_chunk(resources, ended, actor="test")

    assert not await close_chunk(resources, ended, actor="another")

    assert await _counts(board) == {"accepted": 0, "rejected": {"chunk_failed": ROWS}}


async def test_a_chunk_that_fails_again_leaves_the_index_of_its_last_round_alone(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    first = await _failed(board, resources, tmp_path / "out")
    await close_chunk(resources, first, actor="test")
    (tmp_path / "out/_SUCCESS").write_text("0\n")
    async with transaction(board.engine) as connection:
        await failed.ask_redrive(connection, Choice(chunk=first.claim.chunk_id), force=False)
        await failed.grant_redrives(connection)
    claim = await board.claimed(DOWNLOAD, first.claim.chunk_id)
    async with transaction(board.engine) as connection:
        await chunks.end(connection, DOWNLOAD, claim, Outcome.FAILED, error_code="chunk_error", error="mine again")
        (again,) = await chunks.ended(connection, chunk_id=claim.chunk_id)

    assert await close_chunk(resources, again, actor="test")

    assert [path.name for path in (tmp_path / "out/index").iterdir()] == ["r000-000000-1.parquet"]
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert [row.key for row in await board.run("SELECT key FROM objects")] == ["index/r000-000000-1.parquet"]
    assert await _counts(board) == {"accepted": 0, "rejected": {"chunk_failed": ROWS}}


async def test_a_late_worker_of_an_earlier_claim_brings_no_object_back(board: Board) -> None:
    (chunk,) = await board.chunks_of(await board.job())
    late = await board.claimed(DOWNLOAD, chunk)
    await board.run("UPDATE chunks SET state = 'download_ready'")
    claim = await board.claim(DOWNLOAD, chunk)
    assert claim is not None
    key = {"size_bytes": 1, "sha256": "00" * 32}

    async with transaction(board.engine) as connection:
        await chunks.record_objects(connection, claim, [NewObject(key="a", **key), NewObject(key="b", **key)])
        await chunks.record_objects(connection, claim, [NewObject(key="b", **key)])
        await chunks.record_objects(connection, late, [NewObject(key="a", **key)])

    assert [row.key for row in await board.run("SELECT key FROM objects")] == ["b"]


@pytest.mark.parametrize("strange", [b"", b"no Parquet at all", "of other rows"])
async def test_a_strange_index_in_the_destination_does_not_stop_the_closing(
    board: Board, resources: Resources, tmp_path: Path, strange: bytes | str
) -> None:
    place = tmp_path / "out/index/r000-000000.parquet"
    place.parent.mkdir(parents=True)
    if isinstance(strange, bytes):
        place.write_bytes(strange)
    else:
        pq.write_table(pa.table({"reason": ["cancelled"]}), place)
    before = place.read_bytes()
    ended = await _failed(board, resources, tmp_path / "out")

    await close_all(resources, [ended], actor="test")

    assert await board.state(ended.claim.chunk_id) is ChunkState.FAILED
    assert await _counts(board) == {"accepted": 0, "rejected": {"chunk_failed": ROWS}}
    assert place.read_bytes() == before, "what is not ours is not touched"
    assert await board.run("SELECT key FROM objects") == []


async def test_a_refusing_destination_and_a_lost_plan_do_not_keep_a_slot(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    refused = await _failed(board, resources, tmp_path / "file/out")

    await close_all(resources, [refused], actor="test")

    assert await board.held_slots() == set()
    lost = await _failed(board, resources, tmp_path / "out", has_plan=False)
    await resources.spool.delete("plans/none")
    await close_all(resources, [lost], actor="test")
    assert await board.held_slots() == set()
    assert await board.state(lost.claim.chunk_id) is ChunkState.FAILED


class _Away:
    """A destination that does not answer: at once, or never."""

    def __init__(self, *, hangs: bool = False) -> None:
        self._hangs = hangs
        self.is_asked = asyncio.Event()

    async def _fail(self, *_: object, **__: object) -> bool:
        self.is_asked.set()
        if self._hangs:
            await asyncio.Event().wait()
        raise StoreUnavailable("the store does not answer")

    create = replace = get = stat = delete = sweep = _fail

    async def close(self) -> None:
        pass


async def _send_away(resources: Resources, monkeypatch: pytest.MonkeyPatch, away: _Away, destination: Path) -> None:
    usual = resources.stores.at

    @asynccontextmanager
    async def at(url: str, endpoint: str | None) -> AsyncIterator[Any]:
        if url == str(destination):
            yield away
            return
        async with usual(url, endpoint) as store:
            yield store

    monkeypatch.setattr(resources.stores, "at", at)


async def test_a_chunk_that_cannot_be_closed_is_put_off_and_given_up_at_last(
    board: Board, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _send_away(resources, monkeypatch, _Away(), tmp_path / "out")
    ended = await _failed(board, resources, tmp_path / "out")

    await close_all(resources, [ended], actor="test")
    assert await board.state(ended.claim.chunk_id) is ChunkState.CLEANING
    async with transaction(board.engine) as connection:
        assert await chunks.ended(connection, cell="main") == [], "not again at once"
    assert await board.one("SELECT ready_at > clock_timestamp() + interval '4 s' FROM chunks")

    await board.run("UPDATE chunks SET rings = 12, ready_at = clock_timestamp()")
    async with transaction(board.engine) as connection:
        left = await chunks.ended(connection, cell="main")
    await close_all(resources, left, actor="test")

    assert await board.state(ended.claim.chunk_id) is ChunkState.FAILED
    assert await _counts(board) == {"accepted": 0, "rejected": {"chunk_failed": ROWS}}
    assert await board.held_slots() == set()


async def test_a_hanging_destination_is_left_after_a_while(
    board: Board, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "_LONGEST_SECONDS", 0.1)
    await _send_away(resources, monkeypatch, _Away(hangs=True), tmp_path / "out")
    ended = await _failed(board, resources, tmp_path / "out")

    async with asyncio.timeout(10):
        await close_all(resources, [ended], actor="test")

    assert await board.one("SELECT rings FROM chunks") == 1


async def _lead(resources: Resources) -> Any:
    term = await Leadership(resources.engine).term()
    assert term is not None
    return term


async def test_a_job_at_a_hanging_destination_keeps_no_other_job_waiting(
    board: Board, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = _Away(hangs=True)
    await _send_away(resources, monkeypatch, away, tmp_path / "hangs")
    stuck = await board.job(chunks=0, destination=str(tmp_path / "hangs"))
    other = await board.job(chunks=0, destination=str(tmp_path / "well"))
    finisher, term = Finisher(resources), await _lead(resources)

    async with asyncio.timeout(5):
        await finisher.look(term)
    await until("the other job has ended", lambda: board.has_ended(other))

    assert away.is_asked.is_set()
    assert (await board.job_state(stuck), await board.job_state(other)) == (JobState.FINISHING, JobState.COMPLETED)
    await finisher.close()


async def test_a_job_whose_destination_is_away_is_finished_when_it_is_back(
    board: Board, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await board.job(chunks=0, destination=str(tmp_path / "out"))
    finisher, term = Finisher(resources), await _lead(resources)
    with monkeypatch.context() as patched:
        away = _Away()
        await _send_away(resources, patched, away, tmp_path / "out")
        await finisher.look(term)
        await away.is_asked.wait()

    async def is_finished() -> bool:
        await finisher.look(term)
        return await board.has_ended(job)

    await until("the job has ended", is_finished)

    assert await board.job_state(job) is JobState.COMPLETED
    assert (tmp_path / "out/_SUCCESS").is_file()
    await finisher.close()


async def test_a_resumed_job_that_is_stored_whole_ends_without_failures(
    board: Board, resources: Resources, tmp_path: Path
) -> None:
    job = await board.job(chunks=0, destination=str(tmp_path / "out"))
    tenant = await board.one("SELECT tenant_id FROM jobs")
    async with transaction(board.engine) as connection:
        await lifecycle.pause_for(connection, job, error_code="store_refused", error="no permission")
    async with transaction(board.engine) as connection:
        assert await jobs.resume(connection, tenant, job)
    finisher = Finisher(resources)

    await finisher.look(await _lead(resources))
    await until("the job has ended", lambda: board.has_ended(job))

    assert await board.job_state(job) is JobState.COMPLETED
    assert await board.one("SELECT error FROM jobs") is None


async def test_a_list_that_could_not_be_read_stays_told_after_a_resume(board: Board) -> None:
    job = await board.job(chunks=1)
    tenant = await board.one("SELECT tenant_id FROM jobs")
    await board.set_job(job, JobState.PLANNING)
    async with transaction(board.engine) as connection:
        await lifecycle.stop_planning(connection, job, error_code="bad_source", error="row 7")
        await jobs.pause(connection, tenant, job)
        await jobs.resume(connection, tenant, job)

    assert await board.one("SELECT error_code FROM jobs") == "bad_source"


async def test_chunks_of_a_dead_cell_begin_anew_and_those_of_a_living_one_stay(board: Board) -> None:
    near, far = await board.chunks_of(await board.job(chunks=2))
    await board.admit(near, cell="near")
    await board.admit(far, cell="far")
    async with transaction(board.engine) as connection:
        await cells.report(connection, "near", "downloader-a-1", "host", ROOMY)
    await board.run("UPDATE chunks SET ready_at = clock_timestamp() - interval '10 minutes'")

    async with transaction(board.engine) as connection:
        left = await sweeps.leave_dead_cells(connection, silent_for=timedelta(minutes=5))

    assert left == 1
    assert (await board.state(near), await board.state(far)) == (ChunkState.DOWNLOAD_READY, ChunkState.PENDING)
    assert await board.held_slots() == {near}
