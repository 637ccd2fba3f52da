"""Requests that name an `Idempotency-Key`: the first is carried out, repeats get its answer.

    unknown ─▶ claimed ─▶ carried out ─▶ answer kept ─▶ repeats: the same answer, with Idempotent-Replayed: true
                  │            └ refused or failed ─▶ forgotten: the next one is carried out anew
                  └ meanwhile: 409; after another request with that key: 422

A key belongs to a tenant, and to one method, path, query and body. It is kept for a day.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from gateway.auth import Caller, identify, presented_key
from gateway.openapi import IDEMPOTENCY_KEY as NAME
from gateway.openapi import Responses, with_problems
from gateway.problems import ApiError, Code, Mistake
from gateway.services import Services, services_of
from shared.db import idempotency
from shared.db.idempotency import Record, Standing
from shared.db.session import transaction
from shared.errors import DatabaseUnavailable

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
#: Of the answer's headers, those that are part of what was asked for.
_KEPT = ("location", "etag", "link", "preference-applied")
#: Seconds until a request that is still being carried out is likely to have ended.
_RETRY_AFTER = "1"
PARAMETER = {
    "name": NAME,
    "in": "header",
    "required": False,
    "description": "A name of your own for this request, such as a UUID. Repeated with it, the request is answered as"
    " the first time and nothing is done twice. Kept for a day",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "example": "6d0dd1a5-3d0b-4b2e-9f1c-0d6f3c8f7a11",
}
PROBLEMS = (Code.IDEMPOTENCY_RUNNING, Code.IDEMPOTENCY_MISMATCH, Code.BODY_TOO_LARGE)
Answer = Callable[[Request], Awaitable[Response]]


class IdempotentRoute(APIRoute):
    """A route whose POST heeds the key. Its body is read whole first, so it needs a limit."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        methods: set[str] | list[str] | None = None,
        responses: Responses | None = None,
        openapi_extra: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        if "POST" in (methods or ()):
            responses = with_problems(responses or {}, *PROBLEMS)
            extra = dict(openapi_extra or {})
            openapi_extra = {**extra, "parameters": [*extra.get("parameters", ()), PARAMETER]}
        super().__init__(path, endpoint, methods=methods, responses=responses, openapi_extra=openapi_extra, **more)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def heeding(request: Request) -> Response:
            key = request.headers.get(NAME)
            if key is None or request.method != "POST":
                return await answer(request)
            return await _once(request, key, answer)

        return heeding


async def _once(request: Request, key: str, answer: Answer) -> Response:
    services = services_of(request)
    caller = await identify(services, await presented_key(request))
    check_key(key)
    digest = digest_of(request, await request.body())  # as slowly as the client sends: not within a transaction
    return await once(services, caller, key, digest, partial(answer, request))


def check_key(key: str) -> None:
    """Raises ApiError for what cannot name a request."""
    if not _KEY.fullmatch(key):
        detail = "must be 1 to 255 printable ASCII characters without spaces"
        mistake = Mistake(pointer=f"header {NAME}", detail=detail)
        raise ApiError(Code.INVALID_REQUEST, f"{NAME}: {detail}", errors=[mistake])


async def once(
    services: Services, caller: Caller, key: str, digest: str, answer: Callable[[], Awaitable[Response]]
) -> Response:
    """The answer to the request of that digest: kept if it was carried out before. Raises ApiError."""
    async with transaction(services.resources.engine) as connection:
        known = await idempotency.claim(connection, caller.tenant_id, key, digest)
    if known.standing is not Standing.OURS:
        return _answered(known)
    try:
        response = await answer()
    except BaseException:
        await _give_up(services, caller, key)
        raise
    await _keep(services, caller, key, response)
    return response


def digest_of(request: Request, body: bytes) -> str:
    """What makes two requests the same (sha256, hex): what is asked for, and the body or what stands for it."""
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    return hashlib.sha256(asked + body).hexdigest()


def _answered(known: Record) -> Response:
    match known.standing:
        case Standing.RUNNING:
            raise ApiError(
                Code.IDEMPOTENCY_RUNNING,
                f"the first request with this {NAME} is still being carried out; ask again in a moment",
                headers={"Retry-After": _RETRY_AFTER},
            )
        case Standing.MISMATCH:
            raise ApiError(
                Code.IDEMPOTENCY_MISMATCH, f"this {NAME} was used for another request; choose a new one for this one"
            )
    kept: Mapping[str, Any] = known.response or {}
    headers = {**kept["headers"], "Idempotent-Replayed": "true"}
    return Response(kept["body"], status_code=known.status, media_type=kept["media_type"], headers=headers)


async def _keep(services: Services, caller: Caller, key: str, response: Response) -> None:
    """Should the answer not be kept, a repeat is refused for a minute and then carried out anew."""
    kept = {
        "body": bytes(response.body).decode(),
        "media_type": response.headers.get("content-type"),
        "headers": {name: response.headers[name] for name in _KEPT if name in response.headers},
    }
    with suppress(DatabaseUnavailable):
        async with transaction(services.resources.engine) as connection:
            await idempotency.answer(connection, caller.tenant_id, key, status=response.status_code, response=kept)


async def _give_up(services: Services, caller: Caller, key: str) -> None:
    with suppress(DatabaseUnavailable):
        async with transaction(services.resources.engine) as connection:
            await idempotency.give_up(connection, caller.tenant_id, key)
