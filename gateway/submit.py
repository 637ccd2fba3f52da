"""How a request becomes a job. The order is the point: nothing half-done is left behind, whatever breaks.

    list readable? ─▶ destination allowed? free? writable? ─▶ list into the spool ─▶ COMMIT dataset and job ─▶ papers

Until the commit only the spool is written, where a list lies under its own content: a repeated request finds it
there. After the commit the job exists and the same request returns it. `dataset.json` comes last: were it first,
a crash would leave a dataset that no database knows, and the retry would be refused. If it cannot be written
the job stands all the same; a repeated request or the scheduler's finish writes it.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog

from gateway.auth import Caller
from gateway.destinations import Standing, permitted, standing
from gateway.problems import ApiError, Code
from gateway.quotas import check_fits, check_room
from gateway.schemas import CloneIn, DestinationIn, JobIn, ListOptions
from gateway.services import Services
from gateway.sources import LocalList, check_list, list_of_job, local_list, store_list
from shared.db import jobs, tenancy
from shared.db.jobs import JobRow, NewJob, Occupant
from shared.db.session import Engine, transaction
from shared.errors import PermanentError, StoreRefused, TransientError
from shared.failpoints import reach
from shared.manifest import ListFormat
from shared.papers import MANIFEST_KEY, MANIFEST_TYPE, Dataset, PaperState, manifest
from shared.pipeline import FINAL_JOB_STATES
from shared.recipe import Recipe
from shared.storage import Destination, ObjectStore, check_writable
from shared.trace import Trace
from shared.version import VERSION

log = structlog.get_logger(__name__)
#: Races at one destination are decided by the database; whoever loses looks again.
_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """The job of a request, and whether the request made it."""

    job: JobRow
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for, but for the list itself."""

    name: str
    options: ListOptions
    destination: DestinationIn
    recipe: Recipe


async def submit(services: Services, caller: Caller, asked: JobIn, trace: Trace) -> Submitted:
    """Accepts a request, or finds the job that the same request made before. Raises ApiError and errors of the tree."""
    check_fits(services.settings, caller.tenant, len(asked.source.rows or ()))
    wish = Wish(name=asked.name, options=asked.list, destination=asked.destination, recipe=asked.recipe)
    place = await _permitted(services, wish)
    async with local_list(services, caller.tenant_id, asked.source) as found:
        return await _accept(services, caller, wish, place, found, trace)


async def clone(services: Services, caller: Caller, job: JobRow, asked: CloneIn, trace: Trace) -> Submitted:
    """Accepts a request for another dataset from the job's list. Raises ApiError and errors of the tree."""
    async with transaction(services.resources.engine) as connection:
        source = await jobs.source_of(connection, job.id)
    wish = Wish(
        name=job.name if asked.name is None else asked.name,
        options=ListOptions(**{name: source[name] for name in ListOptions.model_fields}),
        destination=asked.destination,
        recipe=Recipe.model_validate(job.recipe) if asked.recipe is None else asked.recipe,
    )
    place = await _permitted(services, wish)
    async with list_of_job(services.resources, source) as found:
        return await _accept(services, caller, wish, place, found, trace)


async def _permitted(services: Services, wish: Wish) -> Destination:
    return await permitted(services.settings, services.resources, wish.destination.url, wish.destination.endpoint)


async def _accept(
    services: Services, caller: Caller, wish: Wish, place: Destination, found: LocalList, trace: Trace
) -> Submitted:
    chosen = await asyncio.to_thread(check_list, found.path, wish.options)
    new = _new_job(caller, wish, place, found, chosen, trace)
    async with opened(services, place) as store:
        for _ in range(_ATTEMPTS):
            if submitted := await _settle(services, caller, new, store, found):
                log.info("job_submitted", job=str(submitted.job.id), is_new=submitted.is_new)
                await _leave_papers(submitted.job, found.sha256, store)
                return submitted
    raise ApiError(Code.DESTINATION_TAKEN, "others are submitting jobs for this destination; try again in a moment")


def run_digest(place: Destination, list_sha256: str, options: ListOptions, recipe: Recipe) -> str:
    """What makes two requests the same run: destination, content and reading of the list, recipe (sha256, hex)."""
    parts = [str(place), place.endpoint, list_sha256, options.model_dump(mode="json"), recipe.digest()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _new_job(
    caller: Caller, wish: Wish, place: Destination, found: LocalList, chosen: ListFormat, trace: Trace
) -> NewJob:
    options = wish.options.model_copy(update={"format": chosen.value})
    return NewJob(
        tenant_id=caller.tenant_id,
        name=wish.name,
        destination=str(place),
        endpoint=place.endpoint,
        recipe=wish.recipe.model_dump(mode="json"),
        source={"key": found.spool_key, "digest": found.sha256, **options.model_dump(mode="json")},
        digest=run_digest(place, found.sha256, options, wish.recipe),
        traceparent=trace.stored(),
    )


async def _settle(
    services: Services, caller: Caller, new: NewJob, store: ObjectStore, found: LocalList
) -> Submitted | None:
    """One attempt: the job made, or found; None when the destination changed hands meanwhile."""
    engine = services.resources.engine
    known = await _occupant(engine, new)
    if known is not None and known.is_doomed:
        raise ApiError(Code.DESTINATION_TAKEN, "a dataset is being deleted there; try again when that is done")
    here = await look(store)
    if known is not None and not _is_abandoned(new, known, here):
        return Submitted(job=await _job(services, new.tenant_id, _same_run(new, known, here)), is_new=False)
    if known is None:
        _check_free(here)
    await writable(store)
    if not found.is_spooled:
        await store_list(services.resources.spool, found.spool_key, found.path, found.sha256)
    async with transaction(engine) as connection:
        await check_room(connection, services.settings, caller.tenant)
        if known is not None and not await jobs.forget_dataset(connection, known.dataset_id):
            return None
        job_id = await jobs.create(connection, new)
    reach("gateway.committed")
    return None if job_id is None else Submitted(job=await _job(services, new.tenant_id, job_id), is_new=True)


async def _occupant(engine: Engine, new: NewJob) -> Occupant | None:
    """A destination holds one dataset, so another tenant's must be known too; no answer tells of it."""
    with tenancy.seeing_everyone():
        async with transaction(engine) as connection:
            return await jobs.occupant(connection, new.destination, new.endpoint, digest=new.digest)


def _is_abandoned(new: NewJob, known: Occupant, here: Standing) -> bool:
    """Whether the tenant emptied the destination after its job had ended: then it is free again."""
    return known.tenant_id == new.tenant_id and known.state in FINAL_JOB_STATES and here.is_free


def _same_run(new: NewJob, known: Occupant, here: Standing) -> UUID:
    """The job that the same request made before. Raises ApiError when another dataset has the place."""
    if known.tenant_id != new.tenant_id:
        raise ApiError(Code.DESTINATION_TAKEN, "the destination holds another dataset; choose another one")
    if known.digest != new.digest:
        raise ApiError(
            Code.DESTINATION_TAKEN,
            f"the destination holds the dataset of job {known.job_id}, made from another list or with another recipe;"
            " choose another destination, or delete that dataset once its job has ended",
        )
    if known.has_results and known.state not in FINAL_JOB_STATES and here.is_free:
        raise ApiError(
            Code.DESTINATION_LOST,
            f"what job {known.job_id} had stored is not at the destination any more;"
            " bring it back, or cancel the job and start again",
        )
    return known.job_id


def _check_free(here: Standing) -> None:
    if here.has_dataset:
        raise ApiError(
            Code.DATASET_STATE_GONE,
            f"the destination holds a PixCrawler dataset (it has {MANIFEST_KEY}) that this installation does not know:"
            " its state is gone or elsewhere; choose another destination, or delete this one to build it anew",
        )
    if here.occupied_by:
        raise ApiError(
            Code.DESTINATION_NOT_EMPTY,
            f"the destination already holds {here.occupied_by}, a name that the dataset needs;"
            " choose an empty destination",
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """What a store will not do is the client's to mend."""
    try:
        yield
    except StoreRefused as error:
        raise ApiError(Code.DESTINATION_REFUSED, str(error)) from error


@asynccontextmanager
async def opened(services: Services, place: Destination) -> AsyncIterator[ObjectStore]:
    """The store of a destination. Raises ApiError when it refuses, StoreUnavailable."""
    async with AsyncExitStack() as use:
        with _refusals():
            store = await use.enter_async_context(services.resources.stores.at(str(place), place.endpoint))
        yield store


async def look(store: ObjectStore) -> Standing:
    """What a destination holds. Raises ApiError when it refuses, StoreUnavailable."""
    with _refusals():
        return await standing(store)


async def writable(store: ObjectStore) -> None:
    """Raises ApiError when the store lets nothing be written, StoreUnavailable."""
    with _refusals():
        await check_writable(store)


async def _job(services: Services, tenant_id: UUID, job_id: UUID) -> JobRow:
    async with transaction(services.resources.engine) as connection:
        job = await jobs.get(connection, tenant_id, job_id)
    if job is None:
        raise ApiError(Code.NOT_FOUND, "the job was removed meanwhile; try again")
    return job


async def _leave_papers(job: JobRow, list_digest: str, store: ObjectStore) -> None:
    """Makes the destination recognisable should the database be lost. What is there stays."""
    if job.is_final:
        return
    body = manifest(
        Dataset(
            dataset_id=job.dataset_id,
            job_id=job.id,
            revision=job.revision,
            name=job.name,
            state=PaperState.BUILDING,
            recipe=Recipe.model_validate(job.recipe),
            list_digest=list_digest,
            software_version=VERSION,
        )
    )
    try:
        await store.create(MANIFEST_KEY, body, content_type=MANIFEST_TYPE, sha256=hashlib.sha256(body).hexdigest())
    except (TransientError, PermanentError) as error:
        log.warning("papers_not_written", job=str(job.id), error=str(error))
