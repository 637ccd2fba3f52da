"""Tenants: made, shown, put on another tier or other quotas, suspended. For administrators."""

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Path, Request

from gateway.admin_schemas import TenantChange, TenantDetail, TenantIn, TenantOut, TenantsOut, UsageOut
from gateway.auth import Admin
from gateway.idempotency import IdempotentRoute
from gateway.openapi import problems
from gateway.problems import ApiError, Code
from gateway.schemas import JOB_ID
from gateway.services import services_of
from shared.db import tenants
from shared.db.session import Connection, transaction
from shared.db.tenants import Tenant
from shared.pipeline import Tier
from shared.quotas import read_limits

routes = APIRouter(prefix="/v1/admin/tenants", tags=["admin"], route_class=IdempotentRoute)
TenantId = Annotated[str, Path(pattern=JOB_ID, description="The tenant's id")]

log = structlog.get_logger("gateway")


@routes.get("", operation_id="listTenants", responses=problems())
async def list_tenants(caller: Admin, request: Request) -> TenantsOut:
    """All tenants."""
    async with transaction(services_of(request).resources.engine) as connection:
        found = await tenants.every(connection)
    return TenantsOut(data=[_out(tenant) for tenant in found])


@routes.post("", operation_id="createTenant", status_code=201, responses=problems(Code.NAME_TAKEN))
async def create_tenant(asked: TenantIn, caller: Admin, request: Request) -> TenantDetail:
    """Makes a tenant; make a key for it next."""
    async with transaction(services_of(request).resources.engine) as connection:
        if await tenants.named(connection, asked.name) is not None:
            raise ApiError(Code.NAME_TAKEN, "there is a tenant of that name already; look at the list of them")
        tenant_id = await tenants.ensure_tenant(connection, asked.name, Tier(asked.plan))
        if asked.quotas:
            await tenants.set_quotas(connection, tenant_id, read_limits(asked.quotas))
        made = await _detail(connection, tenant_id)
    log.info("tenant_created", tenant=str(tenant_id), plan=asked.plan, key=caller.key_id)
    return made


@routes.get("/{tenant_id}", operation_id="getTenant", responses=problems(Code.NOT_FOUND))
async def get_tenant(tenant_id: TenantId, caller: Admin, request: Request) -> TenantDetail:
    """A tenant, and what it has used today."""
    async with transaction(services_of(request).resources.engine) as connection:
        return await _detail(connection, UUID(tenant_id))


@routes.patch("/{tenant_id}", operation_id="changeTenant", responses=problems(Code.NOT_FOUND))
async def change_tenant(tenant_id: TenantId, asked: TenantChange, caller: Admin, request: Request) -> TenantDetail:
    """Agrees on another tier or other quotas, suspends a tenant or lets it in again.

    A tier counts for chunks planned from now on. Gateways notice a suspension within seconds; jobs of a suspended
    tenant go on, so cancel them if they should not.
    """
    tenant = UUID(tenant_id)
    async with transaction(services_of(request).resources.engine) as connection:
        if asked.plan is not None:
            await tenants.change_plan(connection, tenant, Tier(asked.plan))
        if asked.quotas is not None:
            await tenants.set_quotas(connection, tenant, read_limits(asked.quotas))
        if asked.suspended is not None:
            await (tenants.suspend if asked.suspended else tenants.let_in)(connection, tenant)
        changed = await _detail(connection, tenant)
    log.info("tenant_changed", tenant=tenant_id, key=caller.key_id, **asked.model_dump(exclude_none=True))
    return changed


async def _detail(connection: Connection, tenant_id: UUID) -> TenantDetail:
    tenant = await tenants.get(connection, tenant_id)
    if tenant is None:
        raise ApiError(Code.NOT_FOUND, "there is no tenant of that id; look at the list of them")
    usage = await tenants.usage(connection, tenant_id)
    return TenantDetail(**_out(tenant).model_dump(), usage=UsageOut.model_validate(usage, from_attributes=True))


def _out(tenant: Tenant) -> TenantOut:
    return TenantOut(
        id=tenant.id,
        name=tenant.name,
        plan=tenant.plan,
        tier=tenant.tier,
        quotas={str(quota): limit for quota, limit in tenant.quotas.items()},
        suspended_at=tenant.suspended_at,
        rows_planned=tenant.rows_planned,
        created_at=tenant.created_at,
    )
