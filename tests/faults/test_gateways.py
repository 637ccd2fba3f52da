"""The gateway is killed while a client talks to it: the client asks again, and there is one list and one job."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.credentials import Scope
from gateway.keys import create
from pixcrawler.client import Client
from pixcrawler.models import Destination, JobRequest, ListOptions, Recipe, Source
from pixcrawler.retry import Retries
from shared.pipeline import Tier
from tests.faults.world import ROWS, SMALL_TOO, World
from tests.proxy import Proxy
from tests.servers import free_port

pytestmark = pytest.mark.timeout(300)

#: Longer than a gateway needs to start: a hundred tries, half a second apart.
PATIENCE, PAUSE_SECONDS = Retries(attempts=100, total_seconds=float("inf")), 0.5


@pytest.fixture
def port(ours: World) -> Iterator[dict[str, str]]:
    """The variable that gives every gateway of a test the same port, as behind a load balancer."""
    yield {"PIXCRAWLER_LISTEN_PORT": str(free_port())}
    ours.remove("gateway")


@pytest.fixture
async def client(ours: World, port: dict[str, str]) -> AsyncIterator[Client]:
    scopes = (Scope.JOBS_READ, Scope.JOBS_WRITE)
    key = await create(ours.board.engine, tenant="client", tier=Tier.FREE, name="faults", scopes=scopes)
    url = f"http://127.0.0.1:{port['PIXCRAWLER_LISTEN_PORT']}"
    with Client(url, key, retries=PATIENCE, sleep=lambda seconds: time.sleep(min(seconds, PAUSE_SECONDS))) as opened:
        yield opened


async def test_a_list_whose_gateway_is_killed_in_mid_upload_is_sent_again(
    ours: World, port: dict[str, str], client: Client, tmp_path: Path
) -> None:
    urls = tmp_path / "urls.csv"
    rows = [f"{ours.origin.url(f'/p/{number}')},{'x' * 3000}\n" for number in range(ROWS)]
    urls.write_text("".join(["url,remark\n", *rows]))
    ours.arm("gateway", "gateway.block:kill:2", **port)
    sending = asyncio.create_task(asyncio.to_thread(client.upload, urls))
    await ours.is_reached("gateway.block")

    ours.start("gateway", **port)

    manifest = await sending
    assert manifest.size_bytes == urls.stat().st_size
    assert await ours.board.one("SELECT count(*) FROM uploads WHERE id = :id", id=manifest.id) == 1
    request = request_for(ours, Source(manifest_id=manifest.id), ListOptions(url_col="url"))
    submission = await asyncio.to_thread(client.submit, request)
    ours.expect(submission.job.id, ROWS)
    await ours.has_kept_its_promises(submission.job.id)


@pytest.mark.faults
async def test_a_job_whose_gateway_is_killed_before_it_answers_is_submitted_once(
    ours: World, port: dict[str, str], client: Client
) -> None:
    rows = [{"url": ours.origin.url(f"/p/{number}")} for number in range(ROWS)]
    ours.arm("gateway", "gateway.committed:kill", **port)
    request = request_for(ours, Source(rows=rows), ListOptions())
    submitting = asyncio.create_task(asyncio.to_thread(client.submit, request))
    await ours.is_reached("gateway.committed")

    ours.start("gateway", **port)

    submission = await submitting
    assert not submission.is_new
    place = request.destination.url
    made = "SELECT count(*) FROM jobs JOIN datasets ON datasets.id = dataset_id WHERE destination = :place"
    assert await ours.board.one(made, place=place) == 1
    ours.expect(submission.job.id, ROWS)
    await ours.has_kept_its_promises(submission.job.id)


@pytest.mark.faults
async def test_a_job_whose_commit_is_not_answered_is_submitted_once(
    ours: World, port: dict[str, str], client: Client
) -> None:
    rows = [{"url": ours.origin.url(f"/p/{number}")} for number in range(ROWS)]
    request = request_for(ours, Source(rows=rows), ListOptions())
    with Proxy(ours.postgres.port) as way:
        ours.start("gateway", PIXCRAWLER_DATABASE_URL=ours.database_through(way), **port)
        way.lose_answer_to(b"COMMIT", after=b"INSERT INTO jobs")

        submission = await asyncio.to_thread(client.submit, request)

        assert way.has_lost_answer
        assert not submission.is_new, "the client asked again, and was told of the one it had made"
        ours.expect(submission.job.id, ROWS)
        await ours.has_kept_its_promises(submission.job.id)
    made = "SELECT count(*) FROM jobs JOIN datasets ON datasets.id = dataset_id WHERE destination = :place"
    assert await ours.board.one(made, place=request.destination.url) == 1


def request_for(ours: World, source: Source, options: ListOptions) -> JobRequest:
    place = ours.system.folder / f"out-client-{time.monotonic_ns()}"
    recipe = Recipe.model_validate_json(SMALL_TOO)
    return JobRequest(source=source, list=options, destination=Destination(url=str(place)), recipe=recipe)
