"""How rows done are summed, and that a client never sees them sink."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from gateway.schemas import Refreshed, StageProgress
from gateway.view import later, stage_rows, view
from shared.db.jobs import InFlight, JobRow
from shared.pipeline import ChunkState, JobKind, JobState
from shared.progress import Live
from shared.recipe import Recipe

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
JOB = JobRow(
    id=uuid4(),
    dataset_id=uuid4(),
    revision=0,
    kind=JobKind.BUILD,
    name="cats",
    state=JobState.RUNNING,
    destination="/data/cats",
    endpoint=None,
    recipe=Recipe().model_dump(mode="json"),
    planned_rows=1000,
    is_planned=True,
    accepted=90,
    rejected={"too_small": 10},
    stored_bytes=5,
    waiting_for="",
    error_code=None,
    error=None,
    created_at=BEGUN,
    started_at=BEGUN,
    finished_at=None,
    seen_at=BEGUN + timedelta(seconds=50),
    version=1,
)


def chunk(state: ChunkState, **progress: int) -> InFlight:
    return InFlight(id=1, job_id=JOB.id, state=state, rows=500, progress=progress)


def live(stage: str, done: int) -> dict[int, Live]:
    return {1: Live(stage=stage, done=done, passed=done, size_bytes=0)}


@pytest.mark.parametrize(
    ("held", "figures", "expected"),
    [
        # nothing in flight: what has ended
        ([], {}, (100, 100, 100)),
        # admitted, not begun
        ([chunk(ChunkState.DOWNLOAD_READY)], {}, (100, 100, 100)),
        # the heartbeat's figure alone
        ([chunk(ChunkState.DOWNLOADING, download=30)], {}, (130, 100, 100)),
        # the live figure is newer
        ([chunk(ChunkState.DOWNLOADING, download=30)], live("download", 44), (144, 100, 100)),
        # the live figure is of an earlier attempt
        ([chunk(ChunkState.DOWNLOADING, download=30)], live("download", 7), (130, 100, 100)),
        # a stage behind it is done whole, whatever was last told of it
        ([chunk(ChunkState.VALIDATE_READY, download=499)], live("download", 480), (600, 100, 100)),
        ([chunk(ChunkState.UPLOADING, upload=1)], live("upload", 2), (600, 600, 102)),
        # ended but not closed: its counts come with the close
        ([chunk(ChunkState.CLEANING)], {}, (600, 600, 600)),
        # nonsense from Redis does not go beyond the chunk
        ([chunk(ChunkState.DOWNLOADING)], live("download", 10**9), (600, 100, 100)),
    ],
)
def test_rows_done_are_those_of_ended_chunks_and_the_best_known_of_others(
    held: list[InFlight], figures: dict[int, Live], expected: tuple[int, int, int]
) -> None:
    assert tuple(stage_rows(100, held, figures).values()) == expected


def test_the_rate_is_rows_ended_over_the_time_since_the_start() -> None:
    running = view(JOB, [], {}, base_url="http://x")
    ended = view(replace(JOB, finished_at=BEGUN + timedelta(seconds=10)), [], {}, base_url="http://x")
    waiting = view(replace(JOB, started_at=None), [], {}, base_url="http://x")

    assert (running.images_per_second, ended.images_per_second, waiting.images_per_second) == (2.0, 10.0, None)


def test_no_stage_falls_back_between_two_views_while_sums_are_told_as_they_are() -> None:
    shown = view(JOB, [chunk(ChunkState.DOWNLOADING, download=300)], {}, base_url="http://x")
    redriven = replace(JOB, accepted=80, rejected={"duplicate": 1}, stored_bytes=1, state=JobState.PAUSED)

    seen = later(shown, view(redriven, [], {}, base_url="http://x"))

    assert (seen.accepted, seen.stored_bytes, seen.state) == (80, 1, JobState.PAUSED)
    assert seen.rejected == {"duplicate": 1}
    assert seen.progress["download"] == StageProgress(done=400, total=1000)


def test_links_lead_back_to_where_the_client_came_from() -> None:
    shown = view(JOB, [], {}, base_url="https://pix.example/api")

    assert shown.urls.self == f"https://pix.example/api/v1/jobs/{JOB.id}"
    assert shown.urls.cancel == shown.urls.self + "/cancel"


def test_time_left_is_told_at_the_rate_so_far_once_the_list_is_read() -> None:
    half = replace(JOB, accepted=490)

    def left(job: JobRow) -> float | None:
        return view(job, [], {}, base_url="http://x").seconds_left

    assert left(half) == 50.0
    assert left(replace(half, is_planned=False)) is None
    assert left(replace(half, started_at=None)) is None
    assert left(replace(half, state=JobState.COMPLETED)) is None


def test_a_refresh_tells_how_much_has_changed() -> None:
    found = {"unchanged": 400, "kept": 2, "duplicate": 1, "opted_out": 1}
    refresh = replace(JOB, kind=JobKind.REFRESH, accepted=6, rejected=found)

    shown = view(refresh, [], {}, base_url="http://x")

    assert shown.refreshed == Refreshed(unchanged=400, changed=7, gone=3)
    assert view(JOB, [], {}, base_url="http://x").refreshed is None
