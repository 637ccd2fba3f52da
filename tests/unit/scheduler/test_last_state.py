"""How a job ends, by what its chunks did: a table."""

from dataclasses import replace
from uuid import uuid4

import pytest

from scheduler.finisher import last_state
from shared.db.lifecycle import Finished
from shared.pipeline import JobState
from shared.recipe import Recipe

JOB = Finished(
    job_id=uuid4(),
    dataset_id=uuid4(),
    revision=0,
    name="",
    state=JobState.FINISHING,
    recipe=Recipe(),
    source={},
    counts={"accepted": 0, "rejected": {}},
    error_code=None,
    planned_rows=10,
    destination="/nowhere",
    endpoint=None,
    failed_chunks=0,
)


@pytest.mark.parametrize(
    ("state", "accepted", "failed_chunks", "error_code", "expected"),
    [
        (JobState.FINISHING, 9, 0, None, JobState.COMPLETED),
        # every row rejected is an answer too
        (JobState.FINISHING, 0, 0, None, JobState.COMPLETED),
        # a chunk failed, or the list could not be read to its end
        (JobState.FINISHING, 9, 1, None, JobState.COMPLETED_WITH_FAILURES),
        (JobState.FINISHING, 9, 0, "bad_source", JobState.COMPLETED_WITH_FAILURES),
        # and nothing came of it
        (JobState.FINISHING, 0, 1, None, JobState.FAILED),
        (JobState.FINISHING, 0, 0, "bad_source", JobState.FAILED),
        # withdrawn, whatever was stored by then
        (JobState.CANCELLING, 9, 1, None, JobState.CANCELLED),
    ],
)
def test_how_a_job_ends(
    state: JobState, accepted: int, failed_chunks: int, error_code: str | None, expected: JobState
) -> None:
    job = replace(
        JOB,
        state=state,
        counts={"accepted": accepted, "rejected": {}},
        failed_chunks=failed_chunks,
        error_code=error_code,
    )

    assert last_state(job) is expected
