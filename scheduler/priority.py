"""Whose chunk is next: one number a chunk, lowest first, computed once when the chunk is planned.

    virtual_start = max(clock, the tenant's last virtual_start + spacing(tier))
    score         = virtual_start - head_start(tier)

The virtual start is when the chunk would start if its tenant had its fair share. A tenant's chunks are spaced out,
so that one with 20,000 does not block one with four; tiers begin with a head start, so that a new user's chunk goes
ahead of enterprise and enterprise ahead of free; and since the clock goes on, everybody's turn comes.

`clock` is wall time plus an offset in the scheduler's row. The offset grows whenever a chunk is admitted before its
virtual start: idle capacity was used, and nobody is to pay for that later. And while more is asked for than there is
capacity, the clock runs slowly, so that a newcomer queues behind what is being served now and not behind all that
should have been served by now (simulated with 20 tenants of 2,000 chunks: a wait of 5 hours without it, minutes with
it). It never stands still, so nobody starves. All times are seconds since the epoch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from shared.pipeline import Tier, tier_of

#: The clock runs slowly while the next chunk's fair start is longer ago than this: two chunks of a free tenant.
LAG_SECONDS = 12.0
#: How fast it then runs. Slow enough that 20 tenants with endless lists do not block a small one on the default
#: capacity, fast enough that the longest head start, 600 s, is used up in 100 minutes even if new tenants never stop.
SLOWEST_RATE = 0.1
#: A longer pause between two passes is a scheduler that was away; only so much of it is taken back.
LONGEST_PASS_SECONDS = 5.0


def clock_at(now: float, offset: float) -> float:
    """The virtual clock."""
    return now + offset


def offset_after(*, offset: float, now: float, virtual_start: float) -> float:
    """The clock's offset once a chunk with that virtual start has been admitted. It never shrinks."""
    return max(offset, virtual_start - now)


def offset_at_pass(*, offset: float, now: float, elapsed: float, next_start: float | None) -> float:
    """The clock's offset at the beginning of a pass, `elapsed` seconds after the beginning of the one before.

    `next_start` is the virtual start of the first waiting chunk in the order of admission; None when none waits.
    The clock itself never goes back, as long as `elapsed` is not overstated: give 0 when it is not known.
    """
    if next_start is None:
        return offset
    late = clock_at(now, offset) - LAG_SECONDS - next_start
    slowed = min(max(0.0, elapsed), LONGEST_PASS_SECONDS) * (1 - SLOWEST_RATE)
    return offset - max(0.0, min(late, slowed))


def virtual_start(*, clock: float, tenant_last: float, tier: Tier) -> float:
    """When the tenant's next chunk would start at its fair share; it is the next chunk's `tenant_last`."""
    return max(clock, tenant_last + tier.spacing.total_seconds())


def score(virtual_start: float, tier: Tier) -> float:
    """The chunk's place in the order of admission, lowest first."""
    return virtual_start - tier.head_start.total_seconds()


@dataclass(frozen=True, kw_only=True)
class Place:
    """A chunk's place in the order of admission, as it is written into its row."""

    tier: Tier
    virtual_start: float
    score: float


def places(
    chunk_rows: Iterable[int],
    *,
    clock: float,
    tenant_last: float,
    plan: Tier,
    created_at: datetime,
    now: datetime,
    rows_planned: int,
) -> list[Place]:
    """The places of a tenant's next chunks, given the rows of each. The last one's start is the new `tenant_last`."""
    found: list[Place] = []
    for rows in chunk_rows:
        tier = tier_of(plan=plan, created_at=created_at, now=now, rows_planned=rows_planned)
        tenant_last = virtual_start(clock=clock, tenant_last=tenant_last, tier=tier)
        rows_planned += rows
        found.append(Place(tier=tier, virtual_start=tenant_last, score=score(tenant_last, tier)))
    return found
