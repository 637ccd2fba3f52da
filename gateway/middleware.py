"""What surrounds every request: its id, its line in the log, its count, and the last net for exceptions."""

import re
import secrets
import time
from collections.abc import Sequence
from http import HTTPStatus

import structlog
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.limits import Rate
from gateway.problems import MEDIA_TYPE, is_bug, problem_response, translated
from shared import metrics
from shared.db import tenancy
from shared.trace import Trace
from shared.tracing import rename_span, span

log = structlog.get_logger(__name__)

_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_HEADER = b"x-request-id"
#: Answers are a tenant's own: nobody keeps them unless they say so, and no browser guesses what they are.
_ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
#: Asked every few seconds by machines.
_QUIET = frozenset({"/livez", "/readyz"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Observed:
    """Pure ASGI, so that streams pass through it unbuffered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = _header(scope, b"traceparent")
        trace = Trace.of_request(_request_id(scope), given)
        if scope["path"] in _QUIET:
            await self._answer(scope, receive, send, trace)
            return
        with span(scope["method"], trace, is_root=trace.traceparent != given) as within:
            await self._answer(scope, receive, send, within or trace)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        request_id = trace.request_id
        scope.setdefault("state", {}).update(request_id=request_id, trace=trace)
        tenancy.see_nobody()
        started, status, is_replaced = time.monotonic(), 0, False

        async def watched(message: Message) -> None:
            nonlocal status, is_replaced
            if is_replaced:
                return
            if _is_bare_refusal(message):
                await problem_response(translated(HTTPException(message["status"])), request_id)(
                    scope, receive, watched
                )
                is_replaced = True
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (_HEADER, request_id.encode()),
                    *_unsaid(message["headers"]),
                    *_rate_headers(scope),
                ]
                metrics.request_seconds.labels(*_labels(scope)).observe(time.monotonic() - started)
            await send(message)

        with structlog.contextvars.bound_contextvars(**trace.fields):
            try:
                await self._app(scope, receive, watched)
            except Exception as error:
                if is_bug(error):
                    log.exception("request_failed", path=scope["path"])
                if status:  # the answer has begun; the server breaks the connection, which tells the client
                    raise
                answer = problem_response(translated(error), request_id)
                await answer(scope, receive, watched)
            finally:
                _note(scope, status, time.monotonic() - started)


def request_id_of(request: Request) -> str:
    found: str = request.state.request_id
    return found


def trace_of(request: Request) -> Trace:
    found: Trace = request.state.trace
    return found


def _request_id(scope: Scope) -> str:
    given = _header(scope, _HEADER)
    return given if given and _ID.fullmatch(given) else secrets.token_hex(8)


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)


def _labels(scope: Scope) -> tuple[str, str]:
    """Method and route template: a closed set, whatever clients ask for."""
    route = getattr(scope.get("route"), "path", "unmatched")
    return (scope["method"] if scope["method"] in _METHODS else "other"), route


def _is_bare_refusal(message: Message) -> bool:
    """Whether it begins the text with which Starlette refuses a body whose announced length is above the limit."""
    if message["type"] != "http.response.start" or message["status"] != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return False
    return (b"content-type", MEDIA_TYPE.encode()) not in message["headers"]


def _unsaid(said: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What every answer says, less what this one says itself."""
    names = {name.lower() for name, _ in said}
    return [header for header in _ALWAYS if header[0] not in names]


def _rate_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """What is left of the caller's requests, if they were counted."""
    rate: Rate | None = scope["state"].get("rate")
    told = rate.headers() if rate is not None else {}
    return [(name.lower().encode(), value.encode()) for name, value in told.items()]


def _note(scope: Scope, status: int, seconds: float) -> None:
    metrics.requests.labels(*_labels(scope), str(status or "aborted")).inc()
    rename_span(" ".join(_labels(scope)), status=status)
    level = log.debug if scope["path"] in _QUIET else log.info
    level("request_answered", method=scope["method"], path=scope["path"], status=status, seconds=round(seconds, 4))
