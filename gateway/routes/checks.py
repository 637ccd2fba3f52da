"""Dry runs: what is in an uploaded list, before a dataset is asked for."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response

from gateway.addresses import base_url
from gateway.auth import Caller, Reader, Writer
from gateway.check_schemas import CheckIn, CheckOut
from gateway.idempotency import IdempotentRoute
from gateway.openapi import header, problems
from gateway.problems import ApiError, Code, not_found
from gateway.schemas import JobError
from gateway.services import Services, services_of
from shared.db import checks, uploads
from shared.db.checks import Check
from shared.db.session import transaction
from shared.db.uploads import StoredList
from shared.manifest.formats import ListFormat, format_of

routes = APIRouter(prefix="/v1/manifests", tags=["manifests"], route_class=IdempotentRoute)

#: Unfinished ones of a tenant. They are carried out one at a time, whoever asks.
_MOST_OPEN = 10
_LOOK_AGAIN_SECONDS = "30"

ManifestId = Annotated[str, Path(description="The list's id", json_schema_extra={"format": "uuid"})]
CheckId = Annotated[str, Path(description="The dry run's id", json_schema_extra={"format": "uuid"})]


@routes.post(
    "/{manifest_id}/check",
    operation_id="checkManifest",
    status_code=202,
    responses={
        202: {"headers": {"Location": header("Where its result will be", "https://gateway/v1/manifests/…/checks/…")}},
        **problems(Code.NOT_FOUND, Code.BAD_SOURCE, Code.QUOTA_EXCEEDED),
    },
)
async def check_manifest(
    manifest_id: ManifestId, asked: CheckIn, caller: Writer, request: Request, response: Response
) -> CheckOut:
    """Has an uploaded list read whole: rows, bad rows, duplicates, hosts, columns. Nothing is stored.

    Ten million rows take minutes, so the answer is where to look for the result.
    """
    services = services_of(request)
    listed = await _found(services, caller, manifest_id)
    chosen = format_of(listed.filename) if asked.format is None else ListFormat(asked.format)
    source = {
        **asked.model_dump(mode="json"),
        "format": chosen,
        "key": listed.key,
        "ending": ".gz" if listed.filename.lower().endswith(".gz") else "",
    }
    async with transaction(services.resources.engine) as connection:
        check = await checks.ask(
            connection, tenant_id=caller.tenant_id, upload_id=listed.id, source=source, most_open=_MOST_OPEN
        )
    if check is None:
        raise ApiError(
            Code.QUOTA_EXCEEDED,
            f"{_MOST_OPEN} lists of yours are being checked; wait until one is done",
            headers={"Retry-After": _LOOK_AGAIN_SECONDS},
        )
    response.headers["Location"] = f"{base_url(request)}/v1/manifests/{listed.id}/checks/{check.id}"
    return _shown(check)


@routes.get("/{manifest_id}/checks/{check_id}", operation_id="getManifestCheck", responses=problems(Code.NOT_FOUND))
async def get_manifest_check(manifest_id: ManifestId, check_id: CheckId, caller: Reader, request: Request) -> CheckOut:
    """A dry run and, once it is done, what it found. It is kept as long as the list."""
    async with transaction(services_of(request).resources.engine) as connection:
        check = await checks.get(connection, caller.tenant_id, _id(manifest_id), _id(check_id))
    if check is None:
        raise not_found()
    return _shown(check)


async def _found(services: Services, caller: Caller, manifest_id: str) -> StoredList:
    async with transaction(services.resources.engine) as connection:
        listed = await uploads.get(connection, caller.tenant_id, _id(manifest_id))
    if listed is None:
        raise not_found()
    return listed


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise not_found() from None


def _shown(check: Check) -> CheckOut:
    failed = check.error_code is not None
    return CheckOut.model_validate(
        {
            "id": check.id,
            "manifest_id": check.upload_id,
            "state": check.state,
            "created_at": check.created_at,
            "finished_at": check.finished_at,
            "report": check.report,
            "error": JobError(code=check.error_code or "", detail=check.error or "") if failed else None,
        }
    )
