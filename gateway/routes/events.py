"""Progress as server-sent events: whole views of the job, so that reconnecting needs no replay.

An event's id is a digest of its view, the same at every copy of the gateway: who comes back with the id of the newest
one hears nothing until the next.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.responses import StreamingResponse

from gateway.addresses import base_url
from gateway.auth import Caller, Reader, is_still_valid
from gateway.openapi import problems
from gateway.problems import ApiError, Code
from gateway.routes.jobs import JobId, find
from gateway.schemas import JobOut
from gateway.services import Services, services_of
from gateway.watch import Subscription
from shared.db.jobs import JobRow
from shared.errors import DatabaseUnavailable
from shared.pipeline import FINAL_JOB_STATES

#: Proxies cut connections that are silent for longer than about 30 s.
_PING_SECONDS = 15.0
#: A revoked key loses its open streams within this.
_CHECK_KEY_SECONDS = 30.0
#: Milliseconds until a client comes back after the gateway went.
_RETRY_MS = 1000
_HEADERS = {"X-Accel-Buffering": "no"}

routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_EXAMPLE = (
    'event: job\ndata: {"id": "…", "state": "running", …}\nid: 9f86d081884c7d65\n\n'
    "event: done\ndata: {…}\nid: 60303ae22b998861\n\n"
)
LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", max_length=100, description="Of the last event seen: it is not sent again"),
]


@routes.get(
    "/{job_id}/events",
    operation_id="streamJob",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`job` at most twice a second; `done` when the job has ended; `reconnect` before a restart."
            " The data of each is the job as getJob gives it",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **problems(Code.NOT_FOUND, Code.TOO_MANY_STREAMS),
    },
)
async def stream_job(
    job_id: JobId, caller: Reader, request: Request, last_event_id: LastEventId = None
) -> StreamingResponse:
    """The job's progress until it has ended."""
    services = services_of(request)
    job = await find(services, caller, job_id)
    if services.watch.streams >= services.settings.max_streams:
        raise ApiError(Code.TOO_MANY_STREAMS, "too many streams are open; ask for the job every few seconds instead")
    events = _events(services, caller, job, base_url(request), seen=last_event_id)
    return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)


async def _events(
    services: Services, caller: Caller, job: JobRow, base: str, *, seen: str | None
) -> AsyncIterator[bytes]:
    checked = time.monotonic()
    with services.watch.subscribed(job.id, base) as subscription:
        while not services.closing.is_set():
            shown = await _next(services, subscription)
            if shown is not None:
                is_done = shown.state in FINAL_JOB_STATES
                if is_done:
                    yield _event("done", shown)
                    return
                is_known, seen = seen == _id(shown), None
                yield KEEPALIVE_COMMENT if is_known else _event("job", shown)
            elif not services.closing.is_set():
                yield KEEPALIVE_COMMENT
            if time.monotonic() - checked > _CHECK_KEY_SECONDS:
                checked = time.monotonic()
                if not await _may_go_on(services, caller):
                    break
    yield format_sse_event(event="reconnect", data_str="{}", retry=_RETRY_MS)


async def _next(services: Services, subscription: Subscription) -> JobOut | None:
    """The next view; None when it is time for a ping or the gateway closes."""
    view = asyncio.create_task(subscription.next())
    closing = asyncio.create_task(services.closing.wait())
    try:
        await asyncio.wait({view, closing}, timeout=_PING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return view.result() if view.done() else None
    finally:
        for task in (view, closing):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _may_go_on(services: Services, caller: Caller) -> bool:
    try:
        return await is_still_valid(services, caller)
    except DatabaseUnavailable:
        return True  # it shows nothing new either; the next check decides


def _event(name: str, shown: JobOut) -> bytes:
    return format_sse_event(event=name, data_str=shown.model_dump_json(), id=_id(shown))


def _id(shown: JobOut) -> str:
    return hashlib.sha256(shown.model_dump_json().encode()).hexdigest()[:16]
