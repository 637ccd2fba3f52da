"""The declaration: which moves are legal, how long retries wait, what a queue is called."""

from datetime import timedelta

import pytest

from shared.pipeline import (
    ALLOWED_MOVES,
    DOWNLOAD,
    FINAL_STATES,
    PIPELINE,
    SLOT_STATES,
    UPLOAD,
    VALIDATE,
    ChunkState,
    RetryPolicy,
    next_stage,
    stage_named,
)

S = ChunkState


@pytest.mark.parametrize(
    ("start", "targets"),
    [
        # admitted, or withdrawn while it waited
        (S.PENDING, {S.DOWNLOAD_READY, S.CLEANING}),
        # stumbled over, claimed, begun anew, or ended without a worker
        (S.DOWNLOAD_READY, {S.DOWNLOAD_READY, S.DOWNLOADING, S.PENDING, S.CLEANING}),
        (S.VALIDATE_READY, {S.VALIDATE_READY, S.VALIDATING, S.PENDING, S.CLEANING}),
        (S.UPLOAD_READY, {S.UPLOAD_READY, S.UPLOADING, S.PENDING, S.CLEANING}),
        # going on, handed on, handed back, begun anew, ended
        (S.DOWNLOADING, {S.DOWNLOADING, S.VALIDATE_READY, S.DOWNLOAD_READY, S.PENDING, S.CLEANING}),
        (S.VALIDATING, {S.VALIDATING, S.UPLOAD_READY, S.VALIDATE_READY, S.PENDING, S.CLEANING}),
        (S.UPLOADING, {S.UPLOADING, S.UPLOAD_READY, S.PENDING, S.CLEANING}),
        # closed, as its outcome says
        (S.CLEANING, {S.COMPLETED, S.FAILED, S.CANCELLED}),
        # only a failed chunk can be driven again
        (S.FAILED, {S.PENDING}),
        (S.COMPLETED, set()),
        (S.CANCELLED, set()),
    ],
)
def test_which_moves_are_legal(start: ChunkState, targets: set[ChunkState]) -> None:
    assert ALLOWED_MOVES[start] == targets


def test_every_state_has_its_moves() -> None:
    assert set(ALLOWED_MOVES) == set(ChunkState)


def test_every_state_can_be_reached_and_left_for_an_end() -> None:
    reached = {S.PENDING}
    while grown := {target for state in reached for target in ALLOWED_MOVES[state]} - reached:
        reached |= grown

    assert reached == set(ChunkState)
    for state in set(ChunkState) - FINAL_STATES:
        assert S.CLEANING in ALLOWED_MOVES[state] or state is S.CLEANING


def test_a_slot_is_held_from_admission_until_the_work_area_is_clean() -> None:
    assert set(ChunkState) - SLOT_STATES == {S.PENDING, S.COMPLETED, S.FAILED, S.CANCELLED}


def test_the_stages_follow_each_other() -> None:
    assert [next_stage(stage) for stage in PIPELINE] == [VALIDATE, UPLOAD, None]
    assert [stage_named(stage.name) for stage in PIPELINE] == list(PIPELINE)


def test_queue_routing_key_and_task_follow_from_the_name() -> None:
    assert (DOWNLOAD.queue, DOWNLOAD.routing_key, DOWNLOAD.task) == (
        "download",
        "download",
        "pixcrawler.download_chunk",
    )
    assert (DOWNLOAD.queue_of("main"), DOWNLOAD.queue_of("rack-2")) == ("download", "download.rack-2")


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [
        # doubled after each
        (1, 10),
        (2, 20),
        (3, 40),
        # never longer than the longest
        (7, 600),
        (1000, 600),
        # a number that should not be harms nobody
        (0, 10),
    ],
)
def test_how_long_a_retry_waits(attempt: int, seconds: int) -> None:
    policy = RetryPolicy(attempts=3, first_delay=timedelta(seconds=10), longest_delay=timedelta(minutes=10))

    assert policy.delay(attempt) == timedelta(seconds=seconds)
