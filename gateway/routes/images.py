"""Results: what became of each row of the list, and the objects that hold the images."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from gateway import cursors
from gateway.auth import Reader
from gateway.images import ImageStatus, Wanted, read_page
from gateway.openapi import problems
from gateway.paging import tell_next
from gateway.problems import ApiError, Code
from gateway.routes.jobs import JobId, find
from gateway.schemas import ImagePage, ObjectOut, ObjectPage
from gateway.services import services_of
from shared.db import jobs
from shared.db.session import transaction
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


@routes.get(
    "/{job_id}/objects",
    operation_id="listObjects",
    responses=problems(Code.NOT_FOUND, Code.DESTINATION_REFUSED, Code.STORE_UNAVAILABLE),
)
async def list_objects(
    job_id: JobId,
    caller: Reader,
    request: Request,
    response: Response,
    link_seconds: Annotated[int, Query(ge=60, le=86_400, description="How long the links are good for")] = 3600,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> ObjectPage:
    """Shards, metadata and indexes that chunks of the job have stored, each with a link that reads it.

    Azure needs an account key to sign links with, S3 any credentials. A folder has no links.
    """
    services, after = services_of(request), cursors.key_place(cursor)
    job, valid = await find(services, caller, job_id), timedelta(seconds=link_seconds)
    async with transaction(services.resources.engine) as connection:
        found = await jobs.objects(connection, caller.tenant_id, job.id, after=after, limit=limit + 1)
    page, expires_at = found[:limit], datetime.now(UTC) + valid
    try:
        async with services.resources.stores.at(job.destination, job.endpoint) as store:
            links = [await store.link(each.key, valid=valid) for each in page]
    except StoreRefused as error:
        raise ApiError(Code.DESTINATION_REFUSED, str(error)) from error
    shown = [
        ObjectOut(
            key=each.key,
            size_bytes=each.size_bytes,
            sha256=each.sha256,
            url=link,
            expires_at=None if link is None else expires_at,
        )
        for each, link in zip(page, links, strict=True)
    ]
    behind = cursors.of_key(page[-1].key) if len(found) > limit else None
    return ObjectPage(data=shown, has_more=behind is not None, next_cursor=tell_next(request, response, behind))
