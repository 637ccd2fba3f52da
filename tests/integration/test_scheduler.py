"""Planning and ending jobs, one beside the other: what is wrong with one is no other's trouble."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from scheduler import planner as planner_module
from scheduler.leadership import Leadership
from scheduler.planner import Planner
from shared.db.leader import NotLeader, Term
from shared.pipeline import JobState, Tier
from shared.quotas import Quota
from shared.resources import Resources, open_resources
from shared.waiting import WaitingSet
from tests.core import Board, board_at, scheduler_settings


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def resources(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path)) as opened:
        yield opened


@pytest.fixture
async def term(resources: Resources) -> Term:
    leading = await Leadership(resources.engine).term()
    assert leading is not None
    return leading


@pytest.fixture
def planner(resources: Resources) -> Iterator[Planner]:
    made = Planner(resources, WaitingSet(resources.redis))
    yield made
    made.close()


def urls(count: int) -> list[str]:
    return [f"https://a.example/{number}" for number in range(count)]


async def _chunk_rows(board: Board, job: UUID) -> list[tuple[int, int]]:
    rows = await board.run("SELECT first_row, rows FROM chunks WHERE job_id = :job ORDER BY ordinal", job=job)
    return [(row.first_row, row.rows) for row in rows]


async def test_a_list_becomes_chunks_of_500_in_order(
    board: Board, planner: Planner, term: Term, tmp_path: Path
) -> None:
    job = await board.submit(tmp_path / "spool", urls(1201), tmp_path / "out")

    while await planner.plan_part(term):
        pass

    assert await _chunk_rows(board, job) == [(0, 500), (500, 500), (1000, 201)]
    assert await board.job_state(job) is JobState.RUNNING
    assert await board.one("SELECT rows_planned FROM tenants WHERE rows_planned > 0") == 1201


async def test_early_chunks_wait_for_admission_while_later_ones_are_planned(
    board: Board, planner: Planner, term: Term, tmp_path: Path, resources: Resources
) -> None:
    job = await board.submit(tmp_path / "spool", urls(3000), tmp_path / "out")

    assert await planner.plan_part(term)

    assert await board.job_state(job) is JobState.PLANNING
    assert len(await board.chunks_of(job)) == await WaitingSet(resources.redis).size() == 4


async def test_a_short_list_is_not_kept_waiting_by_a_long_one(
    board: Board, planner: Planner, term: Term, tmp_path: Path
) -> None:
    await board.submit(tmp_path / "spool", urls(10_000), tmp_path / "long")
    await planner.plan_part(term)
    short = await board.submit(tmp_path / "spool", urls(3), tmp_path / "short")

    await planner.plan_part(term)

    assert await board.job_state(short) is JobState.RUNNING


async def test_planning_goes_on_where_a_predecessor_stopped(
    board: Board, resources: Resources, term: Term, tmp_path: Path
) -> None:
    job = await board.submit(tmp_path / "spool", urls(3100), tmp_path / "out")
    for _ in range(2):
        planner = Planner(resources, WaitingSet(resources.redis))
        await planner.plan_part(term)
        planner.close()

    assert await _chunk_rows(board, job) == [*((500 * number, 500) for number in range(6)), (3000, 100)]


async def test_a_former_leader_plans_nothing(board: Board, planner: Planner, term: Term, tmp_path: Path) -> None:
    job = await board.submit(tmp_path / "spool", urls(3), tmp_path / "out")
    await board.run("UPDATE leader SET term = term + 1")

    with pytest.raises(NotLeader):
        await planner.plan_part(term)

    assert await board.chunks_of(job) == []


async def test_a_list_that_is_gone_fails_its_job_with_a_sentence(
    board: Board, planner: Planner, term: Term, tmp_path: Path
) -> None:
    job = await board.submit(tmp_path / "spool", urls(3), tmp_path / "out")
    for path in (tmp_path / "spool" / "lists").iterdir():
        path.unlink()

    await planner.plan_part(term)

    (row,) = await board.run("SELECT state, error_code, error FROM jobs WHERE id = :job", job=job)
    assert (row.state, row.error_code) == ("failed", "bad_source")
    assert "submit it again" in row.error


@pytest.mark.parametrize(
    ("limit", "taken", "state"), [(1999, 0, "failed"), (2500, 2000, "running"), (3000, 3000, "running")]
)
async def test_a_list_that_no_day_has_room_for_is_cut_off(
    board: Board, resources: Resources, term: Term, tmp_path: Path, limit: int, taken: int, state: str
) -> None:
    planner = Planner(resources, WaitingSet(resources.redis), {tier: {Quota.ROWS_A_DAY: limit} for tier in Tier})
    job = await board.submit(tmp_path / "spool", urls(3000), tmp_path / "out")

    while await planner.plan_part(term):
        pass
    planner.close()

    (row,) = await board.run("SELECT state, planned_rows, error_code, error FROM jobs WHERE id = :job", job=job)
    assert (row.state, row.planned_rows) == (state, taken)
    assert row.error_code == (None if taken == 3000 else "over_quota")
    assert taken == 3000 or f"quota of {limit:,} rows a day; its first {taken:,} are taken" in row.error


async def test_what_was_agreed_with_a_tenant_goes_before_its_tier(
    board: Board, resources: Resources, term: Term, tmp_path: Path
) -> None:
    planner = Planner(resources, WaitingSet(resources.redis), {tier: {Quota.ROWS_A_DAY: 1} for tier in Tier})
    job = await board.submit(tmp_path / "spool", urls(3), tmp_path / "out")
    await board.run("UPDATE tenants SET quotas = '{\"rows_a_day\": null}'")

    await planner.plan_part(term)
    planner.close()

    assert await _chunk_rows(board, job) == [(0, 3)]


async def test_a_bug_that_one_list_brings_out_does_not_stop_the_others(
    board: Board, planner: Planner, term: Term, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = await board.submit(tmp_path / "spool", urls(3), tmp_path / "broken")
    well = await board.submit(tmp_path / "spool", urls(3), tmp_path / "well")
    slice_of = planner_module.plan_slice

    def fail_once(*given: object, **named: object) -> object:
        monkeypatch.setattr(planner_module, "plan_slice", slice_of)
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(planner_module, "plan_slice", fail_once)

    while await planner.plan_part(term):
        pass

    assert (await board.job_state(broken), await board.job_state(well)) == (JobState.FAILED, JobState.RUNNING)
    assert await board.one("SELECT error_code FROM jobs WHERE state = 'failed'") == "internal"
