"""What can be made from a job that has ended: more rows, rows once more, another dataset."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from gateway.auth import Caller, Writer
from gateway.conditions import tagged
from gateway.idempotency import IdempotentRoute
from gateway.middleware import trace_of
from gateway.openapi import Responses, problems
from gateway.problems import Code
from gateway.revise import append, refresh, retry
from gateway.routes.jobs import SUBMIT_CODES, SUBMITTED, JobId, find, find_held, show
from gateway.schemas import AppendIn, CloneIn, JobOut, RefreshIn, RetryIn
from gateway.services import Services, services_of
from gateway.settings import GatewaySettings
from gateway.submit import Submitted, clone
from shared.db.jobs import JobRow
from shared.trace import Trace

Asked = TypeVar("Asked")
#: What makes a job of another one, from what was asked for.
_Verb = Callable[[Services, Caller, JobRow, Asked, Trace], Awaitable[Submitted]]

_AGAIN: Responses = {
    200: {
        "model": JobOut,
        "description": "The same request was made before; this is its job",
        "headers": SUBMITTED,
    },
    202: {"headers": SUBMITTED},
}
_REVISION_CODES = (
    Code.NOT_FOUND,
    Code.QUOTA_EXCEEDED,
    Code.DATASET_BUSY,
    Code.DESTINATION_LOST,
    Code.BAD_DESTINATION,
    Code.DESTINATION_REFUSED,
    Code.STORE_UNAVAILABLE,
)


def router(settings: GatewaySettings) -> APIRouter:
    """The routes of further revisions."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=IdempotentRoute)

    @routes.post(
        "/{job_id}/append",
        operation_id="appendToJob",
        max_body_size=settings.max_job_bytes,
        status_code=202,
        response_model=JobOut,
        responses={**_AGAIN, **problems(*_REVISION_CODES, Code.OVER_QUOTA, Code.BAD_SOURCE, Code.BODY_TOO_LARGE)},
    )
    async def append_to_job(job_id: JobId, asked: AppendIn, caller: Writer, request: Request) -> Response:
        """Adds the rows of another list to the job's dataset, by a new job. Bytes that are there are duplicates.

        The same list is appended once: asked again, the answer is the job that appended it.
        """
        return await _made(append, request, caller, job_id, asked)

    @routes.post(
        "/{job_id}/retry",
        operation_id="retryJob",
        status_code=202,
        response_model=JobOut,
        responses={**_AGAIN, **problems(*_REVISION_CODES, Code.NOTHING_TO_RETRY)},
    )
    async def retry_job(job_id: JobId, asked: RetryIn, caller: Writer, request: Request) -> Response:
        """Fetches rejected rows of the job's dataset again, by a new job; what is stored is left alone."""
        return await _made(retry, request, caller, job_id, asked)

    @routes.post(
        "/{job_id}/refresh",
        operation_id="refreshJob",
        status_code=202,
        response_model=JobOut,
        responses={**_AGAIN, **problems(*_REVISION_CODES, Code.NOTHING_TO_RETRY)},
    )
    async def refresh_job(job_id: JobId, asked: RefreshIn, caller: Writer, request: Request) -> Response:
        """Asks hosts whether the pictures of a dataset have changed, and replaces those that have, by a new job.

        Hosts that gave an ETag or a Last-Modified are asked by it, and send a picture only if it is another one.
        """
        return await _made(refresh, request, caller, job_id, asked)

    @routes.post(
        "/{job_id}/clone",
        operation_id="cloneJob",
        status_code=202,
        response_model=JobOut,
        responses={**_AGAIN, **problems(*SUBMIT_CODES, Code.NOT_FOUND)},
    )
    async def clone_job(job_id: JobId, asked: CloneIn, caller: Writer, request: Request) -> Response:
        """Builds another dataset from the job's list, elsewhere, perhaps by another recipe."""
        return await _made(clone, request, caller, job_id, asked)

    return routes


async def _made(verb: _Verb[Asked], request: Request, caller: Caller, job_id: str, asked: Asked) -> Response:
    """The job that the verb makes of another one."""
    services = services_of(request)
    made = await verb(services, caller, await find(services, caller, job_id), asked, trace_of(request))
    job, held = await find_held(services, caller, str(made.job.id))
    shown = await show(request, job, held)
    answer = tagged(shown, job.version)
    answer.status_code = 202 if made.is_new else 200
    answer.headers["Location"] = shown.urls.self
    return answer
