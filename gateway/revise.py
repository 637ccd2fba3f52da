"""How a dataset gets a further revision: more rows, rejected rows once more, or accepted ones if they have changed.

    destination still allowed, there, writable? ─▶ list readable? into the spool ─▶ COMMIT the job

The dataset's own row is locked for the commit, so that of two requests at once one makes the job.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from gateway.auth import Caller
from gateway.destinations import permitted
from gateway.problems import ApiError, Code, not_found
from gateway.quotas import check_fits, check_room
from gateway.schemas import AppendIn, ListOptions, RefreshIn, RetryIn
from gateway.services import Services
from gateway.sources import check_list, local_list, store_list
from gateway.submit import Submitted, look, opened, writable
from shared.db import jobs, revisions
from shared.db.jobs import JobRow
from shared.db.revisions import Added, NewRevision
from shared.db.session import Connection, transaction
from shared.papers import MANIFEST_KEY
from shared.pipeline import JobKind
from shared.reasons import ELSEWHERE, REASONS, Reason
from shared.trace import Trace

log = structlog.get_logger(__name__)


async def append(services: Services, caller: Caller, job: JobRow, asked: AppendIn, trace: Trace) -> Submitted:
    """Adds the rows of another list to the job's dataset. Raises ApiError and errors of the tree."""
    check_fits(services.settings, caller.tenant, len(asked.source.rows or ()))
    await _check_place(services, job)
    before = await _source(services, job)
    options = ListOptions(**{name: before[name] for name in ("url_col", "caption_col", "save_columns")})
    options = options.model_copy(
        update=asked.model_dump(include={"format", "url_col", "caption_col"}, exclude_none=True)
    )
    async with local_list(services, caller.tenant_id, asked.source) as found:
        chosen = await asyncio.to_thread(check_list, found.path, options)
        options = options.model_copy(update={"format": chosen.value})
        if not found.is_spooled:
            await store_list(services.resources.spool, found.spool_key, found.path, found.sha256)
        source = {"key": found.spool_key, "digest": found.sha256, **options.model_dump(mode="json")}
        new = _new(caller.tenant_id, job, JobKind.APPEND, source, trace, name=asked.name)
        return await _added(services, caller, job, new)


async def retry(services: Services, caller: Caller, job: JobRow, asked: RetryIn, trace: Trace) -> Submitted:
    """Takes rejected rows of the job's dataset again. Raises ApiError and errors of the tree."""
    await _check_place(services, job)
    source = await _retry_source(services, job, asked.reasons)
    new = _new(caller.tenant_id, job, JobKind.RETRY, source, trace)
    return await _added(services, caller, job, new)


async def refresh(services: Services, caller: Caller, job: JobRow, asked: RefreshIn, trace: Trace) -> Submitted:
    """Looks whether the pictures of the job's dataset are still the same. Raises ApiError and errors of the tree."""
    await _check_place(services, job)
    source = await _refresh_source(services, job, asked)
    return await _added(services, caller, job, _new(caller.tenant_id, job, JobKind.REFRESH, source, trace))


async def renewal(services: Services, tenant_id: UUID, job: JobRow, asked: RetryIn | RefreshIn) -> NewRevision:
    """What the calendar is to ask for periodically. Raises ApiError and errors of the tree."""
    await _check_place(services, job)
    if isinstance(asked, RefreshIn):
        return _new(tenant_id, job, JobKind.REFRESH, await _refresh_source(services, job, asked), None)
    return _new(tenant_id, job, JobKind.RETRY, await _retry_source(services, job, asked.reasons), None)


async def _retry_source(services: Services, job: JobRow, asked: Sequence[Reason] | None) -> dict[str, Any]:
    reasons = sorted(set(asked or (reason for reason, about in REASONS.items() if about.is_retryable)) - ELSEWHERE)
    return {**await _list_options(services, job), "reasons": [str(reason) for reason in reasons]}


async def _refresh_source(services: Services, job: JobRow, asked: RefreshIn) -> dict[str, Any]:
    return {**await _list_options(services, job), "gone": asked.gone}


async def _list_options(services: Services, job: JobRow) -> dict[str, Any]:
    """Of a job that takes rows of the dataset again: what later jobs of it want to know of the list."""
    before = await _source(services, job)
    return {**{name: before[name] for name in ListOptions.model_fields}, "digest": before["digest"]}


def _new(
    tenant_id: UUID,
    job: JobRow,
    kind: JobKind,
    source: Mapping[str, Any],
    trace: Trace | None,
    *,
    name: str | None = None,
) -> NewRevision:
    parts = [kind, str(job.dataset_id), source]
    return NewRevision(
        tenant_id=tenant_id,
        dataset_id=job.dataset_id,
        kind=kind,
        name=job.name if name is None else name,
        recipe=job.recipe,
        source=source,
        digest=hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(),
        traceparent=trace.stored() if trace else None,
    )


async def _added(services: Services, caller: Caller, job: JobRow, new: NewRevision) -> Submitted:
    async with transaction(services.resources.engine) as connection:
        room = partial(check_room, connection, services.settings, caller.tenant)
        added = await revisions.add(connection, new, if_new=room)
        if added is None:
            raise not_found()
        if added.is_busy:
            raise _busy(added)
        if added.is_new and new.kind is not JobKind.APPEND:
            await _check_left(connection, new)
            await revisions.take_over_failed(connection, new)
        made = await jobs.get(connection, new.tenant_id, added.job_id)
    assert made is not None, "the dataset's row was locked"
    log.info("revision_added", job=str(made.id), kind=new.kind, is_new=added.is_new)
    return Submitted(job=made, is_new=added.is_new)


async def _check_left(connection: Connection, new: NewRevision) -> None:
    """Raises ApiError when no row of the dataset would be taken again."""
    if await revisions.is_left(connection, new):
        return
    if new.kind is JobKind.REFRESH:
        raise ApiError(Code.NOTHING_TO_RETRY, "the dataset holds no picture that could be refreshed")
    raise ApiError(Code.NOTHING_TO_RETRY, "no row of the dataset is rejected for one of these reasons")


def _busy(added: Added) -> ApiError:
    return ApiError(
        Code.DATASET_BUSY, f"job {added.job_id} is changing this dataset; wait until it has ended, or cancel it"
    )


async def _source(services: Services, job: JobRow) -> Mapping[str, Any]:
    async with transaction(services.resources.engine) as connection:
        return await jobs.source_of(connection, job.id)


async def _check_place(services: Services, job: JobRow) -> None:
    """Raises ApiError when the dataset is not at its destination any more, or nothing may be added there."""
    place = await permitted(services.settings, services.resources, job.destination, job.endpoint)
    async with opened(services, place) as store:
        here = await look(store)
        if not here.has_dataset:
            raise ApiError(
                Code.DESTINATION_LOST,
                f"the dataset is gone from its destination (it has no {MANIFEST_KEY}); bring it back, or build anew",
            )
        await writable(store)
