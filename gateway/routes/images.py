"""Images: what became of each row of the list."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from gateway import cursors
from gateway.auth import Reader
from gateway.images import ImageStatus, Wanted, read_page
from gateway.openapi import problems
from gateway.paging import tell_next
from gateway.problems import ApiError, Code
from gateway.routes.jobs import JobId, find
from gateway.schemas import ImagePage
from gateway.services import services_of
from shared.errors import StoreRefused
from shared.reasons import Reason

routes = APIRouter(prefix="/v1/jobs", tags=["images"])


@routes.get(
    "/{job_id}/images",
    operation_id="listImages",
    responses=problems(Code.NOT_FOUND, Code.DESTINATION_REFUSED, Code.STORE_UNAVAILABLE),
)
async def list_images(
    job_id: JobId,
    caller: Reader,
    request: Request,
    response: Response,
    status: Annotated[ImageStatus | None, Query(description="Only rows of this status")] = None,
    reason: Annotated[Reason | None, Query(description="Only rows rejected for this reason")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> ImagePage:
    """Rows of the index in input order, of chunks that have ended. A page may be short and still have a cursor."""
    services = services_of(request)
    job = await find(services, caller, job_id)
    ordinal, offset = cursors.image_place(cursor)
    wanted = Wanted(status=status, reason=reason, limit=limit, ordinal=ordinal, offset=offset)
    try:
        page = await read_page(services.resources, services.indexes, job, wanted)
    except StoreRefused as error:
        raise ApiError(Code.DESTINATION_REFUSED, str(error)) from error
    behind = None if page.behind is None else cursors.of_image(*page.behind)
    return ImagePage(data=page.rows, has_more=behind is not None, next_cursor=tell_next(request, response, behind))
