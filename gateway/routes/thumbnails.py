"""Small pictures of a job's images, where its recipe asked for them."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from gateway.auth import Reader
from gateway.conditions import ETAG, NOT_MODIFIED, IfNoneMatch, is_known
from gateway.openapi import problems
from gateway.problems import ApiError, Code
from gateway.routes.jobs import JobId, find
from gateway.services import Services, services_of
from gateway.thumbnails import read_thumbnail, thumbnail_path
from shared.db import jobs
from shared.db.jobs import JobRow
from shared.db.session import transaction
from shared.errors import StoreRefused

routes = APIRouter(prefix="/v1/jobs", tags=["images"])

_BINARY = {"type": "string", "format": "binary"}
#: The same row of the same job keeps its picture unless it is taken down; a browser asks again after five minutes.
_HEADERS = {
    "Cache-Control": "private, max-age=300",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


class Jpeg(Response):
    """A picture, told apart from JSON in the OpenAPI document."""

    media_type = "image/jpeg"


@routes.get(
    "/{job_id}/images/{row}/thumbnail",
    operation_id="getThumbnail",
    response_class=Jpeg,
    responses={
        200: {"description": "A small JPEG", "headers": ETAG, "content": {"image/jpeg": {"schema": _BINARY}}},
        **NOT_MODIFIED,
        **problems(Code.NOT_FOUND, Code.NO_THUMBNAIL, Code.DESTINATION_REFUSED, Code.STORE_UNAVAILABLE),
    },
)
async def get_thumbnail(
    job_id: JobId,
    row: Annotated[int, Path(ge=0, le=2**53, description="The row's number, as the index has it")],
    caller: Reader,
    request: Request,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A small picture of an accepted image, if the recipe's `thumbnails` asked for some.

    Rows whose `thumbnail_path` is not null have one.
    """
    services = services_of(request)
    job = await find(services, caller, job_id)
    try:
        body = await _thumbnail(services, job, row)
    except StoreRefused as error:
        raise ApiError(Code.DESTINATION_REFUSED, str(error)) from error
    if body is None:
        raise ApiError(Code.NO_THUMBNAIL, "the job has no thumbnail of that row; see thumbnail_path of its images")
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {**_HEADERS, "ETag": f'"{tag}"'}
    if is_known(tag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Jpeg(body, headers=headers)


async def _thumbnail(services: Services, job: JobRow, row: int) -> bytes | None:
    """The index decides: what it does not name is not shown, even if it lies there still."""
    async with transaction(services.resources.engine) as connection:
        chunk = await jobs.ended_chunk_with(connection, job.id, row=row)
    if chunk is None:
        return None
    index = await services.indexes.index(services.resources, job, chunk)
    key = None if index is None else thumbnail_path(index, row)
    if key is None:
        return None
    async with services.resources.stores.at(job.destination, job.endpoint) as store:
        return await read_thumbnail(store, key, row)
