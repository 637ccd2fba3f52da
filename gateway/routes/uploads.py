"""Uploads of lists in parts, which go on after a broken connection, at any copy of the gateway.

In the manner of the IETF's resumable uploads: `Upload-Offset` says how much has arrived, PATCH adds a part behind it.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import AfterValidator, ConfigDict, Field

from gateway import arriving
from gateway.addresses import base_url
from gateway.auth import Reader, Writer
from gateway.idempotency import IdempotentRoute
from gateway.openapi import header, problems
from gateway.problems import Code, not_found
from gateway.schemas import ManifestOut, StrictRequest, UploadOut, storable
from gateway.services import services_of
from shared.db.parts import Arriving
from shared.manifest.formats import format_of

_PREFIX = "/v1/uploads"
_MOST_BYTES = 64 * 1024
_OFFSET = {"Upload-Offset": header("Bytes that have arrived", "8388608")}
_PART = {
    "required": True,
    "description": "The next bytes of the list, 8 MiB or so",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}

UploadId = Annotated[str, Path(description="The upload's id", json_schema_extra={"format": "uuid"})]
Offset = Annotated[
    int, Header(alias="Upload-Offset", ge=0, lt=2**53, description="Where the part begins: what has arrived so far")
]


class UploadIn(StrictRequest):
    """A list that is to arrive in parts."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"filename": "urls.parquet"}]})

    filename: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(storable)] = Field(
        description="Its name; tells the format"
    )


class CompleteIn(StrictRequest):
    """What the parts make together."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = Field(
        default=None, description="Of all bytes, hex; the list is refused if it is another. None: not compared"
    )


routes = APIRouter(prefix=_PREFIX, tags=["manifests"], route_class=IdempotentRoute)


@routes.post(
    "",
    operation_id="beginUpload",
    status_code=201,
    max_body_size=_MOST_BYTES,
    responses={
        201: {"headers": {**_OFFSET, "Location": header("Where its parts go", "https://gateway/v1/uploads/…")}},
        **problems(Code.BAD_SOURCE, Code.QUOTA_EXCEEDED),
    },
)
async def begin_upload(asked: UploadIn, caller: Writer, request: Request, response: Response) -> UploadOut:
    """Begins an upload in parts. One that is not completed within a day is given up."""
    format_of(asked.filename)
    begun = await arriving.begin(services_of(request), caller, asked.filename)
    response.headers["Location"] = f"{base_url(request)}{_PREFIX}/{begun.id}"
    return _shown(begun, response)


@routes.get("/{upload_id}", operation_id="getUpload", responses={200: {"headers": _OFFSET}, **problems(Code.NOT_FOUND)})
async def get_upload(upload_id: UploadId, caller: Reader, request: Request, response: Response) -> UploadOut:
    """How much of an upload has arrived: where to go on after a broken connection."""
    return _shown(await arriving.find(services_of(request), caller, _id(upload_id)), response)


@routes.patch(
    "/{upload_id}",
    operation_id="sendPart",
    openapi_extra={"requestBody": _PART},
    responses={
        200: {"headers": _OFFSET},
        **problems(
            *(Code.NOT_FOUND, Code.UPLOAD_OFFSET, Code.UPLOAD_COMPLETE, Code.BODY_TOO_LARGE, Code.BAD_SOURCE),
            Code.STORE_UNAVAILABLE,
        ),
    },
)
async def send_part(
    upload_id: UploadId, offset: Offset, caller: Writer, request: Request, response: Response
) -> UploadOut:
    """Adds the next part. It counts whole or not at all; 409 tells where the upload really ends."""
    services = services_of(request)
    return _shown(
        await arriving.take_part(services, caller, _id(upload_id), at=offset, body=request.stream()), response
    )


@routes.post(
    "/{upload_id}/complete",
    operation_id="completeUpload",
    max_body_size=_MOST_BYTES,
    responses=problems(Code.NOT_FOUND, Code.UPLOAD_OFFSET, Code.BAD_SOURCE, Code.STORE_UNAVAILABLE),
)
async def complete_upload(upload_id: UploadId, asked: CompleteIn, caller: Writer, request: Request) -> ManifestOut:
    """Makes a list of the parts, under the upload's id, for jobs to come. May be repeated."""
    done = await arriving.complete(services_of(request), caller, _id(upload_id), sha256=asked.sha256)
    return ManifestOut(id=done.id, filename=done.filename, size_bytes=done.size_bytes, sha256=done.sha256 or "")


@routes.delete(
    "/{upload_id}",
    operation_id="abandonUpload",
    max_body_size=_MOST_BYTES,
    responses=problems(Code.NOT_FOUND, Code.UPLOAD_COMPLETE),
)
async def abandon_upload(upload_id: UploadId, caller: Writer, request: Request, response: Response) -> UploadOut:
    """Gives up an upload that is not complete."""
    return _shown(await arriving.abandon(services_of(request), caller, _id(upload_id)), response)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise not_found() from None


def _shown(upload: Arriving, response: Response) -> UploadOut:
    response.headers["Upload-Offset"] = str(upload.size_bytes)
    return UploadOut(
        id=upload.id, filename=upload.filename, size_bytes=upload.size_bytes, is_complete=upload.is_complete
    )
