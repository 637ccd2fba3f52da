"""What works while Redis, PostgreSQL or a store is away; the table is docs/explanation/degraded-modes.md."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import httpx2
import pytest
from pydantic import SecretStr

from gateway.credentials import Scope
from gateway.keys import create
from shared.db.session import open_engine
from shared.pipeline import UPLOAD, ChunkState, JobState, Tier
from shared.records import FETCHED_FILE
from tests.contract.stores import S3_KEY_ID, S3_SECRET
from tests.core import Board, board_at
from tests.origin import Origin
from tests.proxy import Proxy
from tests.servers import Valkey
from tests.system import Service, System, until

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:moto.*"),
]

WORKERS = ("downloader", "validator", "uploader")
#: A row that costs nothing: its chunk goes through all stages, and an index is stored.
ROWS = [{"url": "ftp://nothing.example/1"}]
LOCAL = {"PIXCRAWLER_ALLOW_CIDRS": '["127.0.0.0/8"]', "PIXCRAWLER_ALLOW_PORTS": "[0]"}
PATIENCE_SECONDS = 30.0


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def key(database_url: str) -> str:
    engine = open_engine(SecretStr(database_url), connections=1)
    made = await create(engine, tenant="ours", tier=Tier.FREE, name="test", scopes=(Scope.JOBS_READ, Scope.JOBS_WRITE))
    await engine.dispose()
    return made


@pytest.fixture
def to_database(database_url: str) -> Iterator[Proxy]:
    """What stands between the services and PostgreSQL; tests look at it directly."""
    with Proxy(urlsplit(database_url).port or 5432) as proxy:
        yield proxy


def through(proxy: Proxy, url: str) -> str:
    parts = urlsplit(url)
    credentials, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{proxy.port}"))


def client_of(gateway: Service, key: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{gateway.api_port}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=PATIENCE_SECONDS,
        trust_env=False,
    )


async def submitted(client: httpx2.AsyncClient, destination: str, **more: str) -> UUID:
    answer = await client.post("/v1/jobs", json={"source": {"rows": ROWS}, "destination": {"url": destination, **more}})
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


async def test_with_redis_away_jobs_are_shown_and_accepted_and_start_when_it_is_back(
    database_url: str, board: Board, key: str, tmp_path: Path
) -> None:
    with Valkey() as redis:
        system = System(database_url, redis.url, tmp_path)
        with system.running(*WORKERS, "scheduler"):
            redis.kill()
            with system.running("gateway") as (gateway,):
                async with client_of(gateway, key) as client:
                    job = await submitted(client, str(tmp_path / "out"))

                    async def is_admitted() -> bool:
                        return await board.one("SELECT count(*) FROM chunks WHERE state = 'download_ready'") == 1

                    await until("the chunk is let in without Redis", is_admitted)
                    shown = await client.get(f"/v1/jobs/{job}")
                    listed = await client.get("/v1/jobs")
                    assert (shown.status_code, shown.json()["state"]) == (200, "running")
                    assert [each["id"] for each in listed.json()["data"]] == [str(job)]
                    assert gateway.get("/readyz")[0] == 200

                    redis.start()
                    await until("the job has ended", lambda: board.has_ended(job), limit_seconds=90)

    assert await board.job_state(job) in (JobState.COMPLETED, JobState.FAILED)
    assert (tmp_path / "out/_SUCCESS").is_file()
    assert (await board.chunk((await board.chunks_of(job))[0])).crashes == 0


async def test_a_redis_that_does_not_answer_holds_up_no_reader(
    database_url: str, board: Board, key: str, tmp_path: Path
) -> None:
    with Valkey() as redis, Proxy(redis.port) as proxy:
        system = System(database_url, f"redis://127.0.0.1:{proxy.port}/0", tmp_path)
        with system.running("gateway") as (gateway,):
            async with client_of(gateway, key) as client:
                job = await submitted(client, str(tmp_path / "out"))
                await board.run(
                    """INSERT INTO chunks (job_id, ordinal, first_row, rows, part_key, part_offset, part_length, tier,
                       virtual_start, score, state) VALUES (:job, 0, 0, 1, '', 0, 0, 'free', 0, 0, 'downloading')""",
                    job=job,
                )
                assert (await client.get(f"/v1/jobs/{job}")).status_code == 200
                proxy.freeze()

                began = time.monotonic()
                shown = await client.get(f"/v1/jobs/{job}")

                assert (shown.status_code, shown.json()["id"]) == (200, str(job))
                assert time.monotonic() - began < 3, "live figures are worth no longer wait"


@pytest.mark.parametrize("fault", ["refuse", "freeze"])
async def test_with_postgresql_away_every_answer_says_when_to_come_back(
    database_url: str, redis_server_url: str, to_database: Proxy, key: str, tmp_path: Path, fault: str
) -> None:
    system = System(through(to_database, database_url), redis_server_url, tmp_path)
    with system.running("gateway") as (gateway,):
        async with client_of(gateway, key) as client:
            job = await submitted(client, str(tmp_path / "out"))

            getattr(to_database, fault)()
            answers = await asyncio.gather(
                client.get(f"/v1/jobs/{job}"),
                client.get("/v1/jobs"),
                client.get(f"/v1/jobs/{job}/images"),
                client.post(f"/v1/jobs/{job}/pause"),
                client.post("/v1/manifests", params={"filename": "urls.txt"}, content=b"https://example.com/a.jpg\n"),
                client.post("/v1/jobs", json={"source": {"rows": ROWS}, "destination": {"url": str(tmp_path / "b")}}),
            )
            assert [unavailable(answer) for answer in answers] == [(503, "database_unavailable", True)] * len(answers)
            assert gateway.get("/readyz")[0] == 503

            to_database.heal()

            async def is_back() -> bool:
                return (await client.get(f"/v1/jobs/{job}")).status_code == 200

            await until("the gateway answers again by itself", is_back)
            assert gateway.get("/livez")[0] == 200


def unavailable(answer: httpx2.Response) -> tuple[int, str, bool]:
    """Status, code, and whether it says when to come back."""
    return answer.status_code, answer.json()["code"], int(answer.headers.get("Retry-After", 0)) > 0


async def test_with_postgresql_away_workers_keep_their_chunk_and_commit_it_later(
    database_url: str, redis_server_url: str, to_database: Proxy, board: Board, tmp_path: Path
) -> None:
    system = System(through(to_database, database_url), redis_server_url, tmp_path, extra=LOCAL)
    async with Origin() as origin:
        urls = [origin.url("/image/1"), origin.url("/held")]
        with system.running(*WORKERS, "scheduler", GRACE_SECONDS="20"):
            job = await board.submit(system.spool, urls, tmp_path / "out")
            await asyncio.wait_for(origin.is_holding.wait(), 60)

            to_database.refuse()
            origin.released.set()

            async def has_fetched() -> bool:
                return any(path.parent.name[1:].isdigit() for path in system.work.rglob(FETCHED_FILE))

            await until("the downloader has its result, and cannot tell", has_fetched, limit_seconds=60)
            (chunk,) = await board.chunks_of(job)
            assert await board.state(chunk) is ChunkState.DOWNLOADING, "it still has it"
            to_database.heal()
            await until("the job has ended", lambda: board.has_ended(job), limit_seconds=90)

    moves = (await board.histories())[chunk]
    assert moves.count(("download_ready", "downloading")) == 1, "nobody had to do it again"
    row = await board.chunk(chunk)
    assert (row.crashes, row.restarts, row.state) == (0, 0, ChunkState.COMPLETED)
    assert origin.hits["/held"] == 1


async def test_with_its_store_away_upload_waits_and_admission_stops_by_itself(
    database_url: str,
    redis_server_url: str,
    board: Board,
    key: str,
    tmp_path: Path,
    s3_server: str,
    s3_bucket: str,
) -> None:
    with Proxy(urlsplit(s3_server).port or 80) as to_store:
        endpoint = f"http://127.0.0.1:{to_store.port}"
        store = {
            "PIXCRAWLER_S3_ENDPOINTS": json.dumps([endpoint]),
            "PIXCRAWLER_S3_ACCESS_KEY_ID": S3_KEY_ID,
            "PIXCRAWLER_S3_SECRET_ACCESS_KEY": S3_SECRET,
            "PIXCRAWLER_STORE_TIMEOUT_SECONDS": "2",
            "PIXCRAWLER_MAX_CHUNKS": "1",
        }
        system = System(database_url, redis_server_url, tmp_path, extra=store)
        with system.running("scheduler", "gateway") as (scheduler, gateway):
            async with client_of(gateway, key) as client:
                stuck = await submitted(client, f"s3://{s3_bucket}/stuck", endpoint=endpoint)
                waiting = await submitted(client, str(tmp_path / "waiting"))
                to_store.refuse()
                with system.running(*WORKERS):
                    await until("the upload was put off", lambda: is_put_off(board, stuck), limit_seconds=60)
                    await until("the stuck job says so", lambda: waits_for(client, stuck, "destination"))
                    await until("the other waits its turn", lambda: waits_for(client, waiting, "free slot"))
                    await until("admission is shut", lambda: has_no_slot_left(scheduler))
                    assert [await board.state(chunk) for chunk in await board.chunks_of(waiting)] == [
                        ChunkState.PENDING
                    ]

                    to_store.heal()
                    for job in (stuck, waiting):
                        await until("both end", lambda job=job: board.has_ended(job), limit_seconds=60)

    row = await board.chunk((await board.chunks_of(stuck))[0])
    assert (row.state, row.crashes, row.attempt) == (ChunkState.COMPLETED, 0, 0)
    assert await board.one("SELECT count(*) FROM chunk_events WHERE error_code = 'chunk_error'") == 0


async def is_put_off(board: Board, job: UUID) -> bool:
    """Whether its chunk went back to wait, without having burned an attempt."""
    (chunk,) = await board.chunks_of(job)
    row = await board.chunk(chunk)
    moves = (await board.histories()).get(chunk, [])
    return (UPLOAD.running, UPLOAD.ready) in moves and row.attempt <= 1


async def has_no_slot_left(scheduler: Service) -> bool:
    return scheduler.metric('pixcrawler_admission_shut{reason="slots"}') == 1.0


async def waits_for(client: httpx2.AsyncClient, job: UUID, what: str) -> bool:
    shown: dict[str, Any] = (await client.get(f"/v1/jobs/{job}")).json()
    return what in shown["waiting_for"]
