"""Who asks: the tenant comes from the API key alone, never from a path, a query or a body."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from gateway.credentials import Scope, parse_key
from gateway.problems import ApiError, Code
from gateway.services import Services, services_of
from shared.db import api_keys
from shared.db.session import transaction
from shared.db.tenants import Tenant

_bearer = HTTPBearer(auto_error=False, scheme_name="bearer", description="An API key as bearer token")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="header", description="The same key, by header")

#: Compared with when the key is unknown, so that both cases do the same work.
_NO_HASH = bytes(32)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A tenant, by one of its keys."""

    tenant: Tenant
    key_id: str
    scopes: frozenset[str]

    @property
    def tenant_id(self) -> UUID:
        return self.tenant.id


def requires(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the caller. Raises ApiError: no valid key (401), suspended or out of scope (403)."""

    async def caller(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        header: Annotated[str | None, Security(_header)],
    ) -> Caller:
        found = await identify(services_of(request), bearer.credentials if bearer else header)
        if not found.scopes & {scope, Scope.ADMIN}:
            raise ApiError(Code.FORBIDDEN, f"this key lacks the scope {scope}; make one that has it")
        return found

    return caller


async def identify(services: Services, presented: str | None) -> Caller:
    """The caller of a presented key. Raises ApiError (401, 403)."""
    if not presented:
        raise _unauthorized("give your API key in the header, as Authorization: Bearer pxc_…")
    credential = parse_key(presented)
    if credential is None:
        raise _unauthorized("this is not an API key, or it is mistyped; copy it again")
    async with transaction(services.resources.engine) as connection:
        key = await api_keys.get(connection, credential.id)
        is_right = credential.matches(key.secret_hash if key else _NO_HASH)
        if key is None or not is_right or not key.is_valid:
            raise _unauthorized("this API key is unknown, expired or revoked; ask the operator for another")
        await api_keys.note_use(connection, key.id)
    if key.tenant.suspended_at is not None:
        raise ApiError(Code.TENANT_SUSPENDED, "this account is suspended; ask the operator why")
    return Caller(tenant=key.tenant, key_id=key.id, scopes=key.scopes)


async def is_still_valid(services: Services, caller: Caller) -> bool:
    """Whether the key behind an open stream is still good."""
    async with transaction(services.resources.engine) as connection:
        key = await api_keys.get(connection, caller.key_id)
    return key is not None and key.is_valid and key.tenant.suspended_at is None


def _unauthorized(detail: str) -> ApiError:
    return ApiError(Code.UNAUTHORIZED, detail, headers={"WWW-Authenticate": "Bearer"})


Reader = Annotated[Caller, Security(requires(Scope.JOBS_READ))]
Writer = Annotated[Caller, Security(requires(Scope.JOBS_WRITE))]
Admin = Annotated[Caller, Security(requires(Scope.ADMIN))]
