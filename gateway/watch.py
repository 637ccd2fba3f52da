"""One poll for all progress streams of this gateway, however many clients look.

Each round reads all watched jobs in two statements and gives each subscriber its newest view. A subscriber
that is slow misses views in between, never the last: views are whole, so nothing has to be kept or resent.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from gateway.schemas import JobOut
from gateway.view import later, view
from shared import metrics, progress
from shared.db import jobs, tenancy
from shared.db.jobs import InFlight, JobRow
from shared.db.session import transaction
from shared.errors import DatabaseUnavailable
from shared.progress import Live
from shared.resources import Resources

log = structlog.get_logger(__name__)

#: Seconds between two rounds: twice a second is as fast as workers tell.
INTERVAL_SECONDS = 0.5
#: Live figures are worth no longer wait than this.
_LIVE_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A job as it was read: its row, its chunks in flight with their live figures, and the chunks ahead of it."""

    job: JobRow
    in_flight: Sequence[InFlight] = ()
    live: Mapping[int, Live] = field(default_factory=dict)
    ahead: int | None = None

    def view(self, base_url: str) -> JobOut:
        """As the client sees it."""
        return view(self.job, self.in_flight, self.live, base_url=base_url, ahead=self.ahead)


Reader = Callable[[Sequence[UUID]], Awaitable[list[Figures]]]


class Subscription:
    """One stream's view of one job. Numbers never go back within it."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._shown: JobOut | None = None
        self._newest: JobOut | None = None
        self._arrived = asyncio.Event()

    def offer(self, figures: Figures) -> None:
        """Takes what was read; the stream wakes only if its client would see a difference."""
        fresh = figures.view(self._base_url)
        self._newest = fresh if self._shown is None else later(self._shown, fresh)
        if self._newest != self._shown:
            self._arrived.set()

    async def next(self) -> JobOut:
        """The newest view that differs from the one before; waits for it."""
        await self._arrived.wait()
        self._arrived.clear()
        assert self._newest is not None, "set before the event"
        self._shown = self._newest
        return self._shown


class JobWatch:
    """The poll. `run` it as one task for the life of the gateway."""

    def __init__(self, read: Reader, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._read = read
        self._interval = interval_seconds
        self._subscriptions: dict[Subscription, UUID] = {}
        self._wanted = asyncio.Event()

    @property
    def streams(self) -> int:
        return len(self._subscriptions)

    @contextmanager
    def subscribed(self, job_id: UUID, base_url: str) -> Iterator[Subscription]:
        """A subscription for as long as the context lasts."""
        subscription = Subscription(base_url)
        self._subscriptions[subscription] = job_id
        metrics.event_streams.set(len(self._subscriptions))
        self._wanted.set()
        try:
            yield subscription
        finally:
            del self._subscriptions[subscription]
            metrics.event_streams.set(len(self._subscriptions))

    async def run(self) -> None:
        """Polls while somebody looks, until cancelled."""
        while True:
            if not self._subscriptions:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                await self._round()
            except DatabaseUnavailable:
                log.warning("progress_not_read", streams=self.streams)
            self._wanted.clear()
            with suppress(TimeoutError):  # a new stream does not wait for the next round
                async with asyncio.timeout(self._interval):  # wait_for of Python 3.11 may swallow a cancellation
                    await self._wanted.wait()

    async def _round(self) -> None:
        watched = Counter(self._subscriptions.values())
        found = {figures.job.id: figures for figures in await self._read(list(watched))}
        for subscription, job_id in list(self._subscriptions.items()):
            if job_id in found:
                subscription.offer(found[job_id])


async def read_figures(resources: Resources, job_ids: Sequence[UUID]) -> list[Figures]:
    """Jobs as they stand; without live figures when Redis is away or slow.

    One look serves the streams of all tenants; each was checked when it was opened.
    """
    with tenancy.seeing_everyone():
        async with transaction(resources.engine) as connection:
            rows = await jobs.get_many(connection, job_ids)
            chunks = await jobs.in_flight(connection, [row.id for row in rows if not row.is_final])
    return await complete(resources, rows, chunks)


async def complete(resources: Resources, rows: Sequence[JobRow], chunks: Sequence[InFlight]) -> list[Figures]:
    """Jobs and their chunks in flight, with live figures, or the number of chunks ahead of those that have none."""
    moving = {chunk.job_id for chunk in chunks}
    ahead = await _ahead(
        resources, [row.id for row in rows if row.planned_rows and not row.is_final and row.id not in moving]
    )
    return [
        Figures(
            job=row,
            in_flight=[chunk for chunk in chunks if chunk.job_id == row.id],
            live=await _read_live(resources, row.id) if row.id in moving else {},
            ahead=ahead.get(row.id),
        )
        for row in rows
    ]


async def _ahead(resources: Resources, waiting: Sequence[UUID]) -> Mapping[UUID, int]:
    """Other tenants' chunks are counted too; more is not told of them."""
    if not waiting:
        return {}
    with tenancy.seeing_everyone():
        async with transaction(resources.engine) as connection:
            return await jobs.chunks_ahead(connection, waiting)


async def _read_live(resources: Resources, job_id: UUID) -> Mapping[int, Live]:
    """Live figures of a job's chunks in flight; none when Redis is away or slow."""
    try:
        async with asyncio.timeout(_LIVE_PATIENCE_SECONDS):
            return await progress.read(resources.redis, job_id)
    except TimeoutError:
        return {}
