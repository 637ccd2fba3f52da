"""Jobs: submit, list, look, cancel, pause, resume."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AwareDatetime

from gateway import cursors
from gateway.addresses import base_url
from gateway.auth import Caller, Reader, Writer
from gateway.conditions import ETAG, NOT_MODIFIED, IfNoneMatch, KnownVersions, check_known, tagged
from gateway.idempotency import IdempotentRoute
from gateway.middleware import trace_of
from gateway.openapi import Responses, header, problems
from gateway.paging import tell_next
from gateway.preferences import APPLIED, Prefer, wait_for_end
from gateway.problems import ApiError, Code, not_found
from gateway.schemas import JOB_ID, DeletionOut, Destination, JobIn, JobOut, JobPage
from gateway.services import Services, services_of
from gateway.settings import GatewaySettings
from gateway.submit import submit
from gateway.watch import complete
from shared.db import deletions, jobs
from shared.db.jobs import InFlight, JobRow, Wanted
from shared.db.session import Connection, transaction
from shared.pipeline import JobKind, JobState

log = structlog.get_logger("gateway")

JobId = Annotated[str, Path(description="The job's id", json_schema_extra={"format": "uuid"})]

#: What may be wrong with a request for a dataset.
SUBMIT_CODES = (
    Code.QUOTA_EXCEEDED,
    Code.OVER_QUOTA,
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
SUBMITTED = {**ETAG, **APPLIED, "Location": header("Where the job is", "https://gateway/v1/jobs/6d0dd1a5…")}


def router(settings: GatewaySettings) -> APIRouter:
    """The routes of jobs."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=IdempotentRoute)

    @routes.post(
        "",
        operation_id="submitJob",
        status_code=202,
        response_model=JobOut,
        max_body_size=settings.max_job_bytes,
        responses={
            200: {
                "model": JobOut,
                "description": "The same request was made before and this is its job, or it ended while you waited",
                "headers": SUBMITTED,
            },
            202: {"headers": SUBMITTED},
            **problems(*SUBMIT_CODES),
        },
    )
    async def submit_job(
        asked: JobIn, caller: Writer, request: Request, response: Response, prefer: Prefer = None
    ) -> Response:
        """Asks for a dataset. The same destination, list and recipe give the job that they gave before."""
        submitted = await submit(services_of(request), caller, asked, trace_of(request))
        job, held = submitted.job, list[InFlight]()
        if await wait_for_end(request, response, job.id, prefer) or not submitted.is_new:
            job, held = await find_held(services_of(request), caller, str(job.id))
        shown = await show(request, job, held)
        answer = tagged(shown, job.version)
        answer.status_code = 202 if submitted.is_new and not job.is_final else 200
        answer.headers["Location"] = shown.urls.self
        answer.headers.update(response.headers)
        return answer

    @routes.get("", operation_id="listJobs", responses=problems())
    async def list_jobs(
        caller: Reader,
        request: Request,
        response: Response,
        state: Annotated[JobState | None, Query(description="Only jobs in this state")] = None,
        kind: Annotated[JobKind | None, Query(description="Only jobs of this kind")] = None,
        dataset: Annotated[str | None, Query(pattern=JOB_ID, description="Only jobs of this dataset")] = None,
        created_from: Annotated[AwareDatetime | None, Query(description="Only jobs made then or later")] = None,
        created_before: Annotated[AwareDatetime | None, Query(description="Only jobs made before then")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
    ) -> JobPage:
        """The caller's jobs, newest first."""
        before = cursors.job_place(cursor)
        wanted = Wanted(
            state=state,
            kind=kind,
            dataset=None if dataset is None else UUID(dataset),
            created_from=created_from,
            created_before=created_before,
        )
        resources = services_of(request).resources
        async with transaction(resources.engine) as connection:
            found = await jobs.newest(connection, caller.tenant_id, wanted, before=before, limit=limit + 1)
            page, has_more = found[:limit], len(found) > limit
            held = await jobs.in_flight(connection, [row.id for row in page])
        shown = [each.view(base_url(request)) for each in await complete(resources, page, held)]
        following = cursors.of_job(page[-1].created_at, page[-1].id) if has_more else None
        return JobPage(data=shown, has_more=has_more, next_cursor=tell_next(request, response, following))

    @routes.get(
        "/{job_id}",
        operation_id="getJob",
        response_model=JobOut,
        responses={200: {"headers": ETAG | APPLIED}, **NOT_MODIFIED, **problems(Code.NOT_FOUND)},
    )
    async def get_job(
        job_id: JobId,
        caller: Reader,
        request: Request,
        response: Response,
        if_none_match: IfNoneMatch = None,
        prefer: Prefer = None,
    ) -> Response:
        """One job with its counts and progress."""
        job, held = await find_held(services_of(request), caller, job_id)
        if not job.is_final and await wait_for_end(request, response, job.id, prefer):
            job, held = await find_held(services_of(request), caller, job_id)
        answer = tagged(await show(request, job, held), job.version, if_none_match)
        answer.headers.update(response.headers)
        return answer

    @routes.delete(
        "/{job_id}",
        operation_id="deleteJob",
        status_code=202,
        responses=problems(Code.NOT_FOUND, Code.DATASET_BUSY),
    )
    async def delete_job(job_id: JobId, caller: Writer, request: Request) -> DeletionOut:
        """Deletes the job's dataset: its objects and indexes at the destination, and all its jobs. For good.

        The jobs are gone at once, the objects bit by bit; until the last is, the destination stays taken.
        """
        services = services_of(request)
        job = await find(services, caller, job_id)
        async with transaction(services.resources.engine) as connection:
            busy = await deletions.ask(connection, caller.tenant_id, job.dataset_id)
        if busy is not None:
            raise ApiError(Code.DATASET_BUSY, f"job {busy} has not ended; cancel it first, and wait until it has")
        log.info("deletion_asked", dataset=str(job.dataset_id), key=caller.key_id)
        return DeletionOut(
            dataset_id=job.dataset_id, destination=Destination(url=job.destination, endpoint=job.endpoint)
        )

    _add_moves(routes)
    return routes


def _add_moves(routes: APIRouter) -> None:
    codes = (Code.NOT_FOUND, Code.JOB_FINISHED, Code.JOB_CANCELLING, Code.PRECONDITION_FAILED)
    may_refuse: Responses = {200: {"headers": ETAG}, **problems(*codes)}

    @routes.post("/{job_id}/cancel", operation_id="cancelJob", response_model=JobOut, responses=may_refuse)
    async def cancel_job(job_id: JobId, caller: Writer, request: Request, known: KnownVersions) -> Response:
        """Withdraws a job. What is stored stays; what is open is not fetched any more. May be repeated."""
        return await _moved(request, caller, job_id, jobs.cancel, known)

    @routes.post("/{job_id}/pause", operation_id="pauseJob", response_model=JobOut, responses=may_refuse)
    async def pause_job(job_id: JobId, caller: Writer, request: Request, known: KnownVersions) -> Response:
        """Halts a job; chunks in flight come to their end. May be repeated."""
        return await _moved(request, caller, job_id, jobs.pause, known)

    @routes.post("/{job_id}/resume", operation_id="resumeJob", response_model=JobOut, responses=may_refuse)
    async def resume_job(job_id: JobId, caller: Writer, request: Request, known: KnownVersions) -> Response:
        """Lets a paused job go on where it stood. May be repeated."""
        return await _moved(request, caller, job_id, jobs.resume, known)


async def find(services: Services, caller: Caller, job_id: str) -> JobRow:
    """A job of the caller's. Raises the same ApiError for what never was and for what is another tenant's."""
    async with transaction(services.resources.engine) as connection:
        return await _found(connection, caller, job_id)


async def find_held(services: Services, caller: Caller, job_id: str) -> tuple[JobRow, list[InFlight]]:
    """The same, with its chunks in flight: one transaction instead of two."""
    async with transaction(services.resources.engine) as connection:
        job = await _found(connection, caller, job_id)
        return job, [] if job.is_final else await jobs.in_flight(connection, [job.id])


async def _found(connection: Connection, caller: Caller, job_id: str) -> JobRow:
    try:
        job = await jobs.get(connection, caller.tenant_id, UUID(job_id))
    except ValueError:
        raise not_found() from None
    if job is None:
        raise not_found()
    return job


async def show(request: Request, job: JobRow, held: Sequence[InFlight]) -> JobOut:
    """The job with what is in flight."""
    (figures,) = await complete(services_of(request).resources, [job], held)
    return figures.view(base_url(request))


async def _moved(
    request: Request, caller: Caller, job_id: str, move: Callable[..., Awaitable[bool]], known: Collection[int] | None
) -> Response:
    services = services_of(request)
    before = await find(services, caller, job_id)
    async with transaction(services.resources.engine) as connection:
        has_moved = await move(connection, caller.tenant_id, before.id, known)
    job, held = await find_held(services, caller, job_id)
    if not has_moved:
        check_known(job.version, known)
        _check_idle(job, move)
    return tagged(await show(request, job, held), job.version)


def _check_idle(job: JobRow, move: Callable[..., Awaitable[bool]]) -> None:
    """Repeating a move is no error; asking an ended job to move is."""
    if job.state is JobState.CANCELLED and move is jobs.cancel:
        return
    if job.is_final:
        raise ApiError(Code.JOB_FINISHED, f"the job has ended ({job.state}); there is nothing left to move")
    if job.state is JobState.CANCELLING and move is not jobs.cancel:
        raise ApiError(Code.JOB_CANCELLING, "the job is being cancelled; wait until it has ended")
