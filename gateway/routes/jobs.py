"""Jobs: submit, list, look, cancel, pause, resume."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from gateway import cursors
from gateway.auth import Caller, Reader, Writer
from gateway.idempotency import IdempotentRoute
from gateway.middleware import trace_of
from gateway.openapi import problems
from gateway.problems import ApiError, Code, not_found
from gateway.schemas import JobIn, JobOut, JobPage
from gateway.services import Services, services_of
from gateway.settings import GatewaySettings
from gateway.submit import submit
from gateway.view import view
from gateway.watch import read_live
from shared.db import jobs
from shared.db.jobs import JobRow
from shared.db.session import transaction
from shared.pipeline import JobState

JobId = Annotated[str, Path(description="The job's id", json_schema_extra={"format": "uuid"})]

_SUBMIT_PROBLEMS = problems(
    Code.BODY_TOO_LARGE,
    Code.BAD_SOURCE,
    Code.BAD_DESTINATION,
    Code.DESTINATION_REFUSED,
    Code.DESTINATION_TAKEN,
    Code.DATASET_STATE_GONE,
    Code.DESTINATION_NOT_EMPTY,
    Code.DESTINATION_LOST,
    Code.STORE_UNAVAILABLE,
)


def router(settings: GatewaySettings) -> APIRouter:
    """The routes of jobs."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=IdempotentRoute)

    @routes.post(
        "",
        operation_id="submitJob",
        status_code=202,
        max_body_size=settings.max_job_bytes,
        responses={
            200: {"model": JobOut, "description": "The same request was made before; this is its job"},
            **_SUBMIT_PROBLEMS,
        },
    )
    async def submit_job(asked: JobIn, caller: Writer, request: Request, response: Response) -> JobOut:
        """Asks for a dataset. The same destination, list and recipe give the job that they gave before."""
        submitted = await submit(services_of(request), caller, asked, trace_of(request))
        shown = await show(request, submitted.job)
        response.status_code = 202 if submitted.is_new else 200
        response.headers["Location"] = shown.urls.self
        return shown

    @routes.get("", operation_id="listJobs", responses=problems())
    async def list_jobs(
        caller: Reader,
        request: Request,
        state: Annotated[JobState | None, Query(description="Only jobs in this state")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
    ) -> JobPage:
        """The caller's jobs, newest first."""
        before = cursors.job_place(cursor)
        async with transaction(services_of(request).resources.engine) as connection:
            found = await jobs.newest(connection, caller.tenant_id, state=state, before=before, limit=limit + 1)
            held = await jobs.in_flight(connection, [row.id for row in found])
        page = found[:limit]
        has_more = len(found) > limit
        shown = [
            view(row, [chunk for chunk in held if chunk.job_id == row.id], {}, base_url=base_url(request))
            for row in page
        ]
        following = cursors.of_job(page[-1].created_at, page[-1].id) if has_more else None
        return JobPage(data=shown, has_more=has_more, next_cursor=following)

    @routes.get("/{job_id}", operation_id="getJob", responses=problems(Code.NOT_FOUND))
    async def get_job(job_id: JobId, caller: Reader, request: Request) -> JobOut:
        """One job with its counts and progress."""
        return await show(request, await find(services_of(request), caller, job_id))

    _add_moves(routes)
    return routes


def _add_moves(routes: APIRouter) -> None:
    may_refuse = problems(Code.NOT_FOUND, Code.JOB_FINISHED, Code.JOB_CANCELLING)

    @routes.post("/{job_id}/cancel", operation_id="cancelJob", responses=may_refuse)
    async def cancel_job(job_id: JobId, caller: Writer, request: Request) -> JobOut:
        """Withdraws a job. What is stored stays; what is open is not fetched any more. May be repeated."""
        return await _moved(request, caller, job_id, jobs.cancel)

    @routes.post("/{job_id}/pause", operation_id="pauseJob", responses=may_refuse)
    async def pause_job(job_id: JobId, caller: Writer, request: Request) -> JobOut:
        """Halts a job; chunks in flight come to their end. May be repeated."""
        return await _moved(request, caller, job_id, jobs.pause)

    @routes.post("/{job_id}/resume", operation_id="resumeJob", responses=may_refuse)
    async def resume_job(job_id: JobId, caller: Writer, request: Request) -> JobOut:
        """Lets a paused job go on where it stood. May be repeated."""
        return await _moved(request, caller, job_id, jobs.resume)


async def find(services: Services, caller: Caller, job_id: str) -> JobRow:
    """A job of the caller's. Raises the same ApiError for what never was and for what is another tenant's."""
    try:
        wanted = UUID(job_id)
    except ValueError:
        raise not_found() from None
    async with transaction(services.resources.engine) as connection:
        job = await jobs.get(connection, caller.tenant_id, wanted)
    if job is None:
        raise not_found()
    return job


async def show(request: Request, job: JobRow) -> JobOut:
    """The job with what is in flight."""
    resources = services_of(request).resources
    if job.is_final:
        return view(job, [], {}, base_url=base_url(request))
    async with transaction(resources.engine) as connection:
        held = await jobs.in_flight(connection, [job.id])
    live = await read_live(resources, job.id) if held else {}
    return view(job, held, live, base_url=base_url(request))


def base_url(request: Request) -> str:
    """How the client reaches this gateway."""
    settings = services_of(request).settings
    return (settings.public_url or str(request.base_url)).rstrip("/")


async def _moved(request: Request, caller: Caller, job_id: str, move: Callable[..., Awaitable[bool]]) -> JobOut:
    services = services_of(request)
    before = await find(services, caller, job_id)
    async with transaction(services.resources.engine) as connection:
        has_moved = await move(connection, caller.tenant_id, before.id)
    job = await find(services, caller, job_id)
    if not has_moved:
        _check_idle(job, move)
    return await show(request, job)


def _check_idle(job: JobRow, move: Callable[..., Awaitable[bool]]) -> None:
    """Repeating a move is no error; asking an ended job to move is."""
    if job.state is JobState.CANCELLED and move is jobs.cancel:
        return
    if job.is_final:
        raise ApiError(Code.JOB_FINISHED, f"the job has ended ({job.state}); there is nothing left to move")
    if job.state is JobState.CANCELLING and move is not jobs.cancel:
        raise ApiError(Code.JOB_CANCELLING, "the job is being cancelled; wait until it has ended")
