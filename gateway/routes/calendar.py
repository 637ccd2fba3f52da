"""The calendar: when the house was last kept and will be next; entries rest, and are run now. For administrators."""

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Path, Request

from gateway.admin_schemas import CalendarEntryIn, CalendarEntryOut, CalendarOut
from gateway.auth import Admin
from gateway.idempotency import IdempotentRoute
from gateway.openapi import problems
from gateway.problems import ApiError, Code, not_found
from gateway.revise import renewal
from gateway.services import services_of
from shared.db import calendar, jobs, recurring
from shared.db.session import Connection, transaction

routes = APIRouter(prefix="/v1/admin/calendar", tags=["admin"], route_class=IdempotentRoute)
EntryName = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.:-]+$", description="Its name")]

log = structlog.get_logger("gateway")


@routes.get("", operation_id="listCalendar", responses=problems())
async def list_calendar(caller: Admin, request: Request) -> CalendarOut:
    """What is done periodically, with its last and its next run."""
    async with transaction(services_of(request).resources.engine) as connection:
        found = await calendar.listed(connection)
    return CalendarOut(data=[CalendarEntryOut.model_validate(entry, from_attributes=True) for entry in found])


@routes.post("/{name}/pause", operation_id="pauseCalendarEntry", responses=problems(Code.NOT_FOUND))
async def pause_entry(name: EntryName, caller: Admin, request: Request) -> CalendarEntryOut:
    """Lets an entry rest until it is resumed; a run that is open is carried out all the same."""
    return await _set_enabled(request, name, key=caller.key_id, is_enabled=False)


@routes.post("/{name}/resume", operation_id="resumeCalendarEntry", responses=problems(Code.NOT_FOUND))
async def resume_entry(name: EntryName, caller: Admin, request: Request) -> CalendarEntryOut:
    """Lets an entry go on; what it missed is made up for by one run."""
    return await _set_enabled(request, name, key=caller.key_id, is_enabled=True)


@routes.post("/{name}/run", operation_id="runCalendarEntry", status_code=202, responses=problems(Code.NOT_FOUND))
async def run_entry(name: EntryName, caller: Admin, request: Request) -> CalendarEntryOut:
    """Has an entry run now, paused or not; a run that is open already will do."""
    async with transaction(services_of(request).resources.engine) as connection:
        await calendar.ask_run(connection, name)
        shown = await _shown(connection, name)
    log.info("calendar_run_asked", entry=name, key=caller.key_id)
    return shown


@routes.post(
    "",
    operation_id="addCalendarEntry",
    status_code=201,
    responses=problems(
        Code.NOT_FOUND, Code.DESTINATION_LOST, Code.BAD_DESTINATION, Code.DESTINATION_REFUSED, Code.STORE_UNAVAILABLE
    ),
)
async def add_entry(asked: CalendarEntryIn, caller: Admin, request: Request) -> CalendarEntryOut:
    """Has a dataset's rejected rows taken again, or its accepted ones refreshed, by a job of its tenant's each time.

    One entry a dataset and kind: asked again, it is replaced. While a job is changing the dataset, or
    nothing is left to be taken again, or a quota is used up, none is made; the next time comes.
    """
    services = services_of(request)
    async with transaction(services.resources.engine) as connection:
        tenant_id = await jobs.tenant_of(connection, UUID(asked.job))
        job = None if tenant_id is None else await jobs.get(connection, tenant_id, UUID(asked.job))
    if tenant_id is None or job is None:
        raise not_found()
    new = await renewal(services, tenant_id, job, asked.asked)
    async with transaction(services.resources.engine) as connection:
        name = await recurring.keep(connection, new, asked.schedule)
        shown = await _shown(connection, name)
    log.info("calendar_entry_added", entry=name, schedule=asked.schedule, key=caller.key_id)
    return shown


@routes.delete("/{name}", operation_id="removeCalendarEntry", responses=problems(Code.NOT_FOUND))
async def remove_entry(name: EntryName, caller: Admin, request: Request) -> CalendarEntryOut:
    """Removes a dataset's entry, and shows it; a job that it made goes on. The house's own can rest, and stay."""
    async with transaction(services_of(request).resources.engine) as connection:
        shown = await _shown(connection, name)
        is_gone = await recurring.remove(connection, name)
    if not is_gone:
        raise ApiError(Code.NOT_FOUND, "the calendar has no entry of that name for a dataset; look at the list of them")
    log.info("calendar_entry_removed", entry=name, key=caller.key_id)
    return shown


async def _set_enabled(request: Request, name: str, *, key: str, is_enabled: bool) -> CalendarEntryOut:
    async with transaction(services_of(request).resources.engine) as connection:
        await calendar.set_enabled(connection, name, is_enabled=is_enabled)
        shown = await _shown(connection, name)
    log.info("calendar_entry_set", entry=name, is_enabled=is_enabled, key=key)
    return shown


async def _shown(connection: Connection, name: str) -> CalendarEntryOut:
    entry = await calendar.get(connection, name)
    if entry is None:
        raise ApiError(Code.NOT_FOUND, "the calendar has no entry of that name; look at the list of them")
    return CalendarEntryOut.model_validate(entry, from_attributes=True)
