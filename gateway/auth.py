"""Who asks: the tenant comes from the API key alone, never from a path, a query or a body."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from gateway.credentials import Credential, Scope, parse_key
from gateway.problems import ApiError, Code
from gateway.services import Services, services_of
from shared.db import api_keys, tenancy
from shared.db.api_keys import Key
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
    """A dependency that gives the caller, and counts the request.

    Raises ApiError: no valid key (401), suspended or out of scope (403), too many requests (429).
    """

    async def caller(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        header: Annotated[str | None, Security(_header)],
    ) -> Caller:
        services = services_of(request)
        found = await identify(services, bearer.credentials if bearer else header)
        request.state.rate = await services.limiter.count(found.tenant_id)
        if not found.scopes & {scope, Scope.ADMIN}:
            raise ApiError(Code.FORBIDDEN, f"this key lacks the scope {scope}; make one that has it")
        if scope is Scope.ADMIN:
            tenancy.see_everyone()
        return found

    return caller


async def identify(services: Services, presented: str | None) -> Caller:
    """The caller of a presented key, whose rows alone are seen from now on. Raises ApiError (401, 403)."""
    if not presented:
        raise _unauthorized("give your API key in the header, as Authorization: Bearer pxc_…")
    credential = parse_key(presented)
    if credential is None:
        raise _unauthorized("this is not an API key, or it is mistyped; copy it again")
    key = services.keyring.recent(credential.id) or await _look_up(services, credential)
    is_right = credential.matches(key.secret_hash if key else _NO_HASH)
    if key is None or not is_right or not key.is_valid:
        raise _unauthorized("this API key is unknown, expired or revoked; ask the operator for another")
    if key.tenant.suspended_at is not None:
        raise ApiError(Code.TENANT_SUSPENDED, "this account is suspended; ask the operator why")
    tenancy.see_only(key.tenant.id)
    return Caller(tenant=key.tenant, key_id=key.id, scopes=key.scopes)


async def presented_key(request: Request) -> str | None:
    """The key as it stands in the request's headers."""
    bearer = await _bearer(request)
    return bearer.credentials if bearer else await _header(request)


async def _look_up(services: Services, credential: Credential) -> Key | None:
    """The key as the database has it; a good one is remembered for a moment, and that it was used."""
    async with transaction(services.resources.engine) as connection:
        key = await api_keys.get(connection, credential.id)
        if key is not None and key.is_valid and credential.matches(key.secret_hash):
            await api_keys.note_use(connection, key.id)
            if key.tenant.suspended_at is None:
                services.keyring.keep(key)
    return key


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
