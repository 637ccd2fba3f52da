"""Lets chunks in: as many as there is room for, in the order of the priority set.

The set is looked at, chunks are admitted in PostgreSQL, and only then taken out of the set: whatever dies in
between, a chunk is admitted once. With Redis away the same order is read from the rows.
"""

import time

import structlog
from redis.exceptions import RedisError

from scheduler.admission import Cell, ChunkNeeds, Decision, Shut, WorkerReport, decide, learned_needs
from scheduler.priority import offset_after, offset_at_pass
from scheduler.settings import SchedulerSettings
from shared import metrics
from shared.db import cells, leader, slots, stages
from shared.db.leader import Term
from shared.db.session import Connection, transaction
from shared.db.slots import Admitted
from shared.failpoints import reach
from shared.pipeline import PIPELINE
from shared.resources import Resources
from shared.trace import Trace
from shared.tracing import note_span
from shared.waiting import WaitingSet

#: Seconds between two looks at what chunks took.
_LEARN_EVERY = 5.0
#: What clients read while nothing is let in.
WAITING_FOR = {
    Shut.NOBODY_REPORTS: "a downloader: none reports",
    Shut.SLOTS: "a free slot",
    Shut.DISK: "room on the work volume",
    Shut.INODES: "inodes on the work volume",
    Shut.MEMORY: "memory",
    Shut.PAUSED: "the download stage, which the operator paused",
}

log = structlog.get_logger(__name__)


class Admitter:
    """Remembers which cells were shut, so that they open again only with some room to spare."""

    def __init__(self, settings: SchedulerSettings, resources: Resources, waiting: WaitingSet) -> None:
        self._settings = settings
        self._resources = resources
        self._waiting = waiting
        self._shut: dict[str, Shut] = {}
        self._passed_at = time.monotonic()
        self._needs = ChunkNeeds()
        self._learn_at = float("-inf")
        #: Why nothing is let in now; None when something may be.
        self.why: Shut | None = None

    async def admit(self, term: Term) -> int:
        """Admits what may be admitted now; how many that was."""
        await self._slow_clock(term)
        decision = await self._decide()
        self._shut, self.why = dict(decision.shut), decision.why
        admitted = await self._fill(term, decision) if decision.places else []
        for chunk in admitted:
            metrics.admission_wait.labels(tier=chunk.tier).observe(chunk.waited_seconds)
            note_span(
                "admit",
                Trace.read(chunk.traceparent),
                seconds=chunk.waited_seconds,
                job=str(chunk.job_id),
                chunk=chunk.chunk_id,
            )
        if admitted:
            log.info("chunks_admitted", count=len(admitted))
        return len(admitted)

    async def audit(self) -> bool:
        """Rebuilds the priority set when it does not hold what the rows say. False: it did, or Redis is away."""
        async with transaction(self._resources.engine) as connection:
            wait = await slots.count_waiting(connection)
        try:
            if await self._waiting.size() != wait:
                async with transaction(self._resources.engine) as connection:
                    expected = await slots.all_waiting(connection)
                await self._waiting.rebuild(expected)
                metrics.mended.labels(what="waiting_set").inc()
                log.info("waiting_set_rebuilt", chunks=len(expected))
                return True
        except (RedisError, OSError):
            log.warning("waiting_set_away")
        return False

    async def _slow_clock(self, term: Term) -> None:
        """Lets the virtual clock lag while more waits than can be served, so that a late tenant's turn comes soon."""
        passed_at, self._passed_at = self._passed_at, time.monotonic()
        async with leader.leading(self._resources.engine, term) as connection:
            now, offset = await leader.clock(connection)
            slowed = offset_at_pass(
                offset=offset,
                now=now,
                elapsed=self._passed_at - passed_at,
                next_start=await slots.next_start(connection),
            )
            if slowed != offset:
                await leader.set_clock(connection, term, offset=slowed)

    async def _decide(self) -> Decision:
        async with transaction(self._resources.engine) as connection:
            await slots.provide(connection, self._settings.max_chunks)
            measured = await cells.reports(connection)
            needs = await self._learn(connection)
            held = await slots.in_flight(connection, most_bytes=needs.disk_bytes)
            paused = await stages.paused(connection)
        if PIPELINE[0].name in paused:
            return Decision(places=(), shut=self._shut, why=Shut.PAUSED)
        found = [
            Cell(
                name=name,
                reports=tuple(
                    WorkerReport(
                        measured=report.measured,
                        age=report.age,
                        host=report.host,
                        is_first_stage=report.service == PIPELINE[0].service,
                    )
                    for report in measured
                    if report.cell == name
                ),
                in_flight=held[name].chunks if name in held else 0,
                not_started=held[name].not_started if name in held else 0,
                written_bytes=held[name].written_bytes if name in held else 0,
                was_shut=self._shut.get(name),
            )
            for name in sorted({report.cell for report in measured})
        ]
        in_flight = sum(cell.chunks for cell in held.values())
        return decide(found, needs=needs, max_chunks=self._settings.max_chunks, in_flight=in_flight)

    async def _learn(self, connection: Connection) -> ChunkNeeds:
        """What a chunk takes, from those that ended last: they lie behind all that wait, so it is seldom looked."""
        if time.monotonic() >= self._learn_at:
            self._needs = learned_needs(await slots.recent_work_bytes(connection))
            self._learn_at = time.monotonic() + _LEARN_EVERY
        return self._needs

    async def _fill(self, term: Term, decision: Decision) -> list[Admitted]:
        """Looks at the next in line until the places are filled or nobody waits."""
        places, admitted = list(decision.places), []
        while places:
            wanted = await self._next(len(places))
            if not wanted:
                break
            async with leader.leading(self._resources.engine, term) as connection:
                let_in = await slots.admit(connection, wanted, places)
                await self._advance_clock(connection, term, let_in)
                reach("admit.locked")
            reach("admit.committed")
            await self._take_out(wanted)
            admitted += let_in
            places = places[len(let_in) :]
            if self._is_redis_away:
                break  # the rows name only who still waits: asking again now gives the same
        return admitted

    async def _next(self, count: int) -> list[int]:
        self._is_redis_away = False
        try:
            return await self._waiting.peek(count)
        except (RedisError, OSError):
            self._is_redis_away = True
            async with transaction(self._resources.engine) as connection:
                return await slots.next_waiting(connection, count)

    async def _take_out(self, wanted: list[int]) -> None:
        """Takes out the admitted, and also those that turned out not to wait: paused, cancelled, admitted before."""
        try:
            await self._waiting.remove(wanted)
        except (RedisError, OSError):
            log.warning("waiting_set_away")

    async def _advance_clock(self, connection: Connection, term: Term, let_in: list[Admitted]) -> None:
        if not let_in:
            return
        now, offset = await leader.clock(connection)
        for chunk in let_in:
            offset = offset_after(offset=offset, now=now, virtual_start=chunk.virtual_start)
        await leader.set_clock(connection, term, offset=offset)
