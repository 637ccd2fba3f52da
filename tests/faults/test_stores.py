"""A store that is busy, throttles, hangs, cuts, is full or refuses: uploads wait, and nothing half is ever seen."""

import secrets
from collections.abc import AsyncIterator
from contextlib import closing
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from shared.db import jobs
from shared.db.session import transaction
from shared.pipeline import JobState
from tests.contract.stores import S3_KEY_ID, S3_SECRET, s3_client
from tests.faults.world import World, world
from tests.store_front import StoreFront
from tests.system import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.faults]

#: One chunk and a little one.
ROWS = 520


@pytest.fixture(scope="module")
async def front(s3_server: str) -> AsyncIterator[StoreFront]:
    port = urlsplit(s3_server).port
    assert port
    with StoreFront(port) as front:
        yield front


@pytest.fixture(scope="module")
async def store_world(front: StoreFront, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A world whose services store behind the front."""
    extra = {
        "PIXCRAWLER_S3_ENDPOINT": front.url,
        "PIXCRAWLER_S3_ACCESS_KEY_ID": S3_KEY_ID,
        "PIXCRAWLER_S3_SECRET_ACCESS_KEY": S3_SECRET,
        "PIXCRAWLER_STORE_TIMEOUT_SECONDS": "2",
        "PIXCRAWLER_MAX_CHUNKS": "2",
    }
    async with world(tmp_path_factory.mktemp("stores"), extra) as ours:
        yield ours


@pytest.fixture
def ours(store_world: World, front: StoreFront) -> World:
    front.heal()
    store_world.mend()
    return store_world


@pytest.fixture
def bucket(s3_server: str) -> str:
    name = f"faults-{secrets.token_hex(6)}"
    with closing(s3_client(s3_server)) as client:
        client.create_bucket(Bucket=name)
    return f"s3://{name}/cats"


def mend(ours: World, front: StoreFront) -> None:
    front.heal()
    ours.heal()


async def is_handed_back(ours: World, job: UUID, times: int = 1) -> bool:
    """A chunk of the job went back to wait for the store that often."""
    found = await ours.board.one(
        """SELECT count(*) FROM chunk_events JOIN chunks ON chunks.id = chunk_id
           WHERE job_id = :job AND from_state = 'uploading' AND chunk_events.error_code = 'store_unavailable'""",
        job=job,
    )
    return int(found) >= times


async def attempts(ours: World, job: UUID) -> set[int]:
    rows = await ours.board.run("SELECT attempt FROM chunks WHERE job_id = :job AND state <> 'uploading'", job=job)
    return {row.attempt for row in rows}


AWAY = {
    "busy": lambda front: front.refuse_puts(503, "SlowDown"),
    "throttling": lambda front: front.refuse_puts(429, "TooManyRequests", retry_after=1),
    "full": lambda front: front.refuse_puts(507, "InsufficientStorage"),
    "silent": lambda front: front.hang_puts(after_storing=False),
    "storing and silent": lambda front: front.hang_puts(after_storing=True),
}


@pytest.mark.parametrize("away", AWAY)
async def test_uploads_wait_for_a_store_that_is(ours: World, front: StoreFront, bucket: str, away: str) -> None:
    AWAY[away](front)
    job = await ours.submit(ROWS, destination=bucket)
    await until("the chunk is handed back", lambda: is_handed_back(ours, job), limit_seconds=90)

    assert await attempts(ours, job) <= {0}, "nobody's fault burns no attempt"
    mend(ours, front)

    await ours.has_kept_its_promises(job)


async def test_puts_cut_in_the_middle_leave_nothing_half(ours: World, front: StoreFront, bucket: str) -> None:
    front.cut_puts(times=60)
    job = await ours.submit(ROWS, destination=bucket)

    await ours.has_kept_its_promises(job)
    assert front.troubled == 60


async def test_objects_stored_without_an_answer_are_stored_once(ours: World, front: StoreFront, bucket: str) -> None:
    front.hang_puts(after_storing=True, times=10)
    job = await ours.submit(ROWS, destination=bucket)

    await ours.has_kept_its_promises(job)
    assert front.troubled == 10


async def test_a_slow_store_only_costs_time(ours: World, front: StoreFront, bucket: str) -> None:
    front.slow_puts(0.3)
    job = await ours.submit(ROWS, destination=bucket)

    await ours.has_kept_its_promises(job)


async def test_a_store_that_forbids_pauses_the_job_with_a_reason(ours: World, front: StoreFront, bucket: str) -> None:
    front.refuse_puts(403, "AccessDenied")
    job = await ours.submit(ROWS, destination=bucket)

    async def is_paused() -> bool:
        return await ours.board.job_state(job) is JobState.PAUSED

    await until("the job is paused", is_paused, limit_seconds=60)
    (row,) = await ours.board.run("SELECT tenant_id, error_code, error FROM jobs WHERE id = :job", job=job)
    assert row.error_code == "store_refused"
    assert "check their S3 credentials" in row.error
    mend(ours, front)
    async with transaction(ours.board.engine) as connection:
        assert await jobs.resume(connection, row.tenant_id, job)

    await ours.has_kept_its_promises(job)


#: What the job says then, by which of the two it was last looked at.
TOLD = ("a free slot", "its destination, which does not answer")


async def test_admission_stops_by_itself_while_uploads_wait(ours: World, front: StoreFront, bucket: str) -> None:
    front.refuse_puts(503, "SlowDown")
    job = await ours.submit(1_600, destination=bucket)

    async def is_waiting_for_a_slot() -> bool:
        states = sorted(
            row.state for row in await ours.board.run("SELECT state FROM chunks WHERE job_id=:job", job=job)
        )
        held = {state for state in states if state != "pending"}
        told = await ours.board.one("SELECT waiting_for FROM jobs WHERE id = :job", job=job)
        return states.count("pending") == 2 and held <= {"upload_ready", "uploading"} and told in TOLD

    await until("two chunks wait in their slots, and two outside", is_waiting_for_a_slot, limit_seconds=90)
    mend(ours, front)

    await ours.has_kept_its_promises(job)
