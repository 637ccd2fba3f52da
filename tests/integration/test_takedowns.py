"""A takedown through the running services: what it names is neither fetched nor stored, nor left if it is to go."""

import asyncio
import hashlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gateway.credentials import Scope
from gateway.keys import create
from pixcrawler.sample import SAMPLE_RECIPE, sample_origin
from pixcrawler.sample import Origin as SampleOrigin
from shared.blocklist import Kind, normalised
from shared.db import blocked
from shared.db.session import transaction
from shared.pipeline import Tier
from tests.core import board_at
from tests.system import System, until

ROWS = 40

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def origin() -> Iterator[SampleOrigin]:
    with sample_origin(rows=ROWS) as running:
        yield running


def digest_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return hashlib.sha256(answer.read()).hexdigest()


async def test_what_was_taken_down_reaches_no_dataset(
    database_url: str, redis_server_url: str, tmp_path: Path, origin: SampleOrigin
) -> None:
    allow_all_ports = {**origin.extra_environment, "PIXCRAWLER_ALLOW_PORTS": "[0]"}
    system = System(database_url, redis_server_url, tmp_path, extra=allow_all_ports)
    good = [row for row in origin.corpus.rows if row.kind.reason is None]
    by_url, by_digest = good[0].url(origin.base_url), good[1].url(origin.base_url)
    destination = tmp_path / "dataset"

    async with board_at(database_url) as board:
        async with transaction(board.engine) as connection:
            for kind, value in ((Kind.URL, by_url), (Kind.SHA256, digest_of(by_digest))):
                await blocked.add(connection, kind=kind, value=normalised(kind, value), note="")
        with system.running("downloader", "validator", "uploader", "scheduler"):
            urls = [row.url(origin.base_url) for row in origin.corpus.rows]
            job = await board.submit(system.spool, urls, destination, recipe=json.dumps(SAMPLE_RECIPE))
            await until("the job has ended", lambda: board.has_ended(job))

    rows = [row for path in (destination / "index").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {row["url"]: row["reason"] for row in rows if row["url"] in (by_url, by_digest)} == {
        by_url: "blocked_host",
        by_digest: "taken_down",
    }
    stored = stored_in(destination)
    assert digest_of(by_url) not in stored
    assert digest_of(by_digest) not in stored
    assert sum(row["reason"] is None for row in rows) == len(good) - 2


async def test_a_purge_by_the_command_reaches_a_finished_dataset(
    database_url: str, redis_server_url: str, tmp_path: Path, origin: SampleOrigin
) -> None:
    system = System(
        database_url, redis_server_url, tmp_path, extra={**origin.extra_environment, "PIXCRAWLER_ALLOW_PORTS": "[0]"}
    )
    good = [row for row in origin.corpus.rows if row.kind.reason is None]
    taken, destination = good[0].url(origin.base_url), tmp_path / "dataset"

    async with board_at(database_url) as board:
        key = await create(board.engine, tenant="operator", tier=Tier.FREE, name="test", scopes=(Scope.ADMIN,))
        services = ("gateway", "downloader", "validator", "uploader", "scheduler")
        with system.running(*services) as (gateway, *_):
            urls = [row.url(origin.base_url) for row in origin.corpus.rows]
            job = await board.submit(system.spool, urls, destination, recipe=json.dumps(SAMPLE_RECIPE))
            await until("the job has ended", lambda: board.has_ended(job))
            stored = destination / path_of(destination, taken)
            unwanted = hashlib.sha256(stored.read_bytes()).hexdigest()
            place = ["--gateway", f"http://127.0.0.1:{gateway.api_port}", "--api-key", key]
            command = [sys.executable, "-m", "pixcrawler.cli", "admin", "takedown", "url", taken, "--purge", *place]
            await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
            await until("it is purged", lambda: board.one("SELECT purged_at IS NOT NULL FROM blocked"))
        counts = await board.one("SELECT counts FROM jobs")

    assert unwanted not in stored_in(destination)
    assert (counts["accepted"], counts["rejected"]["taken_down"]) == (len(good) - 1, 1)
    totals = json.loads((destination / "dataset.json").read_text())["totals"]
    assert (totals["accepted"], totals["rejected_by_reason"]) == (counts["accepted"], counts["rejected"])


def path_of(destination: Path, url: str) -> str:
    """Where the index says that the image of a URL lies."""
    rows = pq.read_table(destination / "index/r000-000000.parquet", columns=["url", "path"]).to_pylist()
    return next(str(row["path"]) for row in rows if row["url"] == url)


def stored_in(destination: Path) -> set[str]:
    """The digests of the images that lie there."""
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in (destination / "data").rglob("*.*")}
