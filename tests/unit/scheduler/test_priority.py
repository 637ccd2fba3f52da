"""The order of admission, in a table and in a small simulated system."""

import heapq
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.priority import clock_at, offset_after, offset_at_pass, places, score, virtual_start
from shared.pipeline import CHUNK_ROWS, NEW_TENANT_ROWS, Tier, tier_of

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("plan", "age", "rows_planned", "expected"),
    [
        # the first day
        (Tier.FREE, timedelta(0), 0, Tier.NEW),
        (Tier.ENTERPRISE, timedelta(days=1), 0, Tier.NEW),
        # the last moment of the fourteenth day, and the first after it
        (Tier.FREE, timedelta(days=14) - timedelta(seconds=1), 0, Tier.NEW),
        (Tier.FREE, timedelta(days=14), 0, Tier.FREE),
        # the last row in front, and the first behind it
        (Tier.FREE, timedelta(days=1), NEW_TENANT_ROWS - 1, Tier.NEW),
        (Tier.FREE, timedelta(days=1), NEW_TENANT_ROWS, Tier.FREE),
        (Tier.ENTERPRISE, timedelta(days=1), NEW_TENANT_ROWS, Tier.ENTERPRISE),
    ],
)
def test_who_is_new(plan: Tier, age: timedelta, rows_planned: int, expected: Tier) -> None:
    assert tier_of(plan=plan, created_at=NOW - age, now=NOW, rows_planned=rows_planned) is expected


def test_at_the_same_moment_new_goes_before_enterprise_before_free() -> None:
    scores = {tier: score(virtual_start(clock=1e9, tenant_last=0, tier=tier), tier) for tier in Tier}

    assert sorted(scores, key=lambda tier: scores[tier]) == [Tier.NEW, Tier.ENTERPRISE, Tier.FREE]


def test_a_tenant_who_was_away_saves_up_nothing() -> None:
    assert virtual_start(clock=1000, tenant_last=10, tier=Tier.FREE) == 1000


def test_chunks_of_one_tenant_stand_apart_by_the_spacing_of_its_tier() -> None:
    first = virtual_start(clock=1000, tenant_last=0, tier=Tier.FREE)
    second = virtual_start(clock=1000, tenant_last=first, tier=Tier.FREE)

    assert second - first == Tier.FREE.spacing.total_seconds()


def test_the_clock_jumps_to_a_chunk_admitted_early_and_never_back() -> None:
    jumped = offset_after(offset=5, now=1000, virtual_start=1060)
    kept = offset_after(offset=jumped, now=1000, virtual_start=900)

    assert clock_at(1000, jumped) == 1060
    assert kept == jumped


def test_a_long_list_of_a_new_tenant_is_new_only_for_its_first_rows() -> None:
    chunks = NEW_TENANT_ROWS // CHUNK_ROWS + 5

    found = places(
        [CHUNK_ROWS] * chunks,
        clock=1e9,
        tenant_last=0,
        plan=Tier.FREE,
        created_at=NOW,
        now=NOW,
        rows_planned=0,
    )

    assert [place.tier for place in found].count(Tier.NEW) == 100
    assert [place.tier for place in found[-5:]] == [Tier.FREE] * 5
    assert all(earlier.score < later.score for earlier, later in itertools.pairwise(found))


@dataclass(frozen=True)
class Submission:
    at: float
    tenant: int
    tier: Tier
    chunks: int


@dataclass
class Admitted:
    tenant: int
    tier: Tier
    planned_at: float
    clock_when_planned: float
    score: float
    at: float


@dataclass
class System:
    """One admission every `pace` seconds while something waits: what slots amount to, seen from the queue."""

    pace: float
    now: float = 0.0
    offset: float = 0.0
    last: dict[int, float] = field(default_factory=dict)
    waiting: list[tuple[float, int, Admitted, float]] = field(default_factory=list)
    admitted: list[Admitted] = field(default_factory=list)

    def submit(self, request: Submission) -> None:
        clock = clock_at(self.now, self.offset)
        for _ in range(request.chunks):
            start = virtual_start(clock=clock, tenant_last=self.last.get(request.tenant, 0), tier=request.tier)
            self.last[request.tenant] = start
            rank = score(start, request.tier)
            chunk = Admitted(request.tenant, request.tier, self.now, clock, rank, 0)
            heapq.heappush(self.waiting, (rank, len(self.waiting) + len(self.admitted), chunk, start))

    def admit(self) -> None:
        next_start = self.waiting[0][3]
        self.offset = offset_at_pass(offset=self.offset, now=self.now, elapsed=self.pace, next_start=next_start)
        _, _, chunk, start = heapq.heappop(self.waiting)
        chunk.at = self.now
        self.offset = offset_after(offset=self.offset, now=self.now, virtual_start=start)
        self.admitted.append(chunk)

    def run(self, requests: list[Submission]) -> list[Admitted]:
        coming = sorted(requests, key=lambda request: request.at)
        while coming or self.waiting:
            if not self.waiting:
                self.now = max(self.now, coming[0].at)
            while coming and coming[0].at <= self.now:
                self.submit(coming.pop(0))
            self.admit()
            self.now += self.pace
        return self.admitted


SUBMISSIONS = st.lists(
    st.builds(
        Submission,
        at=st.floats(0, 3600),
        # a tenant has one tier: both follow from its number
        tenant=st.integers(0, 8),
        tier=st.just(Tier.FREE),
        chunks=st.integers(1, 200),
    ).map(lambda found: Submission(found.at, found.tenant, list(Tier)[found.tenant % 3], found.chunks)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(SUBMISSIONS, st.sampled_from([0.2, 2.0, 30.0]))
def test_every_chunk_is_admitted_once_whatever_comes(requests: list[Submission], pace: float) -> None:
    admitted = System(pace).run(requests)

    assert len(admitted) == sum(request.chunks for request in requests)


@settings(max_examples=60, deadline=None)
@given(SUBMISSIONS, st.sampled_from([0.2, 2.0, 30.0]))
def test_nobody_starves_since_later_plans_stop_overtaking(requests: list[Submission], pace: float) -> None:
    longest_head_start = max(tier.head_start for tier in Tier).total_seconds()

    admitted = System(pace).run(requests)

    for place, chunk in enumerate(admitted):
        for before in admitted[:place]:
            if before.planned_at > chunk.planned_at:
                assert before.clock_when_planned <= chunk.score + longest_head_start


@settings(max_examples=40, deadline=None)
@given(st.integers(500, 3000), st.floats(1, 3000), st.sampled_from(list(Tier)))
def test_a_giant_does_not_block_a_small_tenant(giant_chunks: int, later: float, tier: Tier) -> None:
    # 35 slots and a minute a chunk: 1.7 s between admissions
    giant = Submission(0, 0, Tier.FREE, giant_chunks)
    small = Submission(later, 1, tier, 4)

    admitted = System(1.7).run([giant, small])

    waits = [chunk.at - chunk.planned_at for chunk in admitted if chunk.tenant == 1]
    assert max(waits) <= 20


def test_twenty_giants_do_not_block_a_small_tenant() -> None:
    # together they ask for six times the capacity, for an hour already
    giants = [Submission(0, 100 + number, Tier.FREE, 2000) for number in range(20)]
    small = Submission(3600, 1, Tier.FREE, 4)

    admitted = System(1.7).run([*giants, small])

    waits = [chunk.at - chunk.planned_at for chunk in admitted if chunk.tenant == 1]
    assert max(waits) <= 300


def test_an_endless_flood_of_new_tenants_does_not_starve_a_free_one() -> None:
    # new tenants alone ask for a fifth more than there is, for hours
    flood = [Submission(number * 5.7, 100 + number, Tier.NEW, 4) for number in range(3000)]
    free = Submission(1000, 1, Tier.FREE, 1)

    admitted = System(1.7).run([*flood, free])

    chunk = next(chunk for chunk in admitted if chunk.tenant == 1)
    assert chunk.at < max(chunk.at for chunk in admitted) / 2
    assert chunk.at - chunk.planned_at < 600 / 0.1 * 1.5


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e4), st.floats(-100, 100), st.floats(0, 5), st.floats(0, 2e4))
def test_the_clock_never_goes_back(now: float, offset: float, elapsed: float, next_start: float) -> None:
    before = clock_at(now, offset)

    slowed = offset_at_pass(offset=offset, now=now + elapsed, elapsed=elapsed, next_start=next_start)

    assert before - 1e-6 <= clock_at(now + elapsed, slowed) <= before + elapsed + 1e-6


def test_the_clock_keeps_its_pace_while_chunks_are_served_in_time() -> None:
    assert offset_at_pass(offset=7, now=1000, elapsed=1, next_start=1000) == 7
    assert offset_at_pass(offset=7, now=1000, elapsed=1, next_start=None) == 7


def test_capacity_that_lay_idle_is_not_paid_for_later() -> None:
    # alone for a while, a tenant has 500 chunks admitted far ahead of its fair starts
    alone = Submission(0, 0, Tier.FREE, 500)
    others = [Submission(500, number, Tier.FREE, 100) for number in (1, 2)]
    more = Submission(510, 0, Tier.FREE, 20)

    admitted = System(1.0).run([alone, *others, more])

    waits = [chunk.at - 510 for chunk in admitted if chunk.planned_at >= 510]
    assert min(waits) <= 20
    assert max(waits) <= 80
