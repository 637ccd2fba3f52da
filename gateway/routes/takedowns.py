"""Takedowns: what is neither fetched nor stored any more. For administrators."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Request, Response

from gateway import cursors
from gateway.auth import Admin
from gateway.openapi import problems
from gateway.problems import ApiError, Code, Mistake
from gateway.schemas import TakedownIn, TakedownOut, TakedownPage
from gateway.services import services_of
from shared.blocklist import Kind, normalised
from shared.db import blocked
from shared.db.blocked import Takedown
from shared.db.session import transaction

routes = APIRouter(prefix="/v1/admin/takedowns", tags=["admin"])

log = structlog.get_logger("gateway")


@routes.post(
    "",
    operation_id="takeDown",
    status_code=201,
    responses={200: {"model": TakedownOut, "description": "It was taken down before; that is it"}, **problems()},
)
async def take_down(asked: TakedownIn, caller: Admin, request: Request, response: Response) -> TakedownOut:
    """Forbids to fetch or to store something. Workers follow within 30 s. May be repeated."""
    kind = Kind(asked.kind)
    value = _normalised(kind, asked.value)
    async with transaction(services_of(request).resources.engine) as connection:
        takedown, is_new = await blocked.add(connection, kind=kind, value=value, note=asked.note)
    response.status_code = 201 if is_new else 200
    if is_new:
        log.info("taken_down", takedown=takedown.id, kind=kind, key=caller.key_id)
    return _shown(takedown)


@routes.get("", operation_id="listTakedowns", responses=problems())
async def list_takedowns(
    caller: Admin,
    request: Request,
    kind: Annotated[Kind | None, Query(description="Only those of this kind")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> TakedownPage:
    """What was taken down, newest first."""
    before = cursors.takedown_place(cursor)
    async with transaction(services_of(request).resources.engine) as connection:
        found = await blocked.newest(connection, kind=kind, before=before, limit=limit + 1)
    page, has_more = found[:limit], len(found) > limit
    following = cursors.of_takedown(page[-1].id) if has_more else None
    return TakedownPage(data=[_shown(takedown) for takedown in page], has_more=has_more, next_cursor=following)


@routes.delete("/{takedown_id}", operation_id="liftTakedown", responses=problems(Code.NOT_FOUND))
async def lift_takedown(
    takedown_id: Annotated[int, Path(ge=1, lt=2**63, description="The takedown's id")], caller: Admin, request: Request
) -> TakedownOut:
    """Allows again what a takedown forbade; what was refused meanwhile stays so."""
    async with transaction(services_of(request).resources.engine) as connection:
        takedown = await blocked.remove(connection, takedown_id)
    if takedown is None:
        raise ApiError(Code.NOT_FOUND, "there is no takedown of that id; look at the list of them")
    log.info("takedown_lifted", takedown=takedown.id, kind=takedown.kind, key=caller.key_id)
    return _shown(takedown)


def _normalised(kind: Kind, value: str) -> str:
    try:
        return normalised(kind, value)
    except ValueError as error:
        mistake = Mistake(pointer="/value", detail=str(error))
        raise ApiError(Code.INVALID_REQUEST, f"/value: {error}", errors=[mistake]) from error


def _shown(takedown: Takedown) -> TakedownOut:
    return TakedownOut.model_validate(takedown, from_attributes=True)
