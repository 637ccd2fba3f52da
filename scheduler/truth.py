"""The figures that no single process knows, read from PostgreSQL, Redis and the broker and told by the leader.

They are read beside the loop and shown all at once, so that no scrape sees half a reading. A scheduler that does
not lead tells none of them: two readings would be summed up.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from celery import Celery
from redis.exceptions import RedisError

from scheduler.admission import STALE, Shut
from scheduler.notifier import Outcome
from shared import metrics
from shared.broker import BrokerUnavailable, queue_lengths
from shared.db import cells, failed, figures, poison, slots, stages
from shared.db.cells import Report
from shared.db.session import transaction
from shared.messages import Why
from shared.pipeline import PIPELINE, ChunkState, JobState, Tier
from shared.reasons import ELSEWHERE, Reason
from shared.resources import Resources
from shared.waiting import WaitingSet


@dataclass(frozen=True, kw_only=True)
class Truth:
    """One reading. None: the server that knows did not answer."""

    accepted: int
    rejected: Mapping[str, int]
    jobs: Mapping[str, int]
    chunks: Mapping[str, int]
    failed_open: int
    poison: int
    #: Seconds by ready state.
    oldest_ready: Mapping[str, float]
    slots: int
    slots_held: int
    backlog: Mapping[str, figures.Backlog]
    reports: Sequence[Report]
    paused: Collection[str]
    owed: figures.Owed
    waiting_set: int | None
    queued: Mapping[str, int] | None


async def read_truth(resources: Resources, app: Celery) -> Truth:
    """Raises DatabaseUnavailable."""
    waiting_set, queued = await _waiting(resources), await _queued(app)
    async with transaction(resources.engine) as connection:
        accepted, rejected = await figures.image_sums(connection)
        slot_count, held = await slots.counted(connection)
        return Truth(
            accepted=accepted,
            rejected=rejected,
            jobs=await figures.jobs_by_state(connection),
            chunks=await figures.chunks_by_state(connection),
            failed_open=await failed.count_open(connection),
            poison=await poison.count(connection),
            oldest_ready=await figures.oldest_ready(connection),
            slots=slot_count,
            slots_held=held,
            backlog=await figures.backlog_by_tier(connection),
            reports=await cells.reports(connection),
            paused=await stages.paused(connection),
            owed=await figures.owed(connection),
            waiting_set=waiting_set,
            queued=queued,
        )


async def _waiting(resources: Resources) -> int | None:
    try:
        return await WaitingSet(resources.redis).size()
    except (RedisError, OSError):
        return None


async def _queued(app: Celery) -> Mapping[str, int] | None:
    try:
        return await asyncio.to_thread(queue_lengths, app)
    except BrokerUnavailable:
        return None


def show_truth(truth: Truth, shut: Shut | None) -> None:
    """Lets /metrics tell this reading; `shut` is why nothing is admitted now."""
    _show_rows(truth)
    _show_queues(truth)
    _show_notices(truth.owed)
    _show_admission(truth, shut)
    _show_cells([report for report in truth.reports if report.age <= STALE])
    metrics.dependency_up.labels(server="redis").set(truth.waiting_set is not None)
    metrics.dependency_up.labels(server="broker").set(truth.queued is not None)
    metrics.truth_read_at.set(time.time())
    metrics.publish_truth()


def begin_series(chores: Iterable[str]) -> None:
    """Zeros for what has not happened yet: without them the first time would look like no change."""
    for stage in PIPELINE:
        metrics.leases_expired.labels(stage=stage.name)
        for why, result in product(Why, ("rung", "failed")):
            metrics.bells.labels(stage=stage.name, why=why, result=result)
    for chore in chores:
        metrics.chores_hindered.labels(chore=chore)
    for outcome in Outcome:
        metrics.notices.labels(outcome=outcome.value)
    for tier in Tier:
        metrics.admission_wait.labels(tier=tier.value)
    for what in ("dead_cell", "waiting_set", "left_open", "remnants", "strays"):
        metrics.mended.labels(what=what)


def withdraw_truth() -> None:
    """Tells nothing any more: another leads, or nobody knows."""
    metrics.withdraw_truth()
    for server in ("redis", "broker"):
        metrics.dependency_up.remove_by_labels({"server": server})


def _show_rows(truth: Truth) -> None:
    metrics.images.labels(outcome="accepted", reason="").set(truth.accepted)
    for reason in Reason:
        outcome = "elsewhere" if reason in ELSEWHERE else "rejected"
        metrics.images.labels(outcome=outcome, reason=reason.value).set(truth.rejected.get(reason, 0))
    for job_state in JobState:
        metrics.jobs.labels(state=job_state.value).set(truth.jobs.get(job_state, 0))
    for state in ChunkState:
        metrics.chunks.labels(state=state.value).set(truth.chunks.get(state, 0))
    metrics.chunks_failed_open.set(truth.failed_open)
    metrics.poison_kept.set(truth.poison)


def _show_queues(truth: Truth) -> None:
    for stage in PIPELINE:
        metrics.ready_oldest.labels(stage=stage.name).set(truth.oldest_ready.get(stage.ready, 0))
        metrics.stage_paused.labels(stage=stage.name).set(stage.name in truth.paused)
    metrics.queue_messages.clear()
    for name, messages in (truth.queued or {}).items():
        metrics.queue_messages.labels(stage=name).set(messages)
    metrics.waiting_set.set(float("nan") if truth.waiting_set is None else truth.waiting_set)


def _show_notices(owed: figures.Owed) -> None:
    metrics.notices_waiting.set(owed.waiting)
    metrics.notices_late.set(owed.late_seconds)
    metrics.webhooks_disabled.set(owed.disabled)


def _show_admission(truth: Truth, shut: Shut | None) -> None:
    metrics.slots.set(truth.slots)
    metrics.slots_held.set(truth.slots_held)
    for tier in Tier:
        backlog = truth.backlog.get(tier, figures.NO_BACKLOG)
        metrics.backlog.labels(tier=tier.value).set(backlog.chunks)
        metrics.backlog_oldest.labels(tier=tier.value).set(backlog.oldest_seconds)
        metrics.backlog_unserved.labels(tier=tier.value).set(backlog.unserved_seconds)
    for reason in Shut:
        metrics.admission_shut.labels(reason=reason.value).set(reason is shut)


def _show_cells(fresh: Sequence[Report]) -> None:
    """What is known of each cell; one that nobody reports from any more is not told."""
    alive = Counter((report.service, report.cell) for report in fresh)
    names = sorted({report.cell for report in fresh})
    for gauge in (metrics.workers, *_ROOM):
        gauge.clear()
    for stage in PIPELINE:
        for cell in names or ["main"]:
            metrics.workers.labels(stage=stage.name, cell=cell).set(alive[stage.service, cell])
    for gauge, field in _ROOM.items():
        for cell in names:
            least = min(getattr(report.measured, field) for report in fresh if report.cell == cell)
            gauge.labels(cell=cell).set(least)


_ROOM = {
    metrics.work_free_bytes: "free_bytes",
    metrics.work_total_bytes: "total_bytes",
    metrics.work_free_inodes: "free_inodes",
    metrics.memory_available_bytes: "memory_available_bytes",
}
