"""One poll for all progress streams of this gateway, however many clients look.

Each round reads all watched jobs in two statements and gives each subscriber its newest view. A subscriber
that is slow misses views in between, never the last: views are whole, so nothing has to be kept or resent.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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

Figures = tuple[JobRow, Sequence[InFlight], Mapping[int, Live]]
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
        fresh = view(*figures, base_url=self._base_url)
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
        found = {figures[0].id: figures for figures in await self._read(list(watched))}
        for subscription, job_id in list(self._subscriptions.items()):
            if job_id in found:
                subscription.offer(found[job_id])


async def read_figures(resources: Resources, job_ids: Sequence[UUID]) -> list[Figures]:
    """Jobs with their chunks in flight and live figures; without those when Redis is away or slow.

    One look serves the streams of all tenants; each was checked when it was opened.
    """
    with tenancy.seeing_everyone():
        async with transaction(resources.engine) as connection:
            rows = await jobs.get_many(connection, job_ids)
            chunks = await jobs.in_flight(connection, [row.id for row in rows if not row.is_final])
    return [(row, held, await read_live(resources, row.id) if held else {}) for row, held in _grouped(rows, chunks)]


async def read_live(resources: Resources, job_id: UUID) -> Mapping[int, Live]:
    """Live figures of a job's chunks in flight; none when Redis is away or slow."""
    try:
        async with asyncio.timeout(_LIVE_PATIENCE_SECONDS):
            return await progress.read(resources.redis, job_id)
    except TimeoutError:
        return {}


def _grouped(rows: Sequence[JobRow], chunks: Sequence[InFlight]) -> list[tuple[JobRow, list[InFlight]]]:
    return [(row, [chunk for chunk in chunks if chunk.job_id == row.id]) for row in rows]
