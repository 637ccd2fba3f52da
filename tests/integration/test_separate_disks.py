"""Stages on hosts that share no volume: what one leaves for the next lies in an object store."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from azure.storage.blob import BlobServiceClient

from pixcrawler.sample import SAMPLE_RECIPE, Origin, sample_origin
from shared.pipeline import ChunkState, JobState
from tests.core import Board, board_at
from tests.system import System, until

pytestmark = pytest.mark.timeout(240)

ROWS = 60


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with sample_origin(rows=ROWS) as running:
        yield running


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
def lake(azurite: str) -> Iterator[BlobServiceClient]:
    with BlobServiceClient.from_connection_string(azurite) as client:
        client.create_container("between")
        yield client
        client.delete_container("between")


@pytest.fixture
def system(
    database_url: str, redis_url: str, tmp_path: Path, origin: Origin, azurite: str, lake: BlobServiceClient
) -> System:
    extra = {
        **origin.extra_environment,
        "PIXCRAWLER_ALLOW_PORTS": "[0]",
        "PIXCRAWLER_WORK_URL": "az://between/work",
        "PIXCRAWLER_AZURE_CONNECTION_STRING": azurite,
    }
    return System(database_url, redis_url, tmp_path, extra=extra)


def blobs(lake: BlobServiceClient) -> list[str]:
    return sorted(lake.get_container_client("between").list_blob_names())


async def test_a_chunk_passes_from_disk_to_disk_and_leaves_nothing_behind(
    system: System, board: Board, origin: Origin, lake: BlobServiceClient
) -> None:
    urls = [row.url(origin.base_url) for row in origin.corpus.rows[:ROWS]]
    disks = {service: str(system.folder / "disks" / service) for service in ("downloader", "validator", "uploader")}
    with system.running("scheduler"):
        job = await board.submit(system.spool, urls, system.folder / "dataset", recipe=json.dumps(SAMPLE_RECIPE))

        with system.running("downloader", WORK_DIR=disks["downloader"]) as (downloader,):
            await until("the chunk is downloaded", lambda: _is_ready(board, job, ChunkState.VALIDATE_READY))
            await until("its disk is empty", lambda: _is_empty(disks["downloader"]))
            assert downloader.stop() == 0  # its host, and its disk, are gone
        assert [name.rpartition("/")[2] for name in blobs(lake)] == ["fetched.arrow", "pack"]

        with system.running("validator", WORK_DIR=disks["validator"]) as (validator,):
            await until("the chunk is judged", lambda: _is_ready(board, job, ChunkState.UPLOAD_READY))
            assert validator.stop() == 0
        with system.running("uploader", WORK_DIR=disks["uploader"]):
            await until("the job has ended", lambda: board.has_ended(job))

            assert await board.job_state(job) is JobState.COMPLETED
            counts = await board.one("SELECT counts FROM jobs WHERE id = :job", job=job)
            truth = [row.kind.reason for row in origin.corpus.rows[:ROWS]]
            assert counts["accepted"] == truth.count(None)
            assert blobs(lake) == []
            for disk in disks.values():
                await until("its disk is empty", partial(_is_empty, disk))


async def _is_empty(disk: str) -> bool:
    return await asyncio.to_thread(_files_below, Path(disk)) == []


def _files_below(disk: Path) -> list[Path]:
    return [path for path in disk.rglob("*") if path.is_file() and path.name != ".janitor"]


async def _is_ready(board: Board, job: UUID, state: ChunkState) -> bool:
    rows = await board.run("SELECT state FROM chunks WHERE job_id = :job", job=job)
    return bool(rows) and all(row.state == state for row in rows)
