"""Manifests: lists too long for a request, uploaded as they are."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator

from gateway import idempotency
from gateway.auth import Writer
from gateway.openapi import IDEMPOTENCY_KEY, problems
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
    response_model=ManifestOut,
    openapi_extra={"requestBody": _BODY, "parameters": [idempotency.PARAMETER]},
    responses=problems(Code.BAD_SOURCE, Code.STORE_UNAVAILABLE, *idempotency.PROBLEMS),
)
async def upload_manifest(
    caller: Writer,
    request: Request,
    filename: Annotated[
        str, Query(min_length=1, max_length=255, description="Its name; tells the format"), AfterValidator(storable)
    ],
) -> Response:
    """Stores a list of URLs for a job to come. It is read when the job is submitted, not now.

    A large one is better sent in parts, which go on after a broken connection: POST /v1/uploads.
    """
    services = services_of(request)
    resources = services.resources
    format_of(filename)
    name = request.headers.get(IDEMPOTENCY_KEY)
    if name is not None:
        idempotency.check_key(name)
    async with received(services.settings, request.stream(), filename) as file:
        key = list_key(caller.tenant_id, file.sha256)
        await store_list(resources.spool, key, file.path, file.sha256)

    async def add() -> Response:
        async with transaction(resources.engine) as connection:
            upload_id = await uploads.add(
                connection,
                tenant_id=caller.tenant_id,
                filename=filename,
                key=key,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
            )
        made = ManifestOut(id=upload_id, filename=filename, size_bytes=file.size_bytes, sha256=file.sha256)
        return Response(made.model_dump_json(), status_code=201, media_type="application/json")

    if name is None:
        return await add()
    # Known by what arrived, which is in the spool by now; an equal list lies there once.
    digest = idempotency.digest_of(request, file.sha256.encode())
    return await idempotency.once(services, caller, name, digest, add)
