"""Takedowns: what is neither fetched nor stored any more. For administrators."""

from collections.abc import Sequence
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Request, Response

from gateway import cursors
from gateway.auth import Admin
from gateway.idempotency import IdempotentRoute
from gateway.openapi import problems
from gateway.paging import tell_next
from gateway.problems import ApiError, Code, Mistake
from gateway.schemas import PurgeOut, TakedownIn, TakedownOut, TakedownPage
from gateway.services import services_of
from shared.blocklist import Kind, normalised
from shared.db import blocked, purges
from shared.db.blocked import Takedown
from shared.db.session import Connection, transaction

routes = APIRouter(prefix="/v1/admin/takedowns", tags=["admin"], route_class=IdempotentRoute)

log = structlog.get_logger("gateway")


@routes.post(
    "",
    operation_id="takeDown",
    status_code=201,
    responses={200: {"model": TakedownOut, "description": "It was taken down before; that is it"}, **problems()},
)
async def take_down(asked: TakedownIn, caller: Admin, request: Request, response: Response) -> TakedownOut:
    """Forbids to fetch or to store something. Workers follow within 30 s. May be repeated.

    With `purge` the scheduler also deletes what is stored already, and empties its rows in every index. Asked again
    after that has ended, it looks again.
    """
    kind = Kind(asked.kind)
    value = _normalised(kind, asked.value)
    async with transaction(services_of(request).resources.engine) as connection:
        takedown, is_new = await blocked.add(connection, kind=kind, value=value, note=asked.note)
        if asked.purge:
            await purges.order(connection, takedown.id, asked_by=caller.key_id)
        (shown,) = await _shown(connection, [await blocked.get(connection, takedown.id) or takedown])
    response.status_code = 201 if is_new else 200
    if is_new or asked.purge:
        log.info("taken_down", takedown=takedown.id, kind=kind, purge=asked.purge, key=caller.key_id)
    return shown


@routes.get("", operation_id="listTakedowns", responses=problems())
async def list_takedowns(
    caller: Admin,
    request: Request,
    response: Response,
    kind: Annotated[Kind | None, Query(description="Only those of this kind")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> TakedownPage:
    """What was taken down, newest first."""
    before = cursors.id_place(cursor)
    async with transaction(services_of(request).resources.engine) as connection:
        found = await blocked.newest(connection, kind=kind, before=before, limit=limit + 1)
        page, has_more = found[:limit], len(found) > limit
        shown = await _shown(connection, page)
    following = cursors.of_id(page[-1].id) if has_more else None
    return TakedownPage(data=shown, has_more=has_more, next_cursor=tell_next(request, response, following))


@routes.delete("/{takedown_id}", operation_id="liftTakedown", responses=problems(Code.NOT_FOUND))
async def lift_takedown(
    takedown_id: Annotated[int, Path(ge=1, lt=2**63, description="The takedown's id")], caller: Admin, request: Request
) -> TakedownOut:
    """Allows again what a takedown forbade; what was refused or deleted meanwhile stays so."""
    async with transaction(services_of(request).resources.engine) as connection:
        takedown = await blocked.get(connection, takedown_id)
        if takedown is None:
            raise ApiError(Code.NOT_FOUND, "there is no takedown of that id; look at the list of them")
        (shown,) = await _shown(connection, [takedown])
        await blocked.remove(connection, takedown_id)
    log.info("takedown_lifted", takedown=takedown.id, kind=takedown.kind, key=caller.key_id)
    return shown


def _normalised(kind: Kind, value: str) -> str:
    try:
        return normalised(kind, value)
    except ValueError as error:
        mistake = Mistake(pointer="/value", detail=str(error))
        raise ApiError(Code.INVALID_REQUEST, f"/value: {error}", errors=[mistake]) from error


async def _shown(connection: Connection, takedowns: Sequence[Takedown]) -> list[TakedownOut]:
    progress = await purges.progress(connection, [takedown.id for takedown in takedowns if takedown.purge])
    return [_out(takedown, progress.get(takedown.id)) for takedown in takedowns]


def _out(takedown: Takedown, progress: purges.Progress | None) -> TakedownOut:
    purge = None
    if progress is not None:
        purge = PurgeOut(
            chunks_left=progress.chunks_left,
            images_removed=progress.images_removed,
            finished_at=takedown.purged_at,
        )
    return TakedownOut(
        id=takedown.id,
        kind=takedown.kind,
        value=takedown.value,
        note=takedown.note,
        created_at=takedown.created_at,
        purge=purge,
    )
