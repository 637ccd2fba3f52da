"""A service is killed at each step of a refresh: the dataset ends as if nothing had happened."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from shared.db import revisions
from shared.db.revisions import NewRevision
from shared.db.session import transaction
from shared.pipeline import JobKind, JobState
from tests.dataset import is_consistent, rows_of
from tests.faults.world import OTHERS, World, jpeg_of
from tests.invariants import chunks_are_unsettled, objects_do_not_match, records_do_not_match
from tests.system import until

pytestmark = [pytest.mark.timeout(400), pytest.mark.faults]

ROWS = 600
CHANGED = frozenset({0, 55, 499, 500, 599})
POINTS = (
    ("scheduler", "plan.stored"),
    ("scheduler", "plan.inserted"),
    ("downloader", "download.progress"),
    ("downloader", "download.committed"),
    ("validator", "validate.claimed"),
    ("validator", "validate.committed"),
    ("uploader", "upload.progress"),
    ("uploader", "upload.result"),
    ("uploader", "close.removed"),
    ("scheduler", "renew.cut"),
    ("scheduler", "renew.indexed"),
    ("scheduler", "renew.dropped"),
    ("scheduler", "finish.published"),
)


@pytest.fixture
def changing(ours: World) -> Iterator[World]:
    """The world, in which pictures are what they were again when the test has ended."""
    yield ours
    ours.origin.changed = frozenset()


async def refresh_of(ours: World, job: UUID) -> UUID:
    """A job that refreshes another one's dataset."""
    (row,) = await ours.board.run("SELECT tenant_id, dataset_id, recipe, source FROM jobs WHERE id = :job", job=job)
    source = {**row.source, "gone": "keep"}
    new = NewRevision(
        tenant_id=row.tenant_id,
        dataset_id=row.dataset_id,
        kind=JobKind.REFRESH,
        name="",
        recipe=row.recipe,
        source=source,
        digest="again",
    )
    async with transaction(ours.board.engine) as connection:
        added = await revisions.add(connection, new)
    assert added is not None
    return added.job_id


def is_loose(place: Path) -> bool:
    """Whether images are files of their own."""
    return any(place.rglob("metadata.parquet"))


def digest_of(number: int) -> str:
    return hashlib.sha256(jpeg_of(number)).hexdigest()


async def has_found_what_changed(ours: World, job: UUID, place: Path, before: dict[int, object]) -> None:
    """Waits until the refresh has ended well; fails with whatever does not hold then."""
    await ours.has_ended(job)
    assert await ours.board.job_state(job) is JobState.COMPLETED
    wrong = ["never looked"]

    async def is_well() -> bool:
        nonlocal wrong
        wrong = objects_do_not_match(place) if is_loose(place) else []
        wrong += await records_do_not_match(ours.board, job, place)
        wrong += await chunks_are_unsettled(ours.board, job)
        return not wrong

    try:
        await until("what is stored is as recorded", is_well, limit_seconds=45)
    except AssertionError:
        raise AssertionError("\n".join(wrong)) from None
    is_consistent(place)
    after = {row: found["sha256"] for row, found in rows_of(place).items() if found["reason"] is None}
    assert after == {row: digest_of(row + OTHERS) if row in CHANGED else digest for row, digest in before.items()}


@pytest.mark.parametrize("output_format", ["files", "webdataset"])
@pytest.mark.parametrize(("service", "point"), POINTS, ids=[point for _, point in POINTS])
async def test_a_service_killed_at_any_step_of_a_refresh_costs_nothing(
    changing: World, service: str, point: str, output_format: str
) -> None:
    ours = changing
    recipe = f'{{"output_format": "{output_format}", "image_format": "original", "thumbnails": 32}}'
    job = await ours.submit(ROWS, recipe=recipe)
    await ours.has_ended(job)
    place = await ours.destination(job)
    before = {row: found["sha256"] for row, found in rows_of(place).items() if found["reason"] is None}
    ours.origin.changed = CHANGED & set(before)
    ours.arm(service, f"{point}:kill")

    refresh = await refresh_of(ours, job)
    await ours.is_reached(point)
    ours.mend()

    await has_found_what_changed(ours, refresh, place, before)
