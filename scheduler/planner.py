"""Plans jobs, a part at a time: read on in the list, store the part in the spool, insert its chunks.

The cursor moves in the transaction that inserts the chunks, and a part planned again has the same bytes, so
planning can be cut off anywhere. Jobs with the shortest plan go first: a list of ten million rows does not
keep a list of ten waiting.
"""

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from scheduler.again import RowsAgain
from scheduler.planning import Part, part_chunks, plan_slice
from scheduler.priority import Place, clock_at, places
from scheduler.refreshing import PicturesAgain
from shared.db import leader, lifecycle, tenants
from shared.db.leader import Term
from shared.db.lifecycle import NewChunk, Plan
from shared.db.session import Connection, transaction
from shared.errors import BadSource, OverQuota, PermanentError, PixCrawlerError
from shared.failpoints import reach
from shared.manifest import ListFormat, ListReader, open_list
from shared.pipeline import JobKind, Tier
from shared.quotas import Limits, Quota
from shared.resources import Resources
from shared.spool import plan_key
from shared.trace import Trace
from shared.tracing import span
from shared.waiting import WaitingSet

#: A list is fetched from the spool in blocks of this size.
_BLOCK_BYTES = 8 * 1024 * 1024
#: Lists kept open between their parts.
_MOST_OPEN = 8
_ARROW = "application/vnd.apache.arrow.stream"

log = structlog.get_logger(__name__)


class OpenList:
    """A list on this machine's disk, open for reading on."""

    def __init__(self, path: Path, reader: ListReader) -> None:
        self.path = path
        self.reader = reader

    def close(self) -> None:
        self.reader.close()
        self.path.unlink(missing_ok=True)


class Planner:
    """Plans in a folder of its own, which is removed with it."""

    def __init__(self, resources: Resources, waiting: WaitingSet, quotas: Mapping[Tier, Limits] | None = None) -> None:
        """`quotas`: the limits of each tier."""
        self._resources = resources
        self._waiting = waiting
        self._quotas = quotas or {}
        self._folder = tempfile.TemporaryDirectory(prefix="pixcrawler-plans-")
        self._open: dict[UUID, OpenList] = {}
        self._again: dict[JobKind, RowsAgain | PicturesAgain] = {
            JobKind.RETRY: RowsAgain(resources),
            JobKind.REFRESH: PicturesAgain(resources),
        }

    def close(self) -> None:
        for job in list(self._open):
            self._forget(job)
        self._folder.cleanup()

    async def plan_part(self, term: Term) -> bool:
        """Plans one part of the job whose turn it is. False: there is nothing to plan."""
        async with transaction(self._resources.engine) as connection:
            plan = await lifecycle.to_plan(connection)
        if plan is None:
            return False
        try:
            with span("plan", Trace.read(plan.traceparent), job=str(plan.job_id), from_row=plan.next_row):
                part = await self._part(plan)
                await self._check_length(plan, part)
                await self._store(term, plan, part)
        except PermanentError as error:
            await self._give_up(term, plan, error.code, str(error))
        except (PixCrawlerError, OSError):
            raise  # may pass, or we do not lead any more
        except Exception:  # a bug that this list brings out must not keep the other lists from being planned
            log.exception("planning_failed", job=str(plan.job_id))
            await self._give_up(term, plan, PixCrawlerError.code, "The list could not be planned; this is our mistake.")
        finally:
            self._path(plan, "part").unlink(missing_ok=True)
        return True

    async def _part(self, plan: Plan) -> Part:
        if again := self._again.get(plan.kind):
            return await again.part(plan, self._path(plan, "part"))
        opened = await self._list_of(plan)
        return await asyncio.to_thread(self._slice, plan, opened)

    async def _check_length(self, plan: Plan, part: Part) -> None:
        """How long a list is, only reading it tells. Raises OverQuota when no day has room for it.

        A new tenant keeps the limits that it had before this list.
        """
        if part.replaced is not None:
            return
        async with transaction(self._resources.engine) as connection:
            tenant = await tenants.get(connection, plan.tenant_id)
        if tenant is None:
            return
        before = replace(tenant, rows_planned=max(0, tenant.rows_planned - plan.planned_rows))
        limit = before.limits(self._quotas).get(Quota.ROWS_A_DAY)
        if limit is not None and plan.planned_rows + part.rows > limit:
            raise OverQuota(
                f"the list is longer than your quota of {limit:,} rows a day; its first {plan.planned_rows:,} are taken"
            )

    async def _list_of(self, plan: Plan) -> OpenList:
        if plan.job_id not in self._open:
            while len(self._open) >= _MOST_OPEN:
                self._forget(next(iter(self._open)))
            path = self._path(plan, "list")
            try:
                await self._fetch(plan, path)
                reader = await asyncio.to_thread(_open, path, plan)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            self._open[plan.job_id] = OpenList(path, reader)
        return self._open[plan.job_id]

    def _path(self, plan: Plan, kind: str) -> Path:
        return Path(self._folder.name) / f"{plan.job_id}.{kind}"

    async def _fetch(self, plan: Plan, path: Path) -> None:
        stored = await self._resources.spool.stat(plan.source["key"])
        if stored is None:
            raise BadSource("the list is not in the spool any more; submit it again")
        with path.open("wb") as file:
            for offset in range(0, stored.size_bytes, _BLOCK_BYTES):
                length = min(_BLOCK_BYTES, stored.size_bytes - offset)
                block = await self._resources.spool.get(stored.key, offset=offset, length=length)
                await asyncio.to_thread(file.write, block)

    def _slice(self, plan: Plan, opened: OpenList) -> Part:
        return plan_slice(
            opened.reader,
            plan.cursor,
            first_row=plan.next_row,
            first_ordinal=plan.planned_chunks,
            max_chunks=part_chunks(plan.planned_chunks),
            path=self._path(plan, "part"),
        )

    async def _store(self, term: Term, plan: Plan, part: Part) -> None:
        key = plan_key(plan.job_id, plan.planned_chunks, "" if part.replaced is None else part.sha256)
        if part.chunks:
            await self._resources.spool.create(key, part.path, content_type=_ARROW, sha256=part.sha256)
        reach("plan.stored")
        scores = await self._insert(term, plan, part, key)
        reach("plan.inserted")
        if part.is_last:
            self._forget(plan.job_id)
        log.info("part_planned", job=str(plan.job_id), chunks=len(part.chunks), rows=part.rows, is_last=part.is_last)
        try:
            await self._waiting.add(scores)
        except (RedisError, OSError):
            log.warning("waiting_set_behind", job=str(plan.job_id))  # the audit finds it

    async def _insert(self, term: Term, plan: Plan, part: Part, key: str) -> dict[int, float]:
        async with leader.leading(self._resources.engine, term) as connection:
            now = await lifecycle.to_plan(connection, job_id=plan.job_id)
            if now is None or now.cursor != plan.cursor:
                return {}  # paused, cancelled, or planned by a successor meanwhile
            placed = await self._places(connection, now, part)
            new = [
                NewChunk(
                    ordinal=chunk.ordinal,
                    first_row=chunk.first_row,
                    rows=chunk.rows,
                    part_key=key,
                    part_offset=chunk.offset,
                    part_length=chunk.length,
                    tier=place.tier,
                    virtual_start=place.virtual_start,
                    score=place.score,
                    renews=renews,
                )
                for chunk, place, renews in zip(
                    part.chunks, placed, part.renews or [None] * len(part.chunks), strict=True
                )
            ]
            return await lifecycle.add_chunks(
                connection, now, new, cursor=part.cursor, is_last=part.is_last, replaced=part.replaced
            )

    async def _places(self, connection: Connection, plan: Plan, part: Part) -> list[Place]:
        now, offset = await leader.clock(connection)
        return places(
            (chunk.rows for chunk in part.chunks),
            clock=clock_at(now, offset),
            tenant_last=plan.tenant_last_start,
            plan=plan.tenant_plan,
            created_at=plan.tenant_created_at,
            now=datetime.fromtimestamp(now, UTC),
            rows_planned=plan.tenant_rows,
        )

    async def _give_up(self, term: Term, plan: Plan, error_code: str, error: str) -> None:
        self._forget(plan.job_id)
        log.warning("planning_stopped", job=str(plan.job_id), error=error)
        async with leader.leading(self._resources.engine, term) as connection:
            await lifecycle.stop_planning(connection, plan.job_id, error_code=error_code, error=error)

    def _forget(self, job: UUID) -> None:
        opened = self._open.pop(job, None)
        if opened:
            opened.close()


def _open(path: Path, plan: Plan) -> ListReader:
    source = plan.source
    return open_list(
        path,
        list_format=ListFormat(source["format"]),
        url_col=source["url_col"],
        caption_col=source["caption_col"],
        save_columns=source["save_columns"],
        scratch=path.parent,
    )
