"""From an error to a decision: a table."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from shared.chunk import Claim, SourceRef
from shared.db.session import DatabaseUnavailable
from shared.errors import (
    BadSource,
    ChunkError,
    ClaimLost,
    PermanentError,
    StoreRefused,
    StoreUnavailable,
    TransientError,
    WorkAreaFull,
    WorkAreaGone,
)
from shared.pipeline import DOWNLOAD, PIPELINE, UPLOAD, Outcome, Stage
from shared.policy import BeginAnew, Decision, End, HandBack, JobCancelled, LetGo, decide
from shared.recipe import Recipe

CLAIM = Claim(
    chunk_id=1,
    job_id=uuid4(),
    dataset_id=uuid4(),
    revision=0,
    ordinal=0,
    first_row=0,
    rows=1,
    recipe=Recipe(),
    destination="/nowhere",
    endpoint=None,
    source=SourceRef(key="plan", offset=0, length=0),
    cell="main",
    fence=1,
    work_fence=None,
    attempt=1,
    crashes=0,
)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        # somebody else has it
        (ClaimLost(), LetGo()),
        # the client does not want it any more
        (JobCancelled(), End(Outcome.CANCELLED)),
        # the worker is asked to stop: another takes it at once
        (asyncio.CancelledError(), HandBack(seconds(0), burns_attempt=False)),
        # nobody's fault: an outage's pause, and no attempt burned
        (TransientError(), HandBack(seconds(5), burns_attempt=False)),
        (StoreUnavailable(), HandBack(seconds(5), burns_attempt=False)),
        (WorkAreaFull(), HandBack(seconds(5), burns_attempt=False)),
        (DatabaseUnavailable(), HandBack(seconds(5), burns_attempt=False)),
        # all chunks of the job would meet it
        (StoreRefused(), HandBack(seconds(0), burns_attempt=False, pauses_job=True)),
        # no retry can mend it
        (PermanentError(), End(Outcome.FAILED)),
        (BadSource(), End(Outcome.FAILED)),
        # what earlier stages left is gone
        (WorkAreaGone(), BeginAnew()),
        # the chunk's own trouble, and bugs: an attempt is burned
        (ChunkError(), HandBack(seconds(5), burns_attempt=True)),
        (ValueError(), HandBack(seconds(5), burns_attempt=True)),
        (MemoryError(), HandBack(seconds(5), burns_attempt=True)),
        (KeyError("x"), HandBack(seconds(5), burns_attempt=True)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_done_about_an_error(error: BaseException, decision: Decision) -> None:
    for stage in PIPELINE:
        assert decide(stage, CLAIM, error, chance=0) == decision


@pytest.mark.parametrize(
    ("stage", "attempt", "is_given_up"),
    [(DOWNLOAD, 1, False), (DOWNLOAD, 2, False), (DOWNLOAD, 3, True), (UPLOAD, 4, False), (UPLOAD, 5, True)],
)
def test_a_chunk_fails_when_its_attempts_are_used_up(stage: Stage, attempt: int, is_given_up: bool) -> None:
    decision = decide(stage, replace(CLAIM, attempt=attempt), ChunkError())

    assert (decision == End(Outcome.FAILED)) == is_given_up


def test_trouble_that_is_nobodys_fault_never_ends_a_chunk() -> None:
    decision = decide(UPLOAD, replace(CLAIM, attempt=1000), StoreUnavailable())

    assert isinstance(decision, HandBack)
    assert not decision.burns_attempt


@pytest.mark.parametrize(("restarts", "is_given_up"), [(0, False), (2, False), (3, True)])
def test_a_chunk_begins_anew_only_so_often(restarts: int, is_given_up: bool) -> None:
    last = replace(CLAIM, restarts=restarts, attempt=DOWNLOAD.retry.attempts)

    assert decide(DOWNLOAD, last, WorkAreaGone()) == (End(Outcome.FAILED) if is_given_up else BeginAnew())


@pytest.mark.parametrize("attempt", [1, 2])
def test_retries_of_a_chunk_are_spread_over_half_their_delay(attempt: int) -> None:
    claim, delay = replace(CLAIM, attempt=attempt), DOWNLOAD.retry.delay(attempt)

    soonest = decide(DOWNLOAD, claim, ChunkError(), chance=0)
    latest = decide(DOWNLOAD, claim, ChunkError(), chance=1)

    assert isinstance(soonest, HandBack)
    assert isinstance(latest, HandBack)
    assert (soonest.pause, latest.pause) == (delay / 2, delay)


def test_retries_after_an_outage_are_spread_over_three_of_its_delays() -> None:
    pauses = set()
    for _ in range(200):
        decision = decide(DOWNLOAD, CLAIM, StoreUnavailable())
        assert isinstance(decision, HandBack)
        pauses.add(decision.pause)

    assert seconds(5) <= min(pauses) < max(pauses) <= seconds(15)
    assert len(pauses) > 100
