"""The services as processes: whole jobs, stops, crashes, cancelling, refusing stores, standing by."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pyarrow.parquet as pq
import pytest

from pixcrawler.sample import SAMPLE_RECIPE, Corpus, sample_origin
from pixcrawler.sample import Origin as SampleOrigin
from scheduler.leadership import Leadership
from scheduler.planner import Planner
from shared.broker import build_app, ring
from shared.db import jobs, sweeps
from shared.db.session import transaction
from shared.pipeline import DOWNLOAD, VALIDATE, ChunkState, JobState
from shared.records import FETCHED_FILE, PACK, from_stream
from shared.resources import open_resources
from shared.waiting import WaitingSet
from tests.core import Board, board_at, scheduler_settings
from tests.origin import Origin, picture
from tests.servers import Valkey, free_port
from tests.system import Service, System, until

WORKERS = ("downloader", "validator", "uploader")
ROWS = 510  # a chunk and a little one

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def origin() -> Iterator[SampleOrigin]:
    with sample_origin(rows=ROWS) as running:
        yield running


@pytest.fixture(scope="module")
async def shared_database_url(
    postgres_admin_url: str, postgres_role_url: str, migrated_template: str
) -> AsyncIterator[str]:
    """A migrated database for the system that most of these tests share."""
    admin = await asyncpg.connect(postgres_admin_url)
    await admin.execute(f"CREATE DATABASE services TEMPLATE {migrated_template} OWNER pixcrawler")
    yield urlunsplit(urlsplit(postgres_role_url)._replace(path="/services"))
    await admin.execute("DROP DATABASE services WITH (FORCE)")
    await admin.close()


@pytest.fixture(scope="module")
def system(
    shared_database_url: str, redis_server_url: str, tmp_path_factory: pytest.TempPathFactory, origin: SampleOrigin
) -> System:
    extra = {
        **origin.extra_environment,
        "PIXCRAWLER_ALLOW_PORTS": "[0]",
        # Origins that hold their answers share a host with the others: too slow, it would be left alone for a minute.
        "PIXCRAWLER_STALL_SECONDS": "120",
    }
    return System(shared_database_url, redis_server_url, tmp_path_factory.mktemp("system"), extra=extra)


@pytest.fixture(scope="module")
def workers(system: System) -> Iterator[dict[str, Service]]:
    with system.running(*WORKERS) as services:
        yield dict(zip(WORKERS, services, strict=True))


@pytest.fixture(scope="module")
def scheduler(system: System, workers: dict[str, Service]) -> Iterator[Service]:
    with system.running("scheduler") as (service,):
        yield service


@pytest.fixture
async def board(shared_database_url: str) -> AsyncIterator[Board]:
    async with board_at(shared_database_url) as opened:
        yield opened


def urls_of(origin: SampleOrigin, rows: int = ROWS) -> list[str]:
    return [row.url(origin.base_url) for row in origin.corpus.rows[:rows]]


def truth_of(corpus: Corpus, rows: int = ROWS) -> Counter[str]:
    return Counter(row.kind.reason or "" for row in corpus.rows[:rows])


def index_of(destination: Path) -> Counter[str]:
    """Rows of all indexes by reason; the empty one is: accepted."""
    found: Counter[str] = Counter()
    for path in sorted((destination / "index").glob("*.parquet")):
        found.update(reason or "" for reason in pq.read_table(path)["reason"].to_pylist())
    return found


async def counts_of(board: Board, job: UUID) -> Counter[str]:
    counts = await board.one("SELECT counts FROM jobs WHERE id = :job", job=job)
    return Counter({"": counts["accepted"], **counts["rejected"]})


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".janitor"]


async def plan_and_ring_once(system: System, board: Board) -> None:
    """What the scheduler does until the first bell has rung, and nothing after it."""
    settings = scheduler_settings(system.database_url, system.redis_url, system.folder)
    async with open_resources(settings) as resources:
        planner, leadership = Planner(resources, WaitingSet(resources.redis)), Leadership(resources.engine)
        try:
            term = await leadership.term()
            assert term
            while await planner.plan_part(term):
                pass
        finally:
            planner.close()
            await leadership.resign()
    waiting = [row.id for row in await board.run("SELECT id FROM chunks WHERE state = 'pending' ORDER BY id")]
    await board.admit(*waiting)
    app = build_app(settings)
    for bell in await board.take_bells():
        ring(app, bell)


async def test_hand_on_bells_alone_carry_a_job_through_all_stages(
    system: System, workers: dict[str, Service], board: Board, origin: SampleOrigin
) -> None:
    job = await board.submit(system.spool, urls_of(origin), system.folder / "alone", recipe=json.dumps(SAMPLE_RECIPE))

    await plan_and_ring_once(system, board)

    async def all_ended() -> bool:
        return all([await board.state(chunk) is ChunkState.COMPLETED for chunk in await board.chunks_of(job)])

    await until("all chunks have ended", all_ended)
    assert index_of(system.folder / "alone") == truth_of(origin.corpus)


async def test_a_job_completes_and_all_sums_agree(
    system: System, scheduler: Service, board: Board, origin: SampleOrigin
) -> None:
    destination = system.folder / "whole"
    before = scheduler.metric('pixcrawler_images{outcome="accepted"')

    job = await board.submit(system.spool, urls_of(origin), destination, recipe=json.dumps(SAMPLE_RECIPE))
    await until("the job has ended", lambda: board.has_ended(job))

    assert await board.job_state(job) is JobState.COMPLETED
    truth = truth_of(origin.corpus)
    assert await counts_of(board, job) == index_of(destination) == truth
    assert sum(truth.values()) == ROWS
    assert (destination / "_SUCCESS").is_file()
    assert await board.held_slots() == set()
    assert files_below(system.work) == []

    async def is_exported() -> bool:
        sums = await board.one("SELECT sum((counts ->> 'accepted')::bigint) FROM jobs")
        return scheduler.metric('pixcrawler_images{outcome="accepted"') == float(sums) != before

    await until("the metric says the same", is_exported, limit_seconds=10)


async def test_every_service_answers_its_checks(workers: dict[str, Service], scheduler: Service) -> None:
    for service in (*workers.values(), scheduler):
        assert service.get("/livez")[0] == 200
        assert service.get("/readyz")[0] == 200
        assert "pixcrawler_" in service.get("/metrics")[1]
        assert service.get("/elsewhere")[0] == 404


async def test_a_message_nobody_can_read_is_kept_and_the_worker_lives(
    system: System, workers: dict[str, Service], scheduler: Service, board: Board, origin: SampleOrigin
) -> None:
    app = build_app(scheduler_settings(system.database_url, system.redis_url, system.folder))

    app.send_task(DOWNLOAD.task, args=[{"version": 99, "secret": "hunter2"}], queue=DOWNLOAD.queue)

    async def is_kept() -> bool:
        return bool(await board.run("SELECT * FROM poison_messages"))

    await until("the message is kept", is_kept)
    (kept,) = await board.run("SELECT * FROM poison_messages")
    assert kept.queue == "download"
    assert "version" in kept.error
    assert "hunter2" not in kept.error
    job = await board.submit(system.spool, urls_of(origin, 5), system.folder / "after-poison")
    await until("the next job has ended", lambda: board.has_ended(job))


async def test_a_store_that_refuses_pauses_the_job_until_it_is_mended(
    system: System, scheduler: Service, board: Board, origin: SampleOrigin
) -> None:
    blocking = system.folder / "blocked"
    blocking.write_text("a file where a folder should be")
    job = await board.submit(system.spool, urls_of(origin, 5), blocking / "dataset")

    async def is_paused() -> bool:
        return await board.job_state(job) is JobState.PAUSED

    await until("the job is paused", is_paused)
    (row,) = await board.run("SELECT error_code, error, tenant_id FROM jobs WHERE id = :job", job=job)
    assert (row.error_code, bool(row.error)) == ("store_refused", True)

    blocking.unlink()
    async with transaction(board.engine) as connection:
        assert await jobs.resume(connection, row.tenant_id, job)
    await until("the job has ended", lambda: board.has_ended(job))

    assert await board.job_state(job) is JobState.COMPLETED, "the trouble is over"
    (chunk,) = await board.chunks_of(job)
    moves = (await board.histories())[chunk]
    assert moves[-1] == ("cleaning", "completed")


async def test_a_cancelled_job_ends_with_every_row_in_its_index(
    system: System, scheduler: Service, board: Board
) -> None:
    destination = system.folder / "withdrawn"
    async with Origin() as held:
        urls = [held.url(f"/held?n={number}") for number in range(1200)]
        job = await board.submit(
            system.spool, urls, destination, recipe='{"robots": false, "url_deadline_seconds": 300}'
        )
        await until("a worker is busy with it", _is_set(held))

        await board.set_job(job, JobState.CANCELLING)
        await board.run("SELECT pg_notify('pixcrawler_jobs', '')")
        await until("the job has ended", lambda: board.has_ended(job))

    assert await board.job_state(job) is JobState.CANCELLED
    assert await counts_of(board, job) == index_of(destination) == Counter({"": 0, "cancelled": 1200})
    assert await board.held_slots() == set()
    assert files_below(system.work) == []
    assert not (destination / "_SUCCESS").exists()


def _is_set(held: Origin) -> Callable[[], Awaitable[bool]]:
    async def is_set() -> bool:
        return held.is_holding.is_set()

    return is_set


@pytest.mark.timeout(240)
async def test_a_second_scheduler_stands_by_and_takes_over(
    system: System, scheduler: Service, board: Board, origin: SampleOrigin
) -> None:
    with system.running("scheduler") as (second,):
        assert scheduler.metric("pixcrawler_scheduler_leader") == 1
        assert second.metric("pixcrawler_scheduler_leader") == 0
        assert "pixcrawler_slots_held" not in second.get("/metrics")[1], "the leader tells it, and only the leader"

        assert scheduler.stop() == 0
        job = await board.submit(system.spool, urls_of(origin, 5), system.folder / "succession")
        await until("the job has ended", lambda: board.has_ended(job))

        assert await board.job_state(job) is JobState.COMPLETED
        assert second.metric("pixcrawler_scheduler_leader") == 1

        async def tells_the_truth() -> bool:
            return "pixcrawler_slots_held" in second.get("/metrics")[1]

        await until("the new leader tells what it reads", tells_the_truth)


async def test_idle_workers_stop_at_once_and_withdraw_their_report(
    system: System, workers: dict[str, Service], board: Board
) -> None:
    assert [service.stop() for service in workers.values()] == [0, 0, 0]
    assert await board.one("SELECT count(*) FROM cells") == 0


@pytest.fixture
def own_system(database_url: str, redis_url: str, tmp_path: Path) -> System:
    environment = {"PIXCRAWLER_ALLOW_CIDRS": '["127.0.0.1/32"]', "PIXCRAWLER_ALLOW_PORTS": "[0]"}
    return System(database_url, redis_url, tmp_path, extra=environment)


HELD_RECIPE = '{"robots": false, "url_deadline_seconds": 300}'


async def test_sigterm_hands_the_chunk_back_and_another_copy_completes_it(own_system: System) -> None:
    async with board_at(own_system.database_url) as board, Origin() as held:
        job = await board.submit(own_system.spool, [held.url("/held")], own_system.folder / "out", recipe=HELD_RECIPE)
        with own_system.running("downloader") as (first,):
            await plan_and_ring_once(own_system, board)
            (chunk,) = await board.chunks_of(job)
            await until("the chunk is being downloaded", _is_set(held))

            assert first.stop() == 0

        row = await board.chunk(chunk)
        assert (row.state, row.attempt, row.crashes, row.owner) == ("download_ready", 0, 0, None)
        assert files_below(own_system.work) == []

        held.released.set()
        with own_system.running("downloader"):
            await _ring_due(own_system, board)
            await until("the other copy has done it", _reaches(board, chunk, VALIDATE.ready))
        assert (await board.chunk(chunk)).fence == 2


async def test_a_killed_workers_chunk_is_redone_with_the_same_result(own_system: System) -> None:
    async with board_at(own_system.database_url) as board, Origin() as held:
        urls = [*(held.url(f"/image/{number}?size=20000") for number in range(20)), held.url("/held")]
        job = await board.submit(own_system.spool, urls, own_system.folder / "out", recipe=HELD_RECIPE)
        with own_system.running("downloader") as (first,):
            await plan_and_ring_once(own_system, board)
            (chunk,) = await board.chunks_of(job)
            await until("the chunk is being downloaded", _is_set(held))
            first.kill()

        assert await board.state(chunk) is ChunkState.DOWNLOADING, "nobody could say that it died"
        await board.run("UPDATE chunks SET lease_until = clock_timestamp()")
        async with transaction(board.engine) as connection:
            expired = await sweeps.expire_leases(connection, DOWNLOAD)
        assert (expired.given_back, expired.given_up) == (1, 0)

        held.released.set()
        with own_system.running("downloader"):
            await _ring_due(own_system, board)
            await until("the other copy has done it", _reaches(board, chunk, VALIDATE.ready))

        row = await board.chunk(chunk)
        folder = own_system.work / str(job) / str(chunk) / f"f{row.work_fence}"
        fetched = from_stream((folder / FETCHED_FILE).read_bytes()).to_pydict()
        pack = (folder / PACK).read_bytes()
        bodies = [
            pack[start : start + length] for start, length in zip(fetched["offset"], fetched["length"], strict=True)
        ]
        assert bodies == [*(picture(f"/image/{number}", 20000) for number in range(20)), picture("/held")]


async def _ring_due(system: System, board: Board) -> None:
    app = build_app(scheduler_settings(system.database_url, system.redis_url, system.folder))
    for bell in await board.take_bells():
        ring(app, bell)


def _reaches(board: Board, chunk: int, state: ChunkState) -> Callable[[], Awaitable[bool]]:
    async def has_reached() -> bool:
        return await board.state(chunk) is state

    return has_reached


async def test_a_worker_takes_work_again_after_redis_was_restarted(database_url: str, tmp_path: Path) -> None:
    with Valkey() as redis:
        system = System(database_url, redis.url, tmp_path)
        async with board_at(database_url) as board:
            job = await board.submit(system.spool, ["ftp://nothing.example/1"], tmp_path / "out")
            with system.running("downloader") as (worker,):
                redis.kill()
                redis.start()

                await plan_and_ring_once(system, board)
                (chunk,) = await board.chunks_of(job)
                await until("the chunk is downloaded", _reaches(board, chunk, VALIDATE.ready))

                assert worker.process.poll() is None


SERVICES = ("gateway", "scheduler", *WORKERS)


@pytest.mark.parametrize("name", SERVICES)
def test_wrong_settings_are_all_named_and_end_the_service_with_78(own_system: System, name: str) -> None:
    service = own_system.start(
        name, DATABASE_URL="mysql://u:hunter2@h/d", REDIS_URL="http://:hunter2@h", LOG_LEVEL="loud", CELL="No Cell"
    )

    assert service.process.wait(30) == 78
    for variable in ("DATABASE_URL", "REDIS_URL", "LOG_LEVEL", "CELL"):
        assert f"PIXCRAWLER_{variable}" in service.said()
    assert "hunter2" not in service.said()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_without_its_database_ends_with_a_sentence(own_system: System, name: str) -> None:
    nowhere = f"postgresql://u:hunter2@127.0.0.1:{free_port()}/d"

    service = own_system.start(name, DATABASE_URL=nowhere, STARTUP_TIMEOUT_SECONDS="0.5")

    assert service.process.wait(30) == 1
    assert "PixCrawler cannot start: PostgreSQL does not answer" in service.said()
    assert "Traceback" not in service.said()
    assert "hunter2" not in service.said()


async def test_a_service_refuses_a_schema_that_is_not_its_own(own_system: System) -> None:
    async with board_at(own_system.database_url) as board:
        await board.run("UPDATE alembic_version SET version_num = '9999'")

    service = own_system.start("scheduler", STARTUP_TIMEOUT_SECONDS="0.5")

    assert service.process.wait(30) == 1
    assert "the schema is at 9999" in service.said()


def test_a_wrong_password_is_told_in_a_sentence(own_system: System) -> None:
    parts = urlsplit(own_system.database_url)
    wrong = urlunsplit(parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}"))

    service = own_system.start("scheduler", DATABASE_URL=wrong, STARTUP_TIMEOUT_SECONDS="0.5")

    assert service.process.wait(30) == 1
    assert "PixCrawler cannot start" in service.said()
    assert "Traceback" not in service.said()


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_whose_spool_cannot_be_opened_does_not_start(own_system: System, name: str) -> None:
    blocking = own_system.folder / "file"
    blocking.write_text("a file where a folder should be")

    service = own_system.start(name, SPOOL_URL=str(blocking / "spool"))

    assert service.process.wait(30) == 1
    assert "PixCrawler cannot start" in service.said()
