"""The figures that only PostgreSQL knows, exported by the leader: images, chunks, slots, backlog."""

from shared import metrics
from shared.db import lifecycle, slots
from shared.db.session import transaction
from shared.pipeline import ChunkState, Tier
from shared.resources import Resources


async def export_truth(resources: Resources) -> None:
    """Sets the gauges. Accepted and rejected are the sums that jobs and indexes show."""
    async with transaction(resources.engine) as connection:
        accepted, rejected = await lifecycle.image_sums(connection)
        states = await lifecycle.chunks_by_state(connection)
        held = await slots.held(connection)
        waiting = await slots.waiting_by_tier(connection)
    metrics.images.labels(outcome="accepted", reason="").set(accepted)
    for reason, rows in rejected.items():
        metrics.images.labels(outcome="rejected", reason=reason).set(rows)
    for state in ChunkState:
        metrics.chunks.labels(state=state.value).set(states.get(state, 0))
    metrics.slots_held.set(held)
    for tier in Tier:
        metrics.backlog.labels(tier=tier.value).set(waiting.get(tier, 0))
