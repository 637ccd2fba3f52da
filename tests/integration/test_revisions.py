"""A dataset that grows, through the running services: rows are retried, others appended, and one truth is left."""

import io
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import SecretStr

from gateway.credentials import Scope
from gateway.keys import create
from pixcrawler import AsyncClient, ConflictError, JobState, NotFoundError, Source
from pixcrawler.models import AppendRequest
from shared.db.session import open_engine
from shared.pipeline import Tier
from tests.core import Board, board_at
from tests.images import jpeg
from tests.invariants import objects_do_not_match
from tests.origin import Origin, Request, Wire
from tests.system import System

ROWS = 505  # a chunk and a little one
LATE = (3, 77, 500, 504)  # fail at first
PATIENCE_SECONDS = 120.0

pytestmark = pytest.mark.timeout(240)


class Pictures:
    """An origin's pages: a picture of its own for each number, some of which fail at first, and one is always gone."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.is_mended = False
        for number in range(ROWS + 5):
            origin.handlers[f"/{number}.jpg"] = self._serve

    def url(self, number: int) -> str:
        return self.origin.url(f"/{number}.jpg")

    async def _serve(self, request: Request, wire: Wire) -> None:
        number = int(request.path[1:-4])
        if number == 9:
            await wire.reply(b"gone", status=404)
        elif number in LATE and not self.is_mended:
            await wire.reply(b"sorry", status=503)
        else:
            await wire.reply(jpeg(64 + number % 32, 64 + number // 32))


@pytest.fixture
async def pictures() -> AsyncIterator[Pictures]:
    async with Origin() as origin:
        yield Pictures(origin)


@pytest.fixture
def system(database_url: str, redis_server_url: str, tmp_path: Path, pictures: Pictures) -> System:
    allowed = {"PIXCRAWLER_ALLOW_CIDRS": '["127.0.0.1/32"]', "PIXCRAWLER_ALLOW_PORTS": "[0]"}
    return System(database_url, redis_server_url, tmp_path, extra=allowed)


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


async def key_of(board: Board, job: UUID, database_url: str) -> str:
    """A key of the job's tenant."""
    name = await board.one("SELECT name FROM tenants WHERE id = (SELECT tenant_id FROM jobs WHERE id = :job)", job=job)
    engine = open_engine(SecretStr(database_url), connections=1)
    key = await create(engine, tenant=name, tier=Tier.FREE, name="test", scopes=(Scope.JOBS_READ, Scope.JOBS_WRITE))
    await engine.dispose()
    return key


def newest_rows(destination: Path) -> dict[int, dict[str, Any]]:
    """The dataset's rows by number, each as its newest revision has it."""
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted((destination / "index").glob("*.parquet")):
        rows |= {row["row"]: row for row in pq.read_table(path).to_pylist()}
    return rows


def outcomes(destination: Path) -> Counter[str]:
    return Counter(row["reason"] or "" for row in newest_rows(destination).values())


def papers(destination: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((destination / "dataset.json").read_text())
    return found


def totals(destination: Path) -> Counter[str]:
    told = papers(destination)["totals"]
    return Counter({"": told["accepted"], **told["rejected_by_reason"]})


async def test_a_dataset_is_retried_and_appended_to_without_fetching_the_rest_again(
    system: System, board: Board, pictures: Pictures, database_url: str, tmp_path: Path
) -> None:
    destination = tmp_path / "cats"
    with system.running("downloader", "validator", "uploader", "scheduler", "gateway") as (*_, gateway):
        urls = [pictures.url(number) for number in range(ROWS)]
        first = await board.submit(
            system.spool, urls, destination, recipe='{"attempts": 1, "robots": false, "thumbnails": 32}'
        )
        key = await key_of(board, first, database_url)
        async with AsyncClient(f"http://127.0.0.1:{gateway.api_port}", key) as client:
            built = await client.wait(first, timeout_seconds=PATIENCE_SECONDS)
            assert (built.accepted, built.rejected) == (ROWS - 5, {"http_not_found": 1, "http_server_error": 4})
            before = Counter(pictures.origin.hits)
            pictures.is_mended = True

            retried = (await client.retry(first)).job
            done = await client.wait(retried.id, timeout_seconds=PATIENCE_SECONDS)

            fetched = Counter(pictures.origin.hits) - before
            assert fetched == Counter({f"/{number}.jpg": 1 for number in LATE}), "nothing else is fetched again"
            assert (done.state, done.rows, done.accepted) == (JobState.COMPLETED, 4, 4)
            assert outcomes(destination) == totals(destination) == Counter({"": ROWS - 1, "http_not_found": 1})
            assert {row for row, found in newest_rows(destination).items() if found["revision"] == 1} == set(LATE)
            assert (destination / "_SUCCESS").read_text() == "1\n"
            with pytest.raises(ConflictError) as nothing_left:
                await client.retry(first)
            assert nothing_left.value.code == "nothing_to_retry"

            more = Source(rows=[{"url": pictures.url(number)} for number in (3, ROWS, ROWS + 1)])
            appended = (await client.append(first, AppendRequest(source=more))).job
            grown = await client.wait(appended.id, timeout_seconds=PATIENCE_SECONDS)
            told = await client.statistics(first)
            small = [
                await client.thumbnail(job, row) for job, row in ((first, 0), (retried.id, 3), (appended.id, ROWS + 1))
            ]
            with pytest.raises(NotFoundError) as without:
                await client.thumbnail(first, 9)
            assert without.value.code == "no_thumbnail"

    assert (grown.revision, grown.accepted, grown.rejected) == (2, 2, {"duplicate": 1})
    rows = newest_rows(destination)
    assert sorted(rows) == list(range(ROWS + 3))
    assert all(max(Image.open(io.BytesIO(body)).size) == 32 for body in small)
    assert all((row["thumbnail_path"] is None) == (row["path"] is None) for row in rows.values())
    assert objects_do_not_match(destination) == []
    assert rows[ROWS]["duplicate_of"] == 3, "what a retry stored is respected"
    assert totals(destination) == outcomes(destination) == Counter({"": ROWS + 1, "http_not_found": 1, "duplicate": 1})
    assert (told.revision, told.rows, told.rejected_by_reason) == (2, ROWS + 3, {"duplicate": 1, "http_not_found": 1})
    assert told.width is not None
    assert (told.width.count, told.width.smallest) == (ROWS + 1, 64)
    assert told.hosts.accepted[0].rows == ROWS + 1
    assert all(stage.working_seconds > 0 for stage in told.stages.values())
    assert len(told.stages) == 3
    assert papers(destination)["revision"] == 2
    assert (destination / "_SUCCESS").read_text() == "2\n"
    assert sum(1 for _ in (destination / "data").rglob("*.jpg")) == ROWS + 1
