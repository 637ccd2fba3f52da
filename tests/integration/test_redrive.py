"""Dead letters through the running services: chunks fail, are looked at and redriven, and one truth is left."""

import asyncio
import hashlib
import json
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from gateway.credentials import Scope
from gateway.keys import create
from pixcrawler import Client, ConflictError
from pixcrawler.models import FailedChoice
from pixcrawler.sample import SAMPLE_RECIPE, sample_origin
from pixcrawler.sample import Origin as SampleOrigin
from shared.db.session import open_engine
from shared.pipeline import JobState, Tier
from tests.core import Board, board_at
from tests.system import Service, System, until

ROWS = 510  # a chunk and a little one

pytestmark = [
    pytest.mark.timeout(180),
    # `datasets` leaves files open behind the pictures it hands out.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def origin() -> Iterator[SampleOrigin]:
    with sample_origin(rows=ROWS) as running:
        yield running


@pytest.fixture
def system(database_url: str, redis_server_url: str, tmp_path: Path, origin: SampleOrigin) -> System:
    quick = {"PIXCRAWLER_ALLOW_PORTS": "[0]", "PIXCRAWLER_LEASE_SECONDS": "2"}
    return System(database_url, redis_server_url, tmp_path, extra={**origin.extra_environment, **quick})


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def admin_key(database_url: str) -> str:
    engine = open_engine(SecretStr(database_url), connections=1)
    key = await create(engine, tenant="operator", tier=Tier.FREE, name="test", scopes=(Scope.ADMIN,))
    await engine.dispose()
    return key


def indexed(destination: Path) -> dict[str, Counter[str]]:
    """Each index by its name: rows by reason; the empty one is: accepted."""
    found = sorted((destination / "index").iterdir())
    return {path.name: Counter(reason or "" for reason in pq.read_table(path)["reason"].to_pylist()) for path in found}


def listed_objects_exist(destination: Path) -> bool:
    """Whether `dataset.json` names what lies there, bytes and all."""
    listed = json.loads((destination / "dataset.json").read_text())["objects"]
    return bool(listed) and all(
        hashlib.sha256((destination / item["key"]).read_bytes()).hexdigest() == item["sha256"] for item in listed
    )


def loaded_images(destination: Path, home: Path) -> int:
    """How many images Hugging Face's loader finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(home))
        import datasets

        datasets.disable_progress_bars()
        return len(datasets.load_dataset(str(destination), split="train", cache_dir=str(home)))


async def failed_by_crashes(system: System, board: Board, origin: SampleOrigin, destination: Path) -> Any:
    """A job whose chunks all failed because their uploaders died, for the third time."""
    urls = [row.url(origin.base_url) for row in origin.corpus.rows]
    dying = {"FAILPOINTS": "upload.claimed:die:1:always", "FAILPOINTS_DIR": str(system.folder)}
    with system.running("downloader", "validator", "uploader", "scheduler", **dying):
        job = await board.submit(system.spool, urls, destination, recipe=json.dumps(SAMPLE_RECIPE))

        async def has_ended() -> bool:
            await board.run("UPDATE chunks SET crashes = 2 WHERE state = 'upload_ready'")  # the third is enough to see
            return await board.has_ended(job)

        await until("the job has ended", has_ended, limit_seconds=90)
    return job


def leave_a_stray(origin: SampleOrigin, destination: Path) -> Path:
    """An image that an upload stored before it died."""
    row, wanted = next((place, row) for place, row in enumerate(origin.corpus.rows[500:], 500) if not row.kind.reason)
    with urllib.request.urlopen(wanted.url(origin.base_url), timeout=10) as answer:
        body, kind = answer.read(), answer.headers["Content-Type"].removeprefix("image/").replace("jpeg", "jpg")
    stray = destination / f"data/r000-000001/{row:09d}.{kind}"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(body)
    return stray


async def test_redriven_chunks_complete_their_job_and_its_dataset(
    system: System, board: Board, origin: SampleOrigin, admin_key: str, tmp_path: Path
) -> None:
    destination, corpus = tmp_path / "dataset", origin.corpus
    truth = Counter(row.kind.reason or "" for row in corpus.rows)
    job = await failed_by_crashes(system, board, origin, destination)
    assert await board.job_state(job) is JobState.FAILED
    assert indexed(destination) == {
        "r000-000000.parquet": Counter(chunk_failed=500),
        "r000-000001.parquet": Counter(chunk_failed=10),
    }
    stray = leave_a_stray(origin, destination)

    with system.running("downloader", "validator", "uploader", "scheduler", "gateway") as (*_, scheduler, gateway):
        api = f"http://127.0.0.1:{gateway.api_port}"
        await until("the alert's metric tells both", lambda: tells_failed(scheduler, 2.0))
        first, second = await asyncio.to_thread(look_and_redrive_one_twice, api, admin_key, str(job))
        await until("the job has ended again", lambda: ended_with(board, job, JobState.COMPLETED_WITH_FAILURES))
        assert set(indexed(destination)) == {"r000-000000.parquet", "r000-000001-1.parquet"}
        assert stray.is_file(), "what lay there was adopted"
        assert (destination / "_SUCCESS").is_file()
        assert listed_objects_exist(destination)
        assert loaded_images(destination, tmp_path / "half") == sum(not row.kind.reason for row in corpus.rows[500:])

        await asyncio.to_thread(redrive_all_of, api, admin_key, str(job))
        await until("the job is whole", lambda: ended_with(board, job, JobState.COMPLETED))
        await until("there is nothing to be alerted to", lambda: tells_failed(scheduler, 0.0))

    assert set(indexed(destination)) == {"r000-000000-1.parquet", "r000-000001-1.parquet"}
    assert sum(indexed(destination).values(), Counter()) == truth
    counts = await board.one("SELECT counts FROM jobs WHERE id = :job", job=job)
    assert Counter({"": counts["accepted"], **counts["rejected"]}) == truth
    assert (destination / "_SUCCESS").is_file()
    assert listed_objects_exist(destination)
    assert loaded_images(destination, tmp_path / "whole") == truth[""]
    assert {row.key for row in await board.run("SELECT key FROM objects")} == {
        *(f"index/r000-00000{place}-1.parquet" for place in (0, 1)),
        *(f"data/r000-00000{place}/metadata.parquet" for place in (0, 1)),
    }
    moves = (await board.histories())[first]
    assert moves.count(("failed", "pending")) == 1
    assert ("uploading", "cleaning") in moves
    assert await board.held_slots() == set()
    assert first != second


def look_and_redrive_one_twice(api: str, key: str, job: str) -> tuple[int, int]:
    """Redrives the little chunk; which two chunks there were, it first."""
    with Client(api, key) as client:
        little, big = client.failed_chunks(job)
        assert (little.rows, little.stage, little.error_code, little.crashes) == (10, "upload", "worker_lost", 3)
        assert client.failed_chunk(big.id).history[-1].to_state == "failed"
        assert client.redrive(FailedChoice(chunk=little.id)).chunks == 1
        with pytest.raises(ConflictError) as refused:
            client.redrive(FailedChoice(chunk=little.id))
        assert refused.value.code == "chunk_not_failed"
        return little.id, big.id


def redrive_all_of(api: str, key: str, job: str) -> None:
    with Client(api, key) as client:
        assert client.redrive(FailedChoice(job=job, code="worker_lost")).chunks == 1
        assert list(client.failed_chunks(job)) == []


async def ended_with(board: Board, job: Any, state: JobState) -> bool:
    return await board.job_state(job) is state


async def tells_failed(scheduler: Service, chunks: float) -> bool:
    told = await asyncio.to_thread(scheduler.metric, "pixcrawler_chunks_failed_open ")
    return "pixcrawler_chunks_failed_open " in scheduler.get("/metrics")[1] and told == chunks
