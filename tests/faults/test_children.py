"""A worker's child dies, by the kernel's hand or of its chunk: its parent lives on, and the chunk is not lost."""

import os
import signal

import psutil
import pytest

from shared.pipeline import PIPELINE, VALIDATE, JobState, Stage
from tests.faults.world import World
from tests.invariants import result_of

pytestmark = [pytest.mark.timeout(300), pytest.mark.faults]

POISON = 1


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
async def test_a_child_that_is_killed_is_replaced_and_its_chunk_done_again(ours: World, stage: Stage) -> None:
    worker = ours.arm(stage.service, f"{stage.name}.progress:die")
    job = await ours.submit()
    await ours.is_reached(f"{stage.name}.progress")

    await ours.has_kept_its_promises(job)

    assert worker.process.poll() is None
    assert await ours.crashes(job) == 1


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
async def test_a_chunk_that_kills_every_worker_fails_alone(ours: World, stage: Stage) -> None:
    reference = await ours.reference(1_100)
    ours.arm(stage.service, f"{stage.name}.claimed@{POISON}:die:1:always")
    job = await ours.submit()
    await ours.is_reached(f"{stage.name}.claimed")

    await ours.has_kept_its_promises(job, state=JobState.COMPLETED_WITH_FAILURES)

    ours.remove(stage.service)
    ended = await ours.board.run(
        "SELECT state, error_code, first_row, rows FROM chunks WHERE job_id = :job ORDER BY ordinal", job=job
    )
    assert [chunk.state for chunk in ended] == ["completed", "failed", "completed"]
    lost = ended[POISON]
    assert lost.error_code == "worker_lost"
    for row, whole in zip(result_of(await ours.destination(job)), reference.rows, strict=True):
        if lost.first_row <= whole["row"] < lost.first_row + lost.rows:
            assert (row["reason"], row["path"]) == ("chunk_failed", None)
        else:
            assert row == whole


@pytest.mark.faults
async def test_a_chunk_whose_claim_goes_wrong_every_time_fails_alone(ours: World) -> None:
    ours.arm("downloader", f"download.claiming@{POISON}:bug:1:always")
    job = await ours.submit()
    await ours.is_reached("download.claiming")

    await ours.has_kept_its_promises(job, state=JobState.COMPLETED_WITH_FAILURES)

    ours.remove("downloader")
    ended = await ours.board.run(
        "SELECT state, error_code, attempt FROM chunks WHERE job_id = :job ORDER BY ordinal", job=job
    )
    assert [chunk.state for chunk in ended] == ["completed", "failed", "completed"]
    assert (ended[POISON].error_code, ended[POISON].attempt) == ("FailPointReached", 3)


async def test_a_decoder_killed_under_an_image_costs_no_image(ours: World) -> None:
    worker = ours.arm("validator", f"{VALIDATE.name}.progress:freeze")
    job = await ours.submit()
    await ours.is_reached(f"{VALIDATE.name}.progress")
    for decoder in decoders_of(worker.process.pid):
        decoder.send_signal(signal.SIGKILL)

    ours.wake("validator")

    await ours.has_kept_its_promises(job)
    assert await ours.crashes(job) == 0, "the worker itself went on"


def decoders_of(parent: int) -> list[psutil.Process]:
    """The decode children of a worker."""
    below = psutil.Process(parent).children(recursive=True)
    return [process for process in below if "validator.decode" in process.cmdline() and process.pid != os.getpid()]
