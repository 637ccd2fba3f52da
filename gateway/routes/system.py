"""Who am I, is it alive, is it ready."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from gateway import reference
from gateway.auth import Reader
from gateway.openapi import problems
from gateway.ready import trouble
from gateway.schemas import Me, QuotaOut
from gateway.services import services_of
from shared.db import tenants
from shared.db.session import transaction
from shared.quotas import Quota

routes = APIRouter(tags=["system"])


@routes.get("/v1/me", operation_id="getMe", responses=problems())
async def get_me(caller: Reader, request: Request) -> Me:
    """The tenant behind the key, what the key may do, and what is used of the tenant's quotas."""
    services, tenant = services_of(request), caller.tenant
    async with transaction(services.resources.engine) as connection:
        usage = await tenants.usage(connection, tenant.id)
    limits = tenant.limits(services.settings.quotas)
    return Me(
        tenant=tenant.name,
        tier=tenant.plan,
        tier_now=tenant.tier,
        scopes=sorted(caller.scopes),
        quotas={quota: QuotaOut(limit=limits.get(quota), used=usage.of(quota)) for quota in Quota},
    )


@routes.get("/livez", operation_id="getLive", responses={200: {"description": "The process turns"}})
async def get_live() -> dict[str, str]:
    """Whether the process turns; asks nobody else."""
    return {"live": "ok"}


@routes.get("/readyz", operation_id="getReady", responses={503: {"description": "What is not ready is named"}})
async def get_ready(request: Request, response: Response) -> dict[str, Any]:
    """Whether jobs can be accepted. Redis is not needed for that."""
    wrong = await trouble(services_of(request).resources)
    response.status_code = 503 if any(wrong.values()) else 200
    return {name: sentence or "ok" for name, sentence in wrong.items()}


@routes.get("/docs", include_in_schema=False)
async def get_docs(request: Request) -> HTMLResponse:
    """The reference for people; it needs nothing but this gateway."""
    return HTMLResponse(reference.page(request.app.openapi()), headers={"Content-Security-Policy": reference.POLICY})
