"""Gives datasets further revisions when the calendar says so: a job is made in the transaction that ends the run.

So it is made once, whoever of two schedulers carries the run out. While another job is at the dataset none is made, nor
when nothing is left to be taken again; the next time comes.
"""

import structlog

from scheduler.settings import SchedulerSettings
from shared.db import calendar, leader, recurring, revisions, tenants
from shared.db.calendar import Run
from shared.db.leader import Term
from shared.db.revisions import Added, NewRevision
from shared.db.session import Connection
from shared.errors import TransientError
from shared.quotas import used_up
from shared.resources import Resources

log = structlog.get_logger(__name__)


class NotRenewed(TransientError):
    """No job was made this time."""

    code = "not_renewed"


class Renewer:
    """The errand of entries that administrators make."""

    def __init__(self, settings: SchedulerSettings, resources: Resources) -> None:
        self._settings = settings
        self._resources = resources

    async def renew(self, term: Term, run: Run) -> None:
        """Makes the job, if one is to be made. Raises NotRenewed with a sentence, DatabaseUnavailable, NotLeader."""
        new = recurring.read(run.arguments)
        async with leader.leading(self._resources.engine, term) as connection:
            if not await revisions.is_left(connection, new):
                log.info("renewal_needless", entry=run.entry)
                return
            added = await self._add(connection, new)
            if added is None:
                await recurring.remove(connection, run.entry)
                log.info("renewal_removed", entry=run.entry, why="the dataset is gone")
                return
            await calendar.finish(connection, run)
        log.info("revision_added", job=str(added.job_id), kind=new.kind, entry=run.entry)

    async def _add(self, connection: Connection, new: NewRevision) -> Added | None:
        async def check_room() -> None:
            await self._check_room(connection, new)

        added = await revisions.add(connection, new, if_new=check_room)
        if added is not None and not added.is_new:
            raise NotRenewed(f"job {added.job_id} was still changing the dataset")
        if added is not None:
            await revisions.take_over_failed(connection, new)
        return added

    async def _check_room(self, connection: Connection, new: NewRevision) -> None:
        """What holds for jobs that a tenant asks for holds for these too."""
        tenant = await tenants.get(connection, new.tenant_id)
        if tenant is None or tenant.suspended_at is not None:
            raise NotRenewed("its tenant is suspended")
        await tenants.take_turns(connection, tenant.id)
        usage = await tenants.usage(connection, tenant.id)
        quota = used_up(tenant.limits(self._settings.quotas), usage)
        if quota is not None:
            raise NotRenewed(f"its tenant's quota of {quota} was used up")
