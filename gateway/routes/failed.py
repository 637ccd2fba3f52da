"""Dead letters: failed chunks are looked at, redriven, or dropped for good. For administrators."""

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.convertors import StringConvertor, register_url_convertor

from gateway import cursors
from gateway.auth import Admin
from gateway.idempotency import IdempotentRoute
from gateway.openapi import problems
from gateway.paging import tell_next
from gateway.problems import ApiError, Code
from gateway.schemas import (
    JOB_ID,
    ChunkEventOut,
    DecidedOut,
    FailedChoice,
    FailedChunkDetail,
    FailedChunkOut,
    FailedChunkPage,
    RedriveIn,
)
from gateway.services import services_of
from shared.db import failed
from shared.db.failed import Choice
from shared.db.session import Connection, transaction

routes = APIRouter(prefix="/v1/admin/failed-chunks", tags=["admin"], route_class=IdempotentRoute)

log = structlog.get_logger("gateway")


class _Digits(StringConvertor):
    """An id in a path; `redrive` and `drop`, which are only posted to, would pass for one."""

    regex = "-?[0-9]+"


register_url_convertor("digits", _Digits())


@routes.get("", operation_id="listFailedChunks", responses=problems())
async def list_failed_chunks(
    caller: Admin,
    request: Request,
    response: Response,
    job: Annotated[str | None, Query(pattern=JOB_ID, description="Only those of this job")] = None,
    code: Annotated[str | None, Query(max_length=100, description="Only those with this error")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> FailedChunkPage:
    """Failed chunks about which nobody has decided yet, newest first."""
    choice, before = _choice(FailedChoice.model_construct(job=job, code=code)), cursors.id_place(cursor)
    async with transaction(services_of(request).resources.engine) as connection:
        found = await failed.newest(connection, choice, before=before, limit=limit + 1)
    page, has_more = found[:limit], len(found) > limit
    return FailedChunkPage(
        data=[FailedChunkOut.model_validate(chunk, from_attributes=True) for chunk in page],
        has_more=has_more,
        next_cursor=tell_next(request, response, cursors.of_id(page[-1].id) if has_more else None),
    )


@routes.get("/{chunk_id:digits}", operation_id="getFailedChunk", responses=problems(Code.NOT_FOUND))
async def get_failed_chunk(
    chunk_id: Annotated[int, Path(ge=1, lt=2**63, description="The chunk's id")], caller: Admin, request: Request
) -> FailedChunkDetail:
    """A chunk and its history, also when it was redriven or dropped meanwhile."""
    async with transaction(services_of(request).resources.engine) as connection:
        chunk = await failed.get(connection, chunk_id)
        events = await failed.history(connection, chunk_id)
    if chunk is None:
        raise _unknown()
    shown = FailedChunkOut.model_validate(chunk, from_attributes=True)
    history = [ChunkEventOut.model_validate(event, from_attributes=True) for event in events]
    return FailedChunkDetail(**shown.model_dump(), history=history)


_DECISIONS = problems(Code.NOT_FOUND, Code.CHUNK_NOT_FAILED, Code.REDRIVEN_TOO_OFTEN)


@routes.post("/redrive", operation_id="redriveChunks", status_code=202, responses=_DECISIONS)
async def redrive_chunks(asked: RedriveIn, caller: Admin, request: Request) -> DecidedOut:
    """Tries failed chunks again from their beginning; a job of theirs that had ended runs again until they end."""
    choice = _choice(asked)
    async with transaction(services_of(request).resources.engine) as connection:
        redriven = await failed.ask_redrive(connection, choice, force=asked.force)
        passed_over = await failed.count_open(connection, choice)
        if not redriven and choice.chunk is not None:
            raise await _refusal(connection, choice.chunk)
    log.info("redrive_asked", chunks=redriven, passed_over=passed_over, key=caller.key_id)
    return DecidedOut(chunks=redriven, passed_over=passed_over)


@routes.post("/drop", operation_id="dropChunks", responses=problems(Code.NOT_FOUND, Code.CHUNK_NOT_FAILED))
async def drop_chunks(asked: FailedChoice, caller: Admin, request: Request) -> DecidedOut:
    """Accepts that failed chunks are lost: they stay failed, and nobody is alerted to them any more."""
    choice = _choice(asked)
    async with transaction(services_of(request).resources.engine) as connection:
        dropped = await failed.drop(connection, choice)
        if not dropped and choice.chunk is not None:
            raise await _refusal(connection, choice.chunk)
    log.info("chunks_dropped", chunks=dropped, key=caller.key_id)
    return DecidedOut(chunks=dropped, passed_over=0)


async def _refusal(connection: Connection, chunk_id: int) -> ApiError:
    """Why nothing could be decided about that chunk."""
    if await failed.get(connection, chunk_id) is None:
        return _unknown()
    if await failed.count_open(connection, Choice(chunk=chunk_id)):
        return ApiError(
            Code.REDRIVEN_TOO_OFTEN, "the chunk failed again after each redrive; look at its history, then insist"
        )
    return ApiError(
        Code.CHUNK_NOT_FAILED,
        "the chunk is not failed, or is redriven or dropped already, or its job was cancelled; look at it",
    )


def _choice(asked: FailedChoice) -> Choice:
    return Choice(chunk=asked.chunk, job=None if asked.job is None else UUID(asked.job), code=asked.code)


def _unknown() -> ApiError:
    return ApiError(Code.NOT_FOUND, "there is no chunk of that id; look at the list of failed ones")
