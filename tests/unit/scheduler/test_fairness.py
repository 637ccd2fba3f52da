"""A hundred tenants at once, over the functions that decide: tiers differ, nobody starves, giants are patient."""

import random
from collections import defaultdict
from statistics import median

import pytest

from shared.pipeline import Tier
from tests.unit.scheduler.test_priority import Admitted, Submission, System

TENANTS = 100
TIERS = {tenant: list(Tier)[tenant % 3] for tenant in range(TENANTS)}
#: Seconds between two admissions: 35 slots and a minute for each chunk.
PACE = 1.7


def in_a_rush(seed: int) -> list[Submission]:
    """Each tenant asks for a few jobs within ten minutes, all together for three times what there is."""
    chance = random.Random(seed)
    return [
        Submission(chance.uniform(0, 600), tenant, tier, chance.randint(1, 8))
        for tenant, tier in TIERS.items()
        for _ in range(chance.randint(1, 4))
    ]


def waits(admitted: list[Admitted]) -> dict[Tier, list[float]]:
    found: dict[Tier, list[float]] = defaultdict(list)
    for chunk in admitted:
        found[chunk.tier].append(chunk.at - chunk.planned_at)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_new_tenants_wait_less_than_enterprise_and_those_less_than_free_ones(seed: int) -> None:
    found = waits(System(PACE).run(in_a_rush(seed)))

    assert median(found[Tier.NEW]) < median(found[Tier.ENTERPRISE]) < median(found[Tier.FREE])


@pytest.mark.parametrize("seed", range(2))
def test_while_more_is_asked_for_than_there_is_every_tier_is_served(seed: int) -> None:
    # a fifth too much for two hours
    chance, jobs = random.Random(seed), int(1.2 * 7200 / PACE / 4)
    owners = [chance.randrange(TENANTS) for _ in range(jobs)]

    admitted = System(PACE).run([Submission(chance.uniform(0, 7200), owner, TIERS[owner], 4) for owner in owners])

    served, asked = waits([chunk for chunk in admitted if chunk.at <= 7200]), waits(admitted)
    assert median(served[Tier.NEW]) < median(served[Tier.ENTERPRISE]) < median(served[Tier.FREE])
    for tier in Tier:
        assert len(served[tier]) > len(asked[tier]) / 2
        assert max(asked[tier]) <= 3600


@pytest.mark.parametrize("seed", range(2))
def test_a_giant_is_let_in_only_a_few_times_before_a_small_job_has_passed(seed: int) -> None:
    # ten million rows of a free tenant, and for an hour small jobs of all others, within what there is
    chance, giant = random.Random(seed), 2
    small = [Submission(chance.uniform(60, 3600), tenant, tier, 4) for tenant, tier in TIERS.items() if tenant != giant]

    admitted = System(PACE).run([Submission(0, giant, TIERS[giant], 20_000), *small])

    of: dict[int, list[Admitted]] = defaultdict(list)
    for chunk in admitted:
        of[chunk.tenant].append(chunk)
    for request in small:
        first, last = of[request.tenant][0].planned_at, of[request.tenant][-1].at
        assert sum(first <= chunk.at <= last for chunk in of[giant]) <= 8
        assert last - first <= 60
