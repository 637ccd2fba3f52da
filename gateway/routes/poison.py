"""Messages that no worker could read: looked at, and thrown away. For administrators."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Request, Response

from gateway import cursors
from gateway.auth import Admin
from gateway.openapi import problems
from gateway.paging import tell_next
from gateway.problems import ApiError, Code
from gateway.schemas import PoisonOut, PoisonPage
from gateway.services import services_of
from shared.db import poison
from shared.db.session import transaction

routes = APIRouter(prefix="/v1/admin/poison-messages", tags=["admin"])

log = structlog.get_logger("gateway")


@routes.get("", operation_id="listPoisonMessages", responses=problems())
async def list_poison_messages(
    caller: Admin,
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> PoisonPage:
    """Messages nobody could read, newest first. The chunk they meant, if any, was rung again without them."""
    before = cursors.id_place(cursor)
    async with transaction(services_of(request).resources.engine) as connection:
        found = await poison.newest(connection, before=before, limit=limit + 1)
    page, has_more = found[:limit], len(found) > limit
    return PoisonPage(
        data=[PoisonOut.model_validate(kept, from_attributes=True) for kept in page],
        has_more=has_more,
        next_cursor=tell_next(request, response, cursors.of_id(page[-1].id) if has_more else None),
    )


@routes.delete("/{poison_id}", operation_id="dropPoisonMessage", responses=problems(Code.NOT_FOUND))
async def drop_poison_message(
    poison_id: Annotated[int, Path(ge=1, lt=2**63, description="The message's id")], caller: Admin, request: Request
) -> PoisonOut:
    """Throws a message away, and answers what it was."""
    async with transaction(services_of(request).resources.engine) as connection:
        removed = await poison.remove(connection, poison_id)
    if removed is None:
        raise ApiError(Code.NOT_FOUND, "there is no message of that id; look at the list of them")
    log.info("poison_dropped", message=poison_id, key=caller.key_id)
    return PoisonOut.model_validate(removed, from_attributes=True)
