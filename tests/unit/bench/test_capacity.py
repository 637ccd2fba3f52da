"""The simulation of a large job: all of it ends, and what is short is named."""

from dataclasses import replace
from typing import Any

import pytest

from scheduler.admission import MB
from tests.capacity.simulated import bottleneck, costs_of
from tests.capacity.simulation import Costs, Fleet, Outcome, Simulation

COSTS = Costs(
    stage_seconds={"download": 6.0, "validate": 2.0, "upload": 1.0}, bookkeeping_seconds=0.01, work_bytes=64 * MB
)
FLEET = Fleet(
    workers={"download": 5, "validate": 32, "upload": 2},
    concurrency={"download": 7, "validate": 1, "upload": 7},
    max_chunks=35,
)
CHUNKS = 2_000


def outcome(costs: Costs = COSTS, **changes: Any) -> Outcome:
    return Simulation(replace(FLEET, **changes), costs, chunks=CHUNKS).run()


def test_every_image_is_carried_through() -> None:
    found = outcome()

    assert found.images == CHUNKS * 500
    # 35 slots, nine seconds each
    assert found.seconds == pytest.approx(CHUNKS / 35 * 9, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "short"),
    [
        # chunks pass through all stages on 35 slots, and no stage is full
        ({}, "slots"),
        ({"workers": {"download": 5, "validate": 4, "upload": 2}}, "validate"),
        ({"max_chunks": 140}, "download"),
    ],
)
def test_what_is_short_is_named(changes: dict[str, Any], short: str) -> None:
    assert bottleneck(outcome(**changes)) == short


def test_the_line_that_there_is_once_becomes_the_limit_in_the_end() -> None:
    slow = replace(COSTS, bookkeeping_seconds=0.5)

    found = outcome(slow, max_chunks=140)

    assert bottleneck(found) == "bookkeeping"
    assert found.seconds == pytest.approx(CHUNKS * 0.5, rel=0.05)


def test_a_small_job_of_a_new_tenant_waits_for_the_next_free_slot_only() -> None:
    found = outcome(workers={"download": 5, "validate": 4, "upload": 2})

    assert found.small_waited_seconds < 3


def test_a_stage_that_waits_longer_than_it_computes_is_held_by_the_wait() -> None:
    costs = costs_of({"download": 1.0, "validate": 4.0, "upload": 1.0, "bookkeeping": 0.02})

    assert costs.stage_seconds["download"] > 5
    assert costs.stage_seconds["validate"] == 2.0
