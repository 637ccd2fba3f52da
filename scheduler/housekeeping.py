"""Keeps the spool's house: removes lists and plans that no job has needed for long.

    old uploads, and answers kept for repeated requests ──▶ forgotten
    lists that only jobs which ended long ago name ──▶ removed
    lists that nobody names, twice in a row ──▶ removed
    plans of jobs that ended long ago, or are gone ──▶ removed
    parts of uploads that are whole, or were given up ──▶ removed, when they were found twice in a row

A later run may read the list of an earlier one again, so both stay for a while after their last job has ended. A
list is stored before its row is written, and nothing says how old it is: what nobody names may be just arriving.
No state is kept elsewhere, so a pass may end anywhere and be repeated by anybody.
"""

from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass
from datetime import timedelta

import structlog

from shared.db import idempotency, parts, spooled
from shared.db.session import transaction
from shared.resources import Resources
from shared.spool import LISTS, PARTS, PLANS, job_of, upload_of

#: An upload that was begun and not finished is given up after this.
_KEEP_UNFINISHED = timedelta(days=1)
#: Keys that the database is asked about at once.
_BLOCK = 500
#: Objects removed, and suspects remembered, in one pass; the next goes on.
_MOST = 20_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tidied:
    """What a pass did."""

    uploads: int
    lists: int
    plans: int
    parts: int
    #: Lists and parts that nobody named; the next pass removes those that still nobody names.
    suspects: frozenset[str]


async def tidy_spool(resources: Resources, *, keep: timedelta, suspects: Set[str]) -> Tidied:
    """One pass; `suspects` are those of the pass before. Raises StoreUnavailable, StoreRefused, DatabaseUnavailable."""
    async with transaction(resources.engine) as connection:
        uploads = await spooled.forget_uploads(connection, keep=keep, keep_unfinished=_KEEP_UNFINISHED)
        await idempotency.forget(connection)
    sweep = _Sweep(resources, keep, suspects)
    lists = await sweep.through(LISTS, sweep.unneeded_lists)
    plans = await sweep.through(PLANS, sweep.unneeded_plans)
    found = await sweep.through(PARTS, sweep.unneeded_parts)
    if uploads or lists or plans or found:
        log.info("spool_tidied", uploads=uploads, lists=lists, plans=plans, parts=found)
    return Tidied(uploads=uploads, lists=lists, plans=plans, parts=found, suspects=frozenset(sweep.unnamed))


class _Sweep:
    """Goes through the spool a block at a time; what is not needed any more is removed right after it was asked for."""

    def __init__(self, resources: Resources, keep: timedelta, suspects: Set[str]) -> None:
        self._resources = resources
        self._keep = keep
        self._suspects = suspects
        self.unnamed: set[str] = set()

    async def through(self, prefix: str, sift: Callable[[list[str]], Awaitable[list[str]]]) -> int:
        """Removes what `sift` finds among the keys below the prefix; how many."""
        removed, block = 0, list[str]()
        async for stored in self._resources.spool.list(prefix):
            block.append(stored.key)
            if len(block) == _BLOCK:
                removed += await self._remove(await sift(block))
                block.clear()
            if removed + len(self.unnamed) >= _MOST:
                break
        return removed + await self._remove(await sift(block))

    async def unneeded_lists(self, keys: list[str]) -> list[str]:
        async with transaction(self._resources.engine) as connection:
            uses = await spooled.lists_in_use(connection, keys, keep=self._keep)
        unnamed = {key for key in keys if key not in uses}
        self.unnamed |= unnamed - self._suspects
        return [key for key in keys if not uses.get(key, key not in self._suspects)]

    async def unneeded_plans(self, keys: list[str]) -> list[str]:
        jobs = {key: job for key in keys if (job := job_of(key)) is not None}
        async with transaction(self._resources.engine) as connection:
            needed = await spooled.needed_plans(connection, list(set(jobs.values())), keep=self._keep)
        return [key for key, job in jobs.items() if job not in needed]

    async def unneeded_parts(self, keys: list[str]) -> list[str]:
        """One is stored before it is counted, and read until the list that it is part of is stored."""
        uploads = {key: upload for key in keys if (upload := upload_of(key)) is not None}
        async with transaction(self._resources.engine) as connection:
            needed = await parts.unfinished(connection, list(set(uploads.values())))
        unneeded = {key for key, upload in uploads.items() if upload not in needed}
        self.unnamed |= unneeded - self._suspects
        return sorted(unneeded & self._suspects)

    async def _remove(self, keys: list[str]) -> int:
        for key in keys:
            await self._resources.spool.delete(key)
        return len(keys)
