"""Who am I, is it alive, is it ready."""

from typing import Any

from fastapi import APIRouter, Request, Response

from gateway.auth import Reader
from gateway.openapi import problems
from gateway.ready import trouble
from gateway.schemas import Me
from gateway.services import services_of

routes = APIRouter(tags=["system"])


@routes.get("/v1/me", operation_id="getMe", responses=problems())
async def get_me(caller: Reader) -> Me:
    """The tenant behind the key, its tier as agreed, and what the key may do."""
    return Me(tenant=caller.tenant.name, tier=caller.tenant.plan, scopes=sorted(caller.scopes))


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
