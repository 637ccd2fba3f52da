"""Manifests: lists too long for a request, uploaded as they are."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AfterValidator

from gateway.auth import Writer
from gateway.openapi import problems
from gateway.problems import Code
from gateway.schemas import ManifestOut, storable
from gateway.services import services_of
from gateway.sources import received, store_list
from shared.db import uploads
from shared.db.session import transaction
from shared.manifest.formats import format_of
from shared.spool import list_key

routes = APIRouter(prefix="/v1/manifests", tags=["manifests"])

_BODY = {
    "required": True,
    "description": "The file as it is: txt, csv, tsv, json, jsonl or parquet, each also gzipped",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@routes.post(
    "",
    operation_id="uploadManifest",
    status_code=201,
    openapi_extra={"requestBody": _BODY},
    responses=problems(Code.BODY_TOO_LARGE, Code.BAD_SOURCE, Code.STORE_UNAVAILABLE),
)
async def upload_manifest(
    caller: Writer,
    request: Request,
    filename: Annotated[
        str, Query(min_length=1, max_length=255, description="Its name; tells the format"), AfterValidator(storable)
    ],
) -> ManifestOut:
    """Stores a list of URLs for a job to come. It is read when the job is submitted, not now."""
    services = services_of(request)
    resources = services.resources
    format_of(filename)
    async with received(services.settings, request.stream(), filename) as file:
        key = list_key(caller.tenant_id, file.sha256)
        await store_list(resources.spool, key, file.path, file.sha256)
        async with transaction(resources.engine) as connection:
            upload_id = await uploads.add(
                connection,
                tenant_id=caller.tenant_id,
                filename=filename,
                key=key,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
            )
    return ManifestOut(id=upload_id, filename=filename, size_bytes=file.size_bytes, sha256=file.sha256)
