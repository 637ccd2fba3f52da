"""A worker is killed at each step of its chunk: another one does it again, with the same result."""

import itertools

import pytest

from shared.db import failed
from shared.db.failed import Choice
from shared.db.session import transaction
from shared.pipeline import DOWNLOAD, PIPELINE, UPLOAD, VALIDATE, JobState, Stage
from tests.faults.world import World
from tests.invariants import objects_do_not_match

pytestmark = pytest.mark.timeout(300)

STEPS = ("claimed", "progress", "result", "committed")
#: Run by `make test`: each step and each stage once.
SHORT = {(DOWNLOAD, "committed"), (VALIDATE, "claimed"), (UPLOAD, "progress")}
CASES = [
    pytest.param(stage, step, id=f"{stage.name}-{step}", marks=[] if (stage, step) in SHORT else pytest.mark.faults)
    for stage, step in itertools.product(PIPELINE, STEPS)
]


@pytest.mark.parametrize(("stage", "step"), CASES)
async def test_a_worker_killed_at_any_step_costs_nothing(ours: World, stage: Stage, step: str) -> None:
    ours.arm(stage.service, f"{stage.name}.{step}:kill")
    job = await ours.submit()
    await ours.is_reached(f"{stage.name}.{step}")

    ours.mend()

    await ours.has_kept_its_promises(job)


@pytest.mark.faults
async def test_a_worker_killed_before_it_closed_its_chunk_leaves_that_to_the_janitor(ours: World) -> None:
    ours.arm("uploader", "close.removed:kill")
    job = await ours.submit()
    await ours.is_reached("close.removed")

    ours.mend()

    await ours.has_kept_its_promises(job)


@pytest.mark.faults
async def test_what_a_chunk_had_stored_before_it_failed_goes_when_it_is_dropped(ours: World) -> None:
    ours.arm("uploader", "upload.progress:die:40:always")
    job = await ours.submit(400)
    await ours.has_ended(job)
    place = await ours.destination(job)
    assert objects_do_not_match(place), "images were stored, and no row names them"

    async with transaction(ours.board.engine) as connection:
        await failed.drop(connection, Choice(job=job))

    await ours.has_kept_its_promises(job, state=JobState.FAILED)
    ours.remove("uploader")
